//! A socket that notes what passes through it.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::program::Traffic;
use super::thread::IoThread;
use crate::transport::endpoint::PACKET_BYTES_MAX;

/// The longest UDP message, in bytes, rounded up.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct NotedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    notes: Notes,
}

/// Who is told.
#[derive(Debug)]
pub(super) enum Notes {
    Thread(IoThread),
    Traffic(Arc<Traffic>),
    Nobody,
}

impl NotedSocket {
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, notes: Notes) -> Self {
        Self { socket, notes }
    }
}

impl AsyncUdpSocket for NotedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Notes::Traffic(traffic) = &self.notes {
            traffic.note_sent();
        }
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(cx, bufs, meta);
        if received.is_ready() {
            match &self.notes {
                Notes::Thread(thread) => thread.packets_arrived(),
                Notes::Traffic(traffic) => traffic.note_received(),
                Notes::Nobody => {}
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    /// quinn makes room for this many packets of the largest size in each message that it receives, times 32; a message
    /// of UDP has no room for more than these, however small they are.
    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments().min(MESSAGE_BYTES_MAX.div_ceil(usize::from(PACKET_BYTES_MAX)))
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
