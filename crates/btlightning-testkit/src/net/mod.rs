//! [`SimNet`]: a network in memory.

mod direction;
mod fabric;
mod ledger;
mod link;
mod mailbox;
mod socket;

pub use ledger::{Event, Stats, TAP_RECORDS_MAX, Tap, TapRecord};
pub use link::Link;
pub use socket::SimSocket;

use fabric::Fabric;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// A network of hosts that have one address each, every one connected to every other.
///
/// Clones are the same network. Links, partitions, black holes, statistics and taps all go by the addresses on the wire:
/// those that others see behind a NAT, and plain IPv4 for IPv4 within IPv6. A changed link holds for what is sent from
/// then on; a new partition or black hole also swallows what is on its way.
#[derive(Clone)]
pub struct SimNet {
    shared: Arc<Shared>,
    seed: u64,
}

/// What the network's handles, its sockets and its carrier have in common.
struct Shared {
    fabric: Mutex<Fabric>,
    /// Told when a datagram became the next to arrive, and when the network is gone.
    carrier: Arc<Notify>,
    /// Told when a socket is gone.
    released: Notify,
}

impl SimNet {
    /// A network without hosts, whose links are [`Link::default`]. The crate's page says what the seed determines.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with timers: a task of it carries the datagrams for as long as there is a handle or a
    /// socket.
    pub fn new(seed: u64) -> Self {
        let carrier = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            fabric: Mutex::new(Fabric::new(seed, Instant::now())),
            carrier: Arc::clone(&carrier),
            released: Notify::new(),
        });
        tokio::spawn(carry(Arc::downgrade(&shared), carrier));
        Self { shared, seed }
    }

    /// The seed that it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A socket at `addr`; port 0 picks the lowest free ephemeral port.
    ///
    /// An address of the form `::ffff:a.b.c.d` makes a dual-stack socket as Linux has them: it talks to IPv4 hosts and
    /// shows their addresses in that form. Fails if somebody has the address, or a NAT shows somebody as it, and for
    /// `0.0.0.0` and `::`.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<Arc<SimSocket>> {
        let (id, addr) = self.shared.lock().mailboxes.bind(addr)?;
        Ok(Arc::new(SimSocket::new(Arc::clone(&self.shared), id, addr)))
    }

    /// Waits until nobody has `addr`: quinn lets go of a socket only after the tasks of its endpoint and its connections
    /// have ended. No timeout; dropping the future is harmless.
    pub async fn released(&self, addr: SocketAddr) {
        loop {
            let mut released = std::pin::pin!(self.shared.released.notified());
            // Listen before looking, or the news could come between the two.
            released.as_mut().enable();
            if !self.shared.lock().mailboxes.is_taken(wire_addr(addr)) {
                return;
            }
            released.await;
        }
    }

    /// The link of every direction that [`SimNet::set_link`] has not set. Panics if a field is out of its range.
    pub fn set_default_link(&self, link: Link) {
        link.assert_valid();
        self.shared.lock().default_link = link;
    }

    /// The link from one address to another, in this direction only. Panics if a field is out of its range.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: Link) {
        link.assert_valid();
        self.shared.lock().links.insert((from.to_canonical(), to.to_canonical()), link);
    }

    /// Lets nothing pass between the two any more, until [`SimNet::heal`].
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        let (a, b) = (a.to_canonical(), b.to_canonical());
        self.shared.lock().cut.extend([(a, b), (b, a)]);
    }

    /// Ends a partition of the two.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        let (a, b) = (a.to_canonical(), b.to_canonical());
        self.shared.lock().cut.retain(|pair| *pair != (a, b) && *pair != (b, a));
    }

    /// Swallows all that comes from `addr` and all that goes there, until [`SimNet::restore`].
    ///
    /// A host that crashes is one that is swallowed, closed, and then restored: its farewells reach nobody.
    pub fn blackhole(&self, addr: SocketAddr) {
        self.shared.lock().dark.insert(wire_addr(addr));
    }

    /// Ends a black hole at `addr`.
    pub fn restore(&self, addr: SocketAddr) {
        self.shared.lock().dark.remove(&wire_addr(addr));
    }

    /// A NAT's rebinding: from now on the socket bound to `old` is seen as `new` and reached there; what is sent to the
    /// address that it was seen as before vanishes. The socket does not notice.
    ///
    /// `old` is always the address of the bind, also the second time. Fails if nobody is bound to it or somebody else
    /// has `new`.
    pub fn rebind(&self, old: SocketAddr, new: SocketAddr) -> io::Result<()> {
        self.shared.lock().mailboxes.rebind(wire_addr(old), wire_addr(new))
    }

    /// How many datagrams wait in a socket before more are dropped. Default: 4,096, for 6 MiB of QUIC.
    pub fn set_receive_queue_datagrams_max(&self, datagrams: usize) {
        self.shared.lock().receive_queue_datagrams_max = datagrams;
    }

    /// What happened to datagrams from one address to another.
    pub fn stats(&self, from: IpAddr, to: IpAddr) -> Stats {
        self.shared.lock().ledger.stats(from.to_canonical(), to.to_canonical())
    }

    /// What happened to all datagrams.
    pub fn totals(&self) -> Stats {
        self.shared.lock().ledger.totals()
    }

    /// Writes down everything that happens from now on, until it is dropped.
    pub fn tap(&self) -> Tap {
        self.shared.lock().ledger.tap()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Fabric> {
        // A test that panicked on one thread is no reason for the sockets on another to panic while they are dropped.
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.carrier.notify_one();
    }
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNet").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Brings datagrams to their receivers when they are due, until the network is gone.
async fn carry(shared: Weak<Shared>, news: Arc<Notify>) {
    while let Some(shared) = shared.upgrade() {
        let (wakers, next_due) = {
            let mut fabric = shared.lock();
            (fabric.deliver(Instant::now()), fabric.next_due())
        };
        drop(shared);
        wakers.into_iter().for_each(|waker| waker.wake());
        match next_due {
            Some(due) => drop(timeout_at(due, news.notified()).await),
            None => news.notified().await,
        }
    }
}

/// The address as it is on the wire: IPv4 within IPv6 is IPv4, and IPv6 has neither scope nor flow.
fn wire_addr(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
