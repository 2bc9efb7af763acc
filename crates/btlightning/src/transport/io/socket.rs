//! A socket that notes what passes through it.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::program::Traffic;
use super::thread::IoThread;
use crate::transport::endpoint::PACKET_BYTES_MAX;

/// The longest UDP message, in bytes, rounded up.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// From this size on, in bytes, glibc always takes memory from the system (`M_MMAP_THRESHOLD`, mallopt(3)).
const UNTOUCHED_BYTES_LEAST: usize = 33 * 1024 * 1024;

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

    /// quinn makes room for this many packets of the largest size in each of the 32 messages that it receives at once. A
    /// message of UDP has room for ten of them, and that is what is used; but an allocator fills what it has to clear with
    /// zeros, two megabytes for each endpoint, unless it takes it from the system, which has it cleared when it is touched.
    fn max_receive_segments(&self) -> usize {
        let packet_bytes = usize::from(PACKET_BYTES_MAX);
        let buffer_bytes =
            if cfg!(target_pointer_width = "64") { UNTOUCHED_BYTES_LEAST } else { MESSAGE_BYTES_MAX };
        self.socket
            .max_receive_segments()
            .min(MESSAGE_BYTES_MAX.div_ceil(packet_bytes))
            .max(buffer_bytes.div_ceil(packet_bytes * BATCH_SIZE))
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
