//! The client's sockets: one for each address family that the host has.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use btlightning_proto::peers::PeerAddr;
use quinn::{Connecting, Endpoint};
use tracing::debug;

use super::dial_error::DialError;
use crate::error::{LightningError, Result};
use crate::transport::endpoint::{self, Liveness};
use crate::transport::io::{Io, IoThreads, Side};
use crate::transport::network::Network;

/// A UDP socket for each address family that the host has, and who drives them.
pub(crate) struct Endpoints {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
    config: quinn::ClientConfig,
    pub(crate) io: Io,
    /// The program's own runtime.
    #[cfg(feature = "subtensor")]
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Endpoints {
    /// Binds the sockets. Called within the program's tokio runtime.
    pub(crate) fn open(io: IoThreads, liveness: Liveness, network: &dyn Network) -> Result<Self> {
        let io = io.open(Side::Client, network)?;
        let config = endpoint::client_config(liveness)?;
        let bind = |addr: SocketAddr| {
            endpoint::bind(&io, network, addr, None)
                .map(|(endpoint, _)| endpoint)
                .inspect_err(|error| debug!("no socket on {addr}: {error}"))
        };
        let v4 = bind((Ipv4Addr::UNSPECIFIED, 0).into());
        let v6 = bind((Ipv6Addr::UNSPECIFIED, 0).into());
        if let (Err(v4), Err(v6)) = (&v4, &v6) {
            return Err(LightningError::Connection(format!("no UDP socket: {v4} (IPv4), {v6} (IPv6)")));
        }
        Ok(Self {
            v4: v4.ok(),
            v6: v6.ok(),
            config,
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
        let (endpoint, family) = if socket_addr.is_ipv4() { (&self.v4, "IPv4") } else { (&self.v6, "IPv6") };
        let endpoint = endpoint
            .as_ref()
            .ok_or_else(|| DialError::Local(format!("this host has no {family} to dial {addr}")))?;
        let server_name = socket_addr.ip().to_string();
        endpoint
            .connect_with(self.config.clone(), socket_addr, &server_name)
            .map_err(|error| DialError::Local(format!("cannot dial {addr}: {error}")))
    }

    /// Waits until every closed connection has told its peer so.
    pub(crate) async fn drained(&self) {
        for endpoint in self.v4.iter().chain(&self.v6) {
            endpoint.wait_idle().await;
        }
    }
}
