//! A simulated network with miners and validators on it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use btlightning::server::{Handler, ValidatorPermitResolver};
use btlightning::transport::network::Network;
use btlightning::{
    Hotkey, LightningClient, LightningClientConfig, LightningServer, LightningServerConfig, Peer,
    PeerChanges, PeerState, QuicAxonInfo, Sr25519Signer,
};
use btlightning_proto::identity::Keypair;
use btlightning_testkit::{Link, SimNet, keys};
use quinn::AsyncUdpSocket;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

/// Virtual time after which a test is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);

/// One host's way to the simulated network.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    net: SimNetDebug,
    ip: IpAddr,
}

#[derive(Clone)]
struct SimNetDebug(SimNet);

impl std::fmt::Debug for SimNetDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimNet(seed {})", self.0.seed())
    }
}

impl Network for Host {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if addr.is_ipv4() != self.ip.is_ipv4() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let ip = if addr.ip().is_unspecified() { self.ip } else { addr.ip() };
        Ok(self.net.0.bind(SocketAddr::new(ip, addr.port()))?)
    }

    fn is_simulated(&self) -> bool {
        true
    }
}

/// The network and who is on it.
pub(crate) struct World {
    pub(crate) net: SimNet,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ping {
    pub(crate) n: u32,
}

impl World {
    /// A network with a 10 ms path between any two hosts.
    pub(crate) fn new(seed: u64) -> Self {
        let net = SimNet::new(seed);
        net.set_default_link(Link { delay: Duration::from_millis(10), ..Link::default() });
        Self { net }
    }

    pub(crate) fn host(&self, ip: &str) -> Arc<Host> {
        Arc::new(Host { net: SimNetDebug(self.net.clone()), ip: ip.parse().unwrap() })
    }

    /// A validator at 10.0.0.1 with an endpoint.
    pub(crate) async fn client(&self, config: LightningClientConfig) -> LightningClient {
        self.client_at("validator", "10.0.0.1", config).await
    }

    pub(crate) async fn client_at(
        &self,
        name: &str,
        ip: &str,
        config: LightningClientConfig,
    ) -> LightningClient {
        let mut client =
            LightningClient::with_network(hotkey(name).to_string(), config, self.host(ip)).unwrap();
        client.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed(name))));
        client.create_endpoint().await.unwrap();
        client
    }

    /// A miner at `addr` that echoes pings under `echo`.
    pub(crate) async fn miner(&self, name: &str, addr: &str) -> Miner {
        self.miner_with(name, addr, LightningServerConfig::default()).await
    }

    pub(crate) async fn miner_with(&self, name: &str, addr: &str, config: LightningServerConfig) -> Miner {
        self.start(name, addr, config, |_| {}).await
    }

    /// A miner that knows these validators as permitted.
    pub(crate) async fn miner_with_permits(
        &self,
        name: &str,
        addr: &str,
        config: LightningServerConfig,
        permitted: &[&str],
    ) -> Miner {
        let permitted = Permits(permitted.iter().map(|name| hotkey(name).to_string()).collect());
        self.start(name, addr, config, |server| server.set_validator_permit_resolver(Box::new(permitted)))
            .await
    }

    pub(crate) async fn start(
        &self,
        name: &str,
        addr: &str,
        config: LightningServerConfig,
        prepare: impl FnOnce(&mut LightningServer),
    ) -> Miner {
        let addr: SocketAddr = addr.parse().unwrap();
        let host = self.host(&addr.ip().to_string());
        let mut server = LightningServer::with_network(
            hotkey(name).to_string(),
            addr.ip().to_string(),
            addr.port(),
            config,
            host,
        )
        .unwrap();
        server.set_miner_keypair(keys::seed(name));
        server.register("echo", Handler::typed(|_, ping: Ping| async move { Ok::<_, String>(ping) }));
        prepare(&mut server);
        server.start().await.unwrap();
        let server = Arc::new(server);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await.unwrap() }
        });
        Miner { server, serving, addr, net: self.net.clone(), hotkey: hotkey(name) }
    }
}

struct Permits(HashSet<String>);

impl ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> btlightning::Result<HashSet<String>> {
        Ok(self.0.clone())
    }
}

/// A running miner.
pub(crate) struct Miner {
    pub(crate) server: Arc<LightningServer>,
    pub(crate) hotkey: Hotkey,
    pub(crate) addr: SocketAddr,
    serving: JoinHandle<()>,
    net: SimNet,
}

impl Miner {
    pub(crate) fn axon(&self) -> QuicAxonInfo {
        axon_at(&self.hotkey, self.addr)
    }

    /// Stops in good order and leaves the address.
    pub(crate) async fn stop(self) {
        self.server.stop().await.unwrap();
        within(self.serving).await.unwrap();
        drop(self.server);
        within(self.net.released(self.addr)).await;
    }

    /// Disappears without a word, as a crashed or unplugged host does.
    pub(crate) async fn crash(self) {
        self.net.blackhole(self.addr);
        self.stop_silenced().await;
    }

    async fn stop_silenced(self) {
        let (net, addr) = (self.net.clone(), self.addr);
        self.stop().await;
        net.restore(addr);
    }
}

pub(crate) fn axon_at(hotkey: &Hotkey, addr: SocketAddr) -> QuicAxonInfo {
    QuicAxonInfo::new(hotkey.to_string(), addr.ip().to_string(), addr.port(), 4)
}

pub(crate) fn hotkey(name: &str) -> Hotkey {
    Keypair::from_seed(keys::seed(name)).hotkey()
}

/// Fails the test instead of hanging.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("stuck")
}

/// The first change of `hotkey`'s state that `wanted` accepts.
pub(crate) async fn change(
    changes: &mut PeerChanges,
    hotkey: &Hotkey,
    wanted: impl Fn(&PeerState) -> bool,
) -> Peer {
    within(async {
        loop {
            let peer = changes.next().await.expect("the client is there").expect("no change is missed");
            if peer.hotkey == *hotkey && wanted(&peer.state) {
                return peer;
            }
        }
    })
    .await
}

/// A reconnect policy that is quick to see through.
pub(crate) fn config() -> LightningClientConfig {
    LightningClientConfig { connect_timeout: Duration::from_secs(4), ..Default::default() }
}
