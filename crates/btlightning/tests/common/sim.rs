//! The same miner and validators in virtual time, on a simulated network with 10 ms between them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use btlightning::server::{LightningServer, LightningServerConfigBuilder};
use btlightning::transport::network::Network;
use btlightning_testkit::{Link, SimNet, keys};
use quinn::{AsyncUdpSocket, Endpoint};

use super::{Miner, hotkey};

pub const MINER_IP: &str = "10.0.0.2";
pub const VALIDATOR_IP: &str = "10.0.0.1";

/// A simulated network. Needs a runtime whose time is paused.
#[derive(Clone)]
pub struct World(SimNet);

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(seed {})", self.0.seed())
    }
}

impl Network for World {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(self.0.bind(addr)?)
    }

    fn is_simulated(&self) -> bool {
        true
    }
}

impl World {
    pub fn new() -> Self {
        let net = SimNet::new(1);
        net.set_default_link(Link { delay: Duration::from_millis(10), ..Link::default() });
        Self(net)
    }

    /// What carries the packets.
    pub fn net(&self) -> &SimNet {
        &self.0
    }

    /// A server that has started and does not serve yet.
    pub async fn started(&self, config: LightningServerConfigBuilder) -> LightningServer {
        self.started_at(MINER_IP, config).await
    }

    /// The same on another host.
    pub async fn started_at(&self, ip: &str, config: LightningServerConfigBuilder) -> LightningServer {
        let (name, config) = (hotkey("miner").to_string(), config.build().unwrap());
        let network = Arc::new(self.clone());
        let mut server = LightningServer::with_network(name, ip.into(), 8443, config, network).unwrap();
        server.set_miner_keypair(keys::seed("miner"));
        server.start().await.unwrap();
        server
    }

    pub async fn miner(&self, config: LightningServerConfigBuilder) -> Miner {
        Miner::serve(self.started(config).await)
    }

    /// A validator's socket.
    pub fn socket(&self, config: quinn::ClientConfig) -> Endpoint {
        self.socket_at(VALIDATOR_IP, 9000, config)
    }

    /// A socket on another host.
    pub fn socket_at(&self, ip: &str, port: u16, config: quinn::ClientConfig) -> Endpoint {
        let addr = SocketAddr::new(ip.parse().unwrap(), port);
        let mut endpoint = self.0.endpoint(addr, None).unwrap();
        endpoint.set_default_client_config(config);
        endpoint
    }

    /// How many packets the miner has sent to `ip`.
    pub fn sent_to(&self, ip: &str) -> u64 {
        self.0.stats(MINER_IP.parse().unwrap(), ip.parse().unwrap()).sent
    }

    /// A NAT shows the socket at `old` as `new` from now on.
    pub fn rebind(&self, old: &str, new: &str) {
        self.0.rebind(old.parse().unwrap(), new.parse().unwrap()).unwrap();
    }
}
