//! [`Mailboxes`]: who has which address, and what has arrived there.

use super::wire_addr;
use quinn::udp::{EcnCodepoint, RecvMeta};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// The ports that a bind to port 0 picks from, in order.
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// A datagram on its way. The addresses are those on the wire.
#[derive(Debug, Clone)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) payload: Arc<[u8]>,
}

/// A bound socket, as the network sees it.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// What the socket believes its address to be, in the IP version that it was bound with.
    bound: SocketAddr,
    /// What the others see it as, on the wire.
    seen: SocketAddr,
    arrived: VecDeque<Datagram>,
    /// Of every task that found nothing here: one each.
    readers: Vec<Waker>,
}

/// Names a bound socket. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MailboxId(u64);

/// All bound sockets.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    open: HashMap<MailboxId, Mailbox>,
    /// By the address of the bind, on the wire.
    bound: HashMap<SocketAddr, MailboxId>,
    /// By the address that others see: where datagrams go.
    seen: HashMap<SocketAddr, MailboxId>,
    opened: u64,
}

impl Mailboxes {
    pub(super) fn bind(&mut self, addr: SocketAddr) -> io::Result<(MailboxId, SocketAddr)> {
        if addr.ip().to_canonical().is_unspecified() {
            let why = "a simulated socket is bound to one address, not to all of a host's";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, why));
        }
        let port = if addr.port() == 0 { self.free_port(addr.ip())? } else { addr.port() };
        let bound = SocketAddr::new(addr.ip(), port);
        let wire = wire_addr(bound);
        if self.is_taken(wire) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{wire} is in use")));
        }
        let id = MailboxId(self.opened);
        self.opened += 1;
        self.bound.insert(wire, id);
        self.seen.insert(wire, id);
        let mailbox = Mailbox { bound, seen: wire, arrived: VecDeque::new(), readers: Vec::new() };
        self.open.insert(id, mailbox);
        Ok((id, bound))
    }

    /// Frees the address. The mailbox is for the caller to drop once no lock is held: wakers run other people's code.
    pub(super) fn close(&mut self, id: MailboxId) -> Option<Mailbox> {
        let mailbox = self.open.remove(&id)?;
        self.bound.remove(&wire_addr(mailbox.bound));
        self.seen.remove(&mailbox.seen);
        Some(mailbox)
    }

    /// Lets the socket bound at `old` be seen as `new`, and as nothing else.
    pub(super) fn rebind(&mut self, old: SocketAddr, new: SocketAddr) -> io::Result<()> {
        let id = self.bound.get(&old).copied();
        let Some((id, mailbox)) = id.and_then(|id| Some((id, self.open.get_mut(&id)?))) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("nobody is bound to {old}")));
        };
        let others = [self.bound.get(&new), self.seen.get(&new)];
        if others.into_iter().flatten().any(|other| *other != id) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{new} is in use")));
        }
        self.seen.remove(&mailbox.seen);
        self.seen.insert(new, id);
        mailbox.seen = new;
        Ok(())
    }

    /// Whether somebody is bound to the address, or seen as it.
    pub(super) fn is_taken(&self, wire: SocketAddr) -> bool {
        self.bound.contains_key(&wire) || self.seen.contains_key(&wire)
    }

    pub(super) fn get(&self, id: MailboxId) -> Option<&Mailbox> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: MailboxId) -> Option<&mut Mailbox> {
        self.open.get_mut(&id)
    }

    /// Who is seen as that address.
    pub(super) fn seen_as(&mut self, wire: SocketAddr) -> Option<&mut Mailbox> {
        self.open.get_mut(self.seen.get(&wire)?)
    }

    fn free_port(&self, ip: IpAddr) -> io::Result<u16> {
        EPHEMERAL_PORTS
            .into_iter()
            .find(|port| !self.is_taken(wire_addr(SocketAddr::new(ip, *port))))
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, format!("{ip} has no free port")))
    }
}

impl Mailbox {
    /// The address that others see.
    pub(super) fn seen(&self) -> SocketAddr {
        self.seen
    }

    /// Whether the socket may send as `source`.
    pub(super) fn may_send_as(&self, source: IpAddr) -> bool {
        source.to_canonical() == self.bound.ip().to_canonical()
    }

    /// Puts a datagram into the queue, if it is not full, and hands out the wakers of those who wait for one.
    pub(super) fn accept(&mut self, datagram: Datagram, datagrams_max: usize) -> Option<Vec<Waker>> {
        if self.arrived.len() >= datagrams_max {
            return None;
        }
        self.arrived.push_back(datagram);
        Some(std::mem::take(&mut self.readers))
    }

    /// Takes as many datagrams as there are buffers, or remembers who asked. A datagram that is longer than its buffer
    /// is cut off, as a kernel does.
    pub(super) fn take(
        &mut self,
        cx: &Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        if self.arrived.is_empty() {
            if !self.readers.iter().any(|reader| reader.will_wake(cx.waker())) {
                self.readers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let mut taken = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Some(datagram) = self.arrived.pop_front() else { break };
            let len = datagram.payload.len().min(buf.len());
            buf[..len].copy_from_slice(&datagram.payload[..len]);
            *meta = RecvMeta::default();
            meta.addr = self.shown(datagram.from);
            meta.len = len;
            meta.stride = len;
            meta.ecn = datagram.ecn;
            // What the packet says once it is inside the NAT.
            meta.dst_ip = Some(self.bound.ip());
            taken += 1;
        }
        Poll::Ready(taken)
    }

    /// A socket of IPv6 sees an IPv4 address as one of IPv6.
    fn shown(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            IpAddr::V4(ip) if self.bound.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port())
            }
            _ => addr,
        }
    }
}
