//! The client's sockets: one for each address family that the host has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use btlightning_proto::peers::PeerAddr;
use quinn::{Connecting, Endpoint};
use tracing::debug;

use super::dial_error::DialError;
use crate::error::{LightningError, Result};
use crate::transport::endpoint::{self, ClientConfigs, Liveness};
use crate::transport::io::{Io, IoThreads, Side};
use crate::transport::network::Network;

/// A UDP socket for each address family that the host has, and who drives them.
pub(crate) struct Endpoints {
    /// IPv4, bound when the client is opened.
    v4: Family,
    /// IPv6, bound when somebody there is dialled.
    v6: Mutex<Family>,
    network: Arc<dyn Network>,
    configs: ClientConfigs,
    pub(crate) io: Io,
    /// The program's own runtime.
    #[cfg(feature = "subtensor")]
    pub(crate) runtime: tokio::runtime::Handle,
}

/// The socket of one address family.
#[derive(Clone)]
enum Family {
    NotBound,
    /// The host does not have this family.
    Missing,
    Bound(Endpoint),
}

impl Endpoints {
    /// Binds a socket. Called within the program's tokio runtime.
    pub(crate) fn open(io: IoThreads, liveness: Liveness, network: Arc<dyn Network>) -> Result<Self> {
        let io = io.open(Side::Client, &*network)?;
        let (v4, v6, buffer_bytes) = match bind(&io, &*network, Ipv4Addr::UNSPECIFIED.into()) {
            Ok((v4, buffer_bytes)) => (v4, Family::NotBound, buffer_bytes),
            Err(v4) => match bind(&io, &*network, Ipv6Addr::UNSPECIFIED.into()) {
                Ok((v6, buffer_bytes)) => (Family::Missing, v6, buffer_bytes),
                Err(v6) => {
                    return Err(LightningError::Connection(format!(
                        "no UDP socket: {v4} (IPv4), {v6} (IPv6)"
                    )));
                }
            },
        };
        let configs = ClientConfigs::new(liveness, buffer_bytes)?;
        Ok(Self {
            v4,
            v6: Mutex::new(v6),
            network,
            configs,
            io,
            #[cfg(feature = "subtensor")]
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Begins to dial, where it is called: the connection lives on that runtime. The server name is the IP address as
    /// text.
    pub(crate) fn connect(
        &self,
        socket_addr: SocketAddr,
        addr: &PeerAddr,
    ) -> std::result::Result<Connecting, DialError> {
        let (endpoint, family) = match socket_addr.ip() {
            IpAddr::V4(_) => (self.v4.clone(), "IPv4"),
            IpAddr::V6(_) => (self.v6(), "IPv6"),
        };
        let Family::Bound(endpoint) = endpoint else {
            return Err(DialError::Local(format!("this host has no {family} to dial {addr}")));
        };
        let server_name = socket_addr.ip().to_string();
        endpoint
            .connect_with(self.configs.to(socket_addr), socket_addr, &server_name)
            .map_err(|error| DialError::Local(format!("cannot dial {addr}: {error}")))
    }

    /// Waits until every closed connection has told its peer so.
    pub(crate) async fn drained(&self) {
        let v6 = self.lock_v6().clone();
        for family in [&self.v4, &v6] {
            if let Family::Bound(endpoint) = family {
                endpoint.wait_idle().await;
            }
        }
    }

    /// The IPv6 socket, bound now if it was not.
    fn v6(&self) -> Family {
        let mut v6 = self.lock_v6();
        if let Family::NotBound = *v6 {
            let bound = bind(&self.io, &*self.network, Ipv6Addr::UNSPECIFIED.into());
            *v6 = bound.map_or(Family::Missing, |(v6, _)| v6);
        }
        v6.clone()
    }

    fn lock_v6(&self) -> MutexGuard<'_, Family> {
        self.v6.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket, and its buffer in bytes, as the kernel counts them.
fn bind(io: &Io, network: &dyn Network, ip: IpAddr) -> std::io::Result<(Family, Option<usize>)> {
    let addr = SocketAddr::new(ip, 0);
    let bound = io.bind(network, addr).and_then(|opened| {
        let buffer_bytes = opened.receive_buffer_bytes;
        endpoint::open(io, opened, None).map(|(endpoint, _)| (Family::Bound(endpoint), buffer_bytes))
    });
    bound.inspect_err(|error| debug!("no socket on {addr}: {error}"))
}
