//! What a client's supervisors, queries and methods share.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use btlightning_proto::identity::{Hotkey, HotkeyError};
use btlightning_proto::peers::PeerAddr;
use quinn::{Connecting, Endpoint};
use tokio::runtime::Handle;
use tracing::debug;

use super::config::LightningClientConfig;
use super::dial::DialError;
use super::peers::PeerFeed;
use super::registry::Registry;
use crate::error::{LightningError, Result};
use crate::signing::Signer;
use crate::transport::endpoint;
use crate::transport::network::Network;
use crate::transport::signatures::SignatureWorker;

/// The shared part of a client. Lives as long as the client or any of its supervisors.
pub(crate) struct Shared {
    pub(crate) config: LightningClientConfig,
    pub(crate) registry: Registry,
    pub(crate) feed: PeerFeed,
    pub(crate) signatures: SignatureWorker,
    validator: std::result::Result<Hotkey, HotkeyError>,
    signer: RwLock<Option<Arc<dyn Signer>>>,
    network: Arc<dyn Network>,
    endpoints: OnceLock<Endpoints>,
    entropy: RandomState,
}

/// A UDP socket for each address family that the host has, and the runtime that drives them.
struct Endpoints {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
    config: quinn::ClientConfig,
    runtime: Handle,
}

impl Shared {
    pub(crate) fn new(
        wallet_hotkey: &str,
        config: LightningClientConfig,
        network: Arc<dyn Network>,
    ) -> Result<Self> {
        let signatures = if network.is_simulated() {
            SignatureWorker::Inline
        } else {
            SignatureWorker::spawn("btlightning-client-signatures")?
        };
        Ok(Self {
            registry: Registry::new(config.max_connections),
            config,
            feed: PeerFeed::new(),
            signatures,
            validator: wallet_hotkey.parse(),
            signer: RwLock::new(None),
            network,
            endpoints: OnceLock::new(),
            entropy: RandomState::new(),
        })
    }

    pub(crate) fn set_signer(&self, signer: Arc<dyn Signer>) {
        *self.signer.write().unwrap_or_else(PoisonError::into_inner) = Some(signer);
    }

    pub(crate) fn signer(&self) -> Option<Arc<dyn Signer>> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This client's own hotkey.
    pub(crate) fn validator(&self) -> std::result::Result<Hotkey, DialError> {
        self.validator
            .clone()
            .map_err(|error| DialError::Local(format!("this client's own hotkey is not valid: {error}")))
    }

    /// Binds the sockets, once, on the current tokio runtime.
    pub(crate) fn open_endpoints(&self) -> Result<()> {
        if self.endpoints.get().is_none() {
            let endpoints = Endpoints::open(&self.config, &*self.network)?;
            // Lost only to another call that has just opened its own.
            let _ = self.endpoints.set(endpoints);
        }
        Ok(())
    }

    pub(crate) fn has_endpoints(&self) -> bool {
        self.endpoints.get().is_some()
    }

    /// Runs a supervisor where the sockets are driven.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(endpoints) = self.endpoints.get() {
            endpoints.runtime.spawn(task);
        }
    }

    /// Begins to dial. The server name is the address as it was given, without a port.
    pub(crate) fn connect(
        &self,
        socket_addr: SocketAddr,
        addr: &PeerAddr,
    ) -> std::result::Result<Connecting, DialError> {
        let endpoints =
            self.endpoints.get().ok_or_else(|| DialError::Local("endpoint not initialized".to_owned()))?;
        endpoints.connect(socket_addr, addr)
    }

    /// Waits until every closed connection has told its peer so.
    pub(crate) async fn drained(&self) {
        if let Some(endpoints) = self.endpoints.get() {
            for endpoint in endpoints.v4.iter().chain(&endpoints.v6) {
                endpoint.wait_idle().await;
            }
        }
    }

    /// Randomness for jitter, nothing else.
    pub(crate) fn entropy(&self) -> u64 {
        self.entropy.hash_one(tokio::time::Instant::now().into_std())
    }
}

impl Endpoints {
    fn open(config: &LightningClientConfig, network: &dyn Network) -> Result<Self> {
        let client_config = endpoint::client_config(config.liveness())?;
        let bind = |addr: SocketAddr| match endpoint::bind(network, addr, None) {
            Ok(endpoint) => Ok(endpoint),
            Err(error) => {
                debug!("no socket on {addr}: {error}");
                Err(error)
            }
        };
        let v4 = bind((Ipv4Addr::UNSPECIFIED, 0).into());
        let v6 = bind((Ipv6Addr::UNSPECIFIED, 0).into());
        if let (Err(v4), Err(v6)) = (&v4, &v6) {
            return Err(LightningError::Connection(format!("no UDP socket: {v4} (IPv4), {v6} (IPv6)")));
        }
        Ok(Self { v4: v4.ok(), v6: v6.ok(), config: client_config, runtime: Handle::current() })
    }

    fn connect(
        &self,
        socket_addr: SocketAddr,
        addr: &PeerAddr,
    ) -> std::result::Result<Connecting, DialError> {
        let (endpoint, family) = if socket_addr.is_ipv4() { (&self.v4, "IPv4") } else { (&self.v6, "IPv6") };
        let endpoint = endpoint
            .as_ref()
            .ok_or_else(|| DialError::Local(format!("this host has no {family} to dial {addr}")))?;
        let server_name = socket_addr.ip().to_string();
        endpoint
            .connect_with(self.config.clone(), socket_addr, &server_name)
            .map_err(|error| DialError::Local(format!("cannot dial {addr}: {error}")))
    }
}
