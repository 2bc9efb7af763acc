//! Peers whose packets are made by hand, on a simulated network.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use btlightning_proto::wire::encode_frame;
use btlightning_testkit::SimSocket;
use btlightning_testkit::by_hand::packet::whole_stream_frame;
use btlightning_testkit::by_hand::{self, Bare};
use quinn::AsyncUdpSocket;
use quinn::udp::RecvMeta;
use tokio::time::sleep;

use super::sim::World;
use super::{key, unix_secs, within};

const MOMENT: Duration = Duration::from_millis(100);

/// A stranger whose packets are made by hand.
#[derive(Debug)]
pub struct Stranger {
    socket: Arc<SimSocket>,
    server: SocketAddr,
    pub bare: Bare,
}

impl Stranger {
    /// One that has come through TLS.
    pub async fn connected(world: &World, ip: &str, server: SocketAddr) -> Self {
        let socket = world.net().bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
        let port = socket.local_addr().unwrap().port().to_be_bytes();
        let mut stranger = Self { socket, server, bare: Bare::new(&port.repeat(4)).unwrap() };
        let hello = stranger.bare.hello().unwrap();
        stranger.send(&hello);
        while !stranger.bare.is_ready() {
            stranger.receive().await;
        }
        sleep(MOMENT).await; // sleeps: virtual time, until the server has all of it
        stranger
    }

    pub fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.server).unwrap();
    }

    pub fn say(&mut self, frames: &[u8]) {
        let datagram = self.bare.say(frames).unwrap();
        self.send(&datagram);
    }

    pub async fn receive(&mut self) {
        let mut bytes = vec![0; 8192];
        let mut meta = [RecvMeta::default()];
        let received = std::future::poll_fn(|cx| {
            self.socket.poll_recv(cx, &mut [IoSliceMut::new(&mut bytes)], &mut meta)
        });
        within("a packet", received).await.unwrap();
        for answer in self.bare.receive(&bytes[..meta[0].len]).unwrap() {
            self.send(&answer);
        }
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(&mut self) {
        while !self.bare.is_closed() {
            self.receive().await;
        }
    }

    /// Authenticates as `name`, without a look at the answer.
    pub async fn authenticate(&mut self, name: &str) {
        let fingerprint = self.bare.fingerprint().unwrap();
        let (request, _) = by_hand::opening(fingerprint, &key(name), unix_secs()).unwrap();
        self.say(&whole_stream_frame(0, &encode_frame(&request, 4096).unwrap()));
        sleep(MOMENT).await; // sleeps: virtual time, until the server has answered
    }

    /// Takes what has come.
    pub fn take(&mut self) {
        while poll_once(self.receive()) {}
    }
}

/// Whether the future is ready at once.
fn poll_once(future: impl Future<Output = ()>) -> bool {
    std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}
