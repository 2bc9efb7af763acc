//! The socket of an endpoint that has nothing to say any more.
//!
//! A connection that was closed goes on for three of its probe timeouts (RFC 9000, section 10.2), which grow with the
//! path's round trip as the peer makes it: one that acknowledges late would keep the port of a server that was stopped
//! for as long as it likes. So the endpoint is moved away from its socket. What it still has to do, it does here.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, UdpPoller};
use tracing::debug;

/// Has the endpoint, and all connections on it, let go of its socket. They hear nothing any more.
pub(crate) fn move_there(endpoint: &Endpoint) {
    // quinn keeps the socket that it had until something arrives on the new one; so this is done twice.
    for _ in 0..2 {
        let moved =
            endpoint.local_addr().and_then(|addr| endpoint.rebind_abstract(Arc::new(Nowhere { addr })));
        if let Err(error) = moved {
            debug!("an endpoint keeps its socket: {error}");
        }
    }
}

/// Where all that is sent is lost, and nothing ever comes from.
#[derive(Debug)]
struct Nowhere {
    addr: SocketAddr,
}

impl AsyncUdpSocket for Nowhere {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
