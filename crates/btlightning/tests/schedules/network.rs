//! Hosts on the simulated network, and which sockets they have.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use btlightning::transport::network::Network;
use btlightning_testkit::{Link, SimNet};
use quinn::AsyncUdpSocket;

use crate::plan::Weather;

/// One program's way to the network: its host's address, and the sockets that it has bound.
#[derive(Clone)]
pub(crate) struct Host {
    net: SimNet,
    ip: IpAddr,
    bound: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Host {
    pub(crate) fn new(net: &SimNet, ip: IpAddr) -> Arc<Self> {
        Arc::new(Self { net: net.clone(), ip, bound: Arc::default() })
    }

    /// The sockets that it has bound.
    pub(crate) fn bound(&self) -> Vec<SocketAddr> {
        self.bound.lock().unwrap().clone()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.ip)
    }
}

impl Network for Host {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if addr.is_ipv4() != self.ip.is_ipv4() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let ip = if addr.ip().is_unspecified() { self.ip } else { addr.ip() };
        let socket = self.net.bind(SocketAddr::new(ip, addr.port()))?;
        self.bound.lock().unwrap().push(socket.addr());
        Ok(socket)
    }

    fn is_simulated(&self) -> bool {
        true
    }
}

impl Weather {
    pub(crate) fn fair() -> Self {
        let delay = std::time::Duration::from_millis(10);
        Self { delay, jitter: std::time::Duration::ZERO, loss: 0.0, duplicate: 0.0, reorder: 0.0 }
    }

    pub(crate) fn link(self) -> Link {
        let Self { delay, jitter, loss, duplicate, reorder } = self;
        Link { delay, jitter, loss, duplicate, reorder, ..Link::default() }
    }
}
