//! tokio, as endpoints have it whose connections neither gather nor linger.

use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, TokioRuntime};

use super::quiet::Quiet;
use super::{tenure, turn};

/// tokio, with connections that are kept as long as their [tenure](tenure::Tenure) says.
#[derive(Debug)]
pub(super) struct IoRuntime {
    quiet: Arc<Quiet>,
    /// Whether the task that reads the socket has begun: quinn begins it first.
    reads_socket: AtomicBool,
}

impl IoRuntime {
    pub(super) fn new(quiet: Arc<Quiet>) -> Self {
        Self { quiet, reads_socket: AtomicBool::new(false) }
    }
}

impl quinn::Runtime for IoRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let is_reader = !self.reads_socket.swap(true, Ordering::Relaxed);
        let future = if is_reader { Box::pin(turn::reader(future)) } else { future };
        tenure::spawn(self.quiet.clone(), future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        turn::now()
    }
}
