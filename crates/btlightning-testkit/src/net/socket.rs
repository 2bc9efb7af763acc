//! [`SimSocket`]: a UDP socket on the simulated network.

use super::{Shared, mailbox::MailboxId};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// A UDP socket on a [`crate::SimNet`], for quinn or for datagrams written by hand. Dropping it frees its address.
///
/// It can always be written to: what does not fit is dropped on the way. Any number of tasks may wait to receive; all of
/// them wake when something arrives, and one of them gets it.
pub struct SimSocket {
    shared: Arc<Shared>,
    id: MailboxId,
    addr: SocketAddr,
}

impl SimSocket {
    pub(super) fn new(shared: Arc<Shared>, id: MailboxId, addr: SocketAddr) -> Self {
        Self { shared, id, addr }
    }

    /// Sends one datagram, or drops it. Fails if `payload` is longer than 65,507 bytes.
    pub fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send(&Transmit {
            destination: to,
            ecn: None,
            contents: payload,
            segment_size: None,
            src_ip: None,
        })
    }

    /// The next datagram and who sent it. Waits for ever if none comes. Dropping the future loses nothing.
    pub async fn recv_from(&self) -> (Vec<u8>, SocketAddr) {
        let mut buf = vec![0; 65_536];
        let mut metas = [RecvMeta::default()];
        poll_fn(|cx| self.receive(cx, &mut [IoSliceMut::new(&mut buf)], &mut metas).map(drop)).await;
        buf.truncate(metas[0].len);
        (buf, metas[0].addr)
    }

    /// The address that it was bound to. A NAT rebinding does not change it: the socket does not notice.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let is_next = self.shared.lock().send(Instant::now(), self.id, transmit)?;
        if is_next {
            self.shared.carrier.notify_one();
        }
        Ok(())
    }

    fn receive(&self, cx: &Context<'_>, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> Poll<usize> {
        match self.shared.lock().mailboxes.get_mut(self.id) {
            Some(mailbox) => mailbox.take(cx, bufs, metas),
            None => Poll::Pending,
        }
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.receive(cx, bufs, metas).map(Ok)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        // The guard is gone by the end of the statement: what the mailbox holds is dropped without the lock.
        let mailbox = self.shared.lock().mailboxes.close(self.id);
        drop(mailbox);
        self.shared.released.notify_waiters();
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimSocket").field(&self.addr).finish()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
