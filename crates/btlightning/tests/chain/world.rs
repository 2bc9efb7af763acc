//! A chain with one subnet, and who is on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use btlightning::metagraph::{Chain, ChainConfig, MetagraphMonitorConfig, MetagraphWatch, Network};
use btlightning::server::Handler;
use btlightning::{
    CallError, Hotkey, LightningClient, LightningClientConfig, LightningServer, LightningServerConfig, Peer,
    PeerState, QuicAxonInfo, Sr25519Signer,
};
use btlightning_testkit::chain::{self as testkit, AccountId, Neuron, State, Subnet};
use btlightning_testkit::keys;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const NETUID: u16 = 7;

/// After this a test is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// So seldom that no test sees a sync that it did not ask for.
pub(crate) const SELDOM: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ping {
    pub(crate) n: u32,
}

pub(crate) fn signer(name: &str) -> Sr25519Signer {
    Sr25519Signer::from_seed(keys::seed(name))
}

pub(crate) fn hotkey(name: &str) -> Hotkey {
    signer(name).hotkey()
}

pub(crate) fn account(name: &str) -> AccountId {
    *hotkey(name).as_bytes()
}

/// A registered hotkey that serves nothing and may not validate.
pub(crate) fn neuron(name: &str) -> Neuron {
    Neuron::new(account(name), keys::seed("owner"))
}

pub(crate) fn validator(name: &str, stake: u64) -> Neuron {
    neuron(name).validating(stake)
}

/// A chain whose subnet has these neurons, at uids in their order.
pub(crate) async fn chain_with(neurons: impl IntoIterator<Item = Neuron>) -> testkit::Chain {
    let chain = testkit::Chain::builder().start().await.unwrap();
    chain.update(|state| {
        let subnet = state.add_subnet(NETUID);
        for neuron in neurons {
            subnet.register(neuron);
        }
    });
    chain
}

/// Changes the subnet, in a block of its own.
pub(crate) fn change(chain: &testkit::Chain, change: impl FnOnce(&mut Subnet)) {
    chain.update(|state: &mut State| change(state.subnet(NETUID)));
}

/// The chain as ours asks it.
pub(crate) fn ours(chain: &testkit::Chain) -> Chain {
    Chain::new(ChainConfig::new(&Network::parse(&chain.url()).unwrap())).unwrap()
}

pub(crate) fn watch(chain: &testkit::Chain) -> MetagraphWatch {
    MetagraphWatch::start(ours(chain), NETUID, SELDOM).unwrap()
}

pub(crate) fn subnet_of(chain: &testkit::Chain) -> MetagraphMonitorConfig {
    MetagraphMonitorConfig::new(NETUID, chain.url(), SELDOM)
}

pub(crate) struct Miner {
    pub(crate) hotkey: Hotkey,
    pub(crate) addr: SocketAddr,
    pub(crate) server: Arc<LightningServer>,
    serving: JoinHandle<btlightning::Result<()>>,
}

impl Miner {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, LightningServerConfig::default(), |_| {}).await
    }

    /// One that keeps its TLS key in a file.
    pub(crate) async fn with_key(name: &str, key: &Path) -> Self {
        Self::start_with(name, LightningServerConfig::default(), |server| server.set_tls_key_file(key)).await
    }

    pub(crate) async fn start_with(
        name: &str,
        config: LightningServerConfig,
        prepare: impl FnOnce(&mut LightningServer),
    ) -> Self {
        // The chain takes no axon at 127.0.0.1; every other loopback address is one like another.
        let host = if cfg!(target_os = "linux") { "127.0.0.2" } else { "127.0.0.1" };
        let signer = signer(name);
        let hotkey = signer.hotkey();
        let mut server = LightningServer::with_config(hotkey.to_string(), host.into(), 0, config).unwrap();
        server.set_miner_signer(Box::new(signer));
        server.register("echo", Handler::typed(|_, ping: Ping| async move { Ok::<_, String>(ping) }));
        prepare(&mut server);
        server.start().await.unwrap();
        let (addr, server) = (server.local_addr().unwrap(), Arc::new(server));
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Self { hotkey, addr, server, serving }
    }

    /// The miner as the chain has it once it has announced itself.
    pub(crate) fn neuron(&self) -> Neuron {
        Neuron::new(*self.hotkey.as_bytes(), keys::seed("owner")).serving(self.addr)
    }

    /// The miner as somebody names it by hand.
    pub(crate) fn axon(&self) -> QuicAxonInfo {
        QuicAxonInfo::new(self.hotkey.to_string(), self.addr.ip().to_string(), self.addr.port(), 4)
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await.unwrap();
        timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
    }
}

/// A validator that is not connected to anything yet.
pub(crate) fn client(name: &str, config: LightningClientConfig) -> LightningClient {
    let signer = signer(name);
    let mut client = LightningClient::with_config(signer.hotkey().to_string(), config).unwrap();
    client.set_signer(Box::new(signer));
    client
}

/// A validator that follows the subnet, once it is connected.
pub(crate) async fn following(name: &str, metagraph: MetagraphMonitorConfig) -> LightningClient {
    let config = LightningClientConfig {
        metagraph: Some(metagraph),
        connect_timeout: Duration::from_secs(2),
        ..Default::default()
    };
    let mut client = client(name, config);
    within(client.initialize_connections(vec![])).await.unwrap();
    client
}

pub(crate) async fn ask(client: &LightningClient, miner: Hotkey) -> Result<Ping, CallError> {
    let reply = within(client.call::<_, Ping>(miner, "echo", &Ping { n: 7 })).await?;
    Ok(reply.value)
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("stuck")
}

/// Waits until `holds` of the miners' states.
pub(crate) async fn until(client: &LightningClient, holds: impl Fn(&[Peer]) -> bool) {
    let mut changes = client.peer_changes();
    within(async {
        while !holds(&client.peers()) {
            // One that lagged looks again as well.
            let _ = changes.next().await.expect("the client is there");
        }
    })
    .await;
}

/// Who is connected, in order.
pub(crate) fn connected(peers: &[Peer]) -> Vec<Hotkey> {
    let mut hotkeys: Vec<_> = peers
        .iter()
        .filter(|peer| matches!(peer.state, PeerState::Connected { .. }))
        .map(|peer| peer.hotkey)
        .collect();
    hotkeys.sort_unstable();
    hotkeys
}

pub(crate) fn sorted(mut hotkeys: Vec<Hotkey>) -> Vec<Hotkey> {
    hotkeys.sort_unstable();
    hotkeys
}
