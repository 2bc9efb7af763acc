//! A socket that falls silent when it is told to.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime, UdpPoller};

use super::{Failure, tls};

/// A UDP socket that sends what there is to send until it is shut. It receives all the same.
pub struct Valve {
    socket: Arc<dyn AsyncUdpSocket>,
    is_shut: AtomicBool,
    sent: AtomicUsize,
}

impl Valve {
    /// An endpoint of a validator at `addr`, and the valve that its datagrams leave by. It is open.
    ///
    /// # Errors
    /// When the address cannot be bound, or outside a tokio runtime.
    pub fn endpoint(addr: SocketAddr) -> Result<(Endpoint, Arc<Self>), Failure> {
        let socket = TokioRuntime.wrap_udp_socket(std::net::UdpSocket::bind(addr)?)?;
        let valve = Arc::new(Self { socket, is_shut: AtomicBool::new(false), sent: AtomicUsize::new(0) });
        let config = EndpointConfig::default();
        let mut endpoint =
            Endpoint::new_with_abstract_socket(config, None, valve.clone(), Arc::new(TokioRuntime))?;
        endpoint.set_default_client_config(tls::client_config(tls::ALPN, |_| {})?);
        Ok((endpoint, valve))
    }

    /// Sends nothing from now on: the peer has fallen silent, and what it did not send it never will.
    pub fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }

    /// How many datagrams there were to send so far, lost ones included.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Valve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Valve")
            .field("is_shut", &self.is_shut)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Valve {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.sent.fetch_add(1, Ordering::SeqCst);
        if self.is_shut.load(Ordering::SeqCst) { Ok(()) } else { self.socket.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
