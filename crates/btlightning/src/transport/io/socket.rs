//! A socket that notes what passes through it, and takes apart what is of several connections.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::apart::Apart;
use super::program::Traffic;
use super::receive::Receiver;
use super::thread::IoThread;
use super::turn;

#[derive(Debug)]
pub(super) struct NotedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    notes: Notes,
    apart: Apart,
    /// Of a socket whose messages may be of several packets.
    receiver: Option<Receiver>,
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
        let receiver = (socket.max_receive_segments() > 1).then(Receiver::default);
        Self { socket, notes, receiver, apart: Apart::default() }
    }

    fn poll_socket(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if turn::is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let received = self.socket.poll_recv(cx, bufs, meta);
        if let Poll::Ready(received) = &received {
            let count = *received.as_ref().unwrap_or(&0);
            turn::has_read(&bufs[..count], &meta[..count]);
        }
        received
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
        let left = self.apart.take(bufs, meta);
        if left > 0 {
            return Poll::Ready(Ok(left));
        }
        let received = match &self.receiver {
            Some(receiver) => receiver.poll(|bufs, meta| self.poll_socket(cx, bufs, meta), bufs, meta),
            None => self.poll_socket(cx, bufs, meta),
        };
        if let Poll::Ready(received) = &received {
            if let Ok(count) = received {
                self.apart.put(&bufs[..*count], &mut meta[..*count]);
            }
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

    /// quinn makes room for this many packets of the largest size in each of 32 messages.
    fn max_receive_segments(&self) -> usize {
        match &self.receiver {
            Some(_) => 1,
            None => self.socket.max_receive_segments(),
        }
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
