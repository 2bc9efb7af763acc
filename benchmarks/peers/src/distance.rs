//! Where a peer takes the other side to be. Packets and windows follow from that: a host's way to itself takes packets
//! that no path of the internet does.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use btlightning_ours::transport::network::{Bound, Network, UdpNetwork};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// An address of the internet that nobody has (RFC 5737).
const FAR_AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// Where the other side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// On this host, as it is.
    Here,
    /// On the internet: behind the relay that is a long path.
    Far,
}

impl Distance {
    /// The address under which the server at `addr` is dialled.
    pub fn shown(self, addr: SocketAddr) -> SocketAddr {
        match self {
            Self::Here => addr,
            Self::Far => shown(addr),
        }
    }

    /// The network of btlightning's clients and servers: the operating system's, with addresses as they are
    /// [shown](Self::shown).
    pub fn network(self) -> Arc<dyn Network> {
        match self {
            Self::Here => Arc::new(UdpNetwork),
            Self::Far => Arc::new(FarNetwork),
        }
    }
}

fn shown(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_loopback() { SocketAddr::new(FAR_AWAY, addr.port()) } else { addr }
}

fn real(addr: SocketAddr) -> SocketAddr {
    if addr.ip() == FAR_AWAY { SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port()) } else { addr }
}

/// The operating system's UDP, on which everybody on this host seems to be on the internet.
#[derive(Debug)]
struct FarNetwork;

impl Network for FarNetwork {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(self.open(addr)?.socket)
    }

    fn open(&self, addr: SocketAddr) -> io::Result<Bound> {
        let bound = UdpNetwork.open(addr)?;
        Ok(Bound { socket: Arc::new(FarSocket(bound.socket)), ..bound })
    }
}

#[derive(Debug)]
struct FarSocket(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for FarSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(&Transmit { destination: real(transmit.destination), ..transmit.clone() })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.0.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for meta in &mut meta[..count] {
                meta.addr = shown(meta.addr);
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_shown_as_another_address_and_that_is_undone() {
        let [server, other] = ["127.0.0.1:7", "192.0.2.1:7"].map(|addr| addr.parse::<SocketAddr>().unwrap());
        assert_eq!(Distance::Here.shown(server), server);
        assert_eq!(Distance::Far.shown(server).to_string(), "198.51.100.1:7");
        assert_eq!(real(shown(server)), server);
        assert_eq!((shown(other), real(other)), (other, other));
    }
}
