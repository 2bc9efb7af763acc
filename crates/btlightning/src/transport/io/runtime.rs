//! tokio, as endpoints have it whose connections neither gather nor linger.

use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, TokioRuntime};

use super::quiet::Quiet;
use super::tenure;

/// tokio, with connections that are kept as long as their [tenure](tenure::Tenure) says.
#[derive(Debug)]
pub(super) struct IoRuntime(pub(super) Arc<Quiet>);

impl quinn::Runtime for IoRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tenure::spawn(self.0.clone(), future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
