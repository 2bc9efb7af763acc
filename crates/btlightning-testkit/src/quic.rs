//! QUIC endpoints on a simulated network.

use crate::{SimNet, mix};
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use std::{io, net::SocketAddr, sync::Arc};

impl SimNet {
    /// A QUIC endpoint at `addr`, that accepts connections if it has a server's configuration.
    ///
    /// For more control build it from [`SimNet::bind`], [`SimNet::endpoint_config`] and
    /// [`Endpoint::new_with_abstract_socket`] with quinn's [`TokioRuntime`], whose clock and timers are tokio's.
    pub fn endpoint(&self, addr: SocketAddr, server: Option<ServerConfig>) -> io::Result<Endpoint> {
        let socket = self.bind(addr)?;
        let config = self.endpoint_config(socket.addr());
        Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
    }

    /// quinn's defaults, but with a generator of random numbers that follows from the network's seed and the address.
    ///
    /// It decides what quinn itself draws (which packet numbers it skips, the order of the transport parameters), not
    /// what TLS draws.
    pub fn endpoint_config(&self, addr: SocketAddr) -> EndpointConfig {
        let name = addr.to_string();
        let state = name.bytes().fold(mix::start(self.seed()), |state, b| mix::absorb(state, u64::from(b)));
        let mut config = EndpointConfig::default();
        config.rng_seed(Some(mix::bytes(state)));
        config
    }
}
