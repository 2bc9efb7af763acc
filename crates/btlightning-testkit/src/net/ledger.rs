//! The ledger: what happened to datagrams, counted for each direction and written down for whoever taps the network.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

/// How many records a [`Tap`] keeps; later ones are counted and dropped. About 6 MiB when full.
pub const TAP_RECORDS_MAX: usize = 65_536;

/// Something that happens to a datagram.
///
/// Each is sent once, and each copy of it then comes to one of the ends after `Duplicated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A socket sent it.
    Sent,
    /// The link made a second one of it.
    Duplicated,
    /// It lies in the receiver's queue.
    Delivered,
    /// The link lost it.
    Lost,
    /// A partition or a black hole swallowed it, when it was sent or when it arrived.
    Blocked,
    /// Too much was waiting for the link's bandwidth, or was on its way in the whole network.
    LinkFull,
    /// The receiver's queue was full.
    ReceiverFull,
    /// Nobody has the address, it is of the other IP version, or the sender does not have the source it named.
    Unreachable,
}

/// How many datagrams came to which [`Event`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field counts the event of its name")]
pub struct Stats {
    pub sent: u64,
    pub duplicated: u64,
    pub delivered: u64,
    pub lost: u64,
    pub blocked: u64,
    pub link_full: u64,
    pub receiver_full: u64,
    pub unreachable: u64,
}

impl Stats {
    /// How many are on their way.
    pub fn in_flight(&self) -> u64 {
        let ended = self.delivered
            + self.lost
            + self.blocked
            + self.link_full
            + self.receiver_full
            + self.unreachable;
        self.sent + self.duplicated - ended
    }

    fn count(&mut self, event: Event) {
        *match event {
            Event::Sent => &mut self.sent,
            Event::Duplicated => &mut self.duplicated,
            Event::Delivered => &mut self.delivered,
            Event::Lost => &mut self.lost,
            Event::Blocked => &mut self.blocked,
            Event::LinkFull => &mut self.link_full,
            Event::ReceiverFull => &mut self.receiver_full,
            Event::Unreachable => &mut self.unreachable,
        } += 1;
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.duplicated += other.duplicated;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.blocked += other.blocked;
        self.link_full += other.link_full;
        self.receiver_full += other.receiver_full;
        self.unreachable += other.unreachable;
    }
}

/// What a [`Tap`] saw. The addresses are those on the wire: outside a NAT, and never IPv4 in IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TapRecord {
    /// When, since the network was made, on tokio's clock.
    pub at: Duration,
    /// Where the datagram came from.
    pub from: SocketAddr,
    /// Where it was sent.
    pub to: SocketAddr,
    /// The bytes of its UDP payload.
    pub len: usize,
    /// What happened to it.
    pub event: Event,
}

/// A record of everything that happens on the network, from [`crate::SimNet::tap`] until it is dropped.
#[derive(Debug)]
pub struct Tap(Arc<Mutex<TapBuffer>>);

#[derive(Debug, Default)]
struct TapBuffer {
    records: Vec<TapRecord>,
    missed: u64,
}

impl Tap {
    /// Everything seen so far, up to [`TAP_RECORDS_MAX`].
    pub fn records(&self) -> Vec<TapRecord> {
        lock(&self.0).records.clone()
    }

    /// How much came after [`TAP_RECORDS_MAX`] records.
    pub fn missed(&self) -> u64 {
        lock(&self.0).missed
    }
}

/// All counters and all taps.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    stats: HashMap<(IpAddr, IpAddr), Stats>,
    taps: Vec<Weak<Mutex<TapBuffer>>>,
}

impl Ledger {
    pub(super) fn note(&mut self, record: TapRecord) {
        self.stats.entry((record.from.ip(), record.to.ip())).or_default().count(record.event);
        self.taps.retain(|tap| {
            let Some(tap) = tap.upgrade() else { return false };
            let mut buffer = lock(&tap);
            if buffer.records.len() < TAP_RECORDS_MAX {
                buffer.records.push(record);
            } else {
                buffer.missed += 1;
            }
            true
        });
    }

    pub(super) fn stats(&self, from: IpAddr, to: IpAddr) -> Stats {
        self.stats.get(&(from, to)).copied().unwrap_or_default()
    }

    pub(super) fn totals(&self) -> Stats {
        let mut totals = Stats::default();
        self.stats.values().for_each(|stats| totals.add(stats));
        totals
    }

    pub(super) fn tap(&mut self) -> Tap {
        let tap = Arc::default();
        self.taps.push(Arc::downgrade(&tap));
        Tap(tap)
    }
}

fn lock(buffer: &Mutex<TapBuffer>) -> MutexGuard<'_, TapBuffer> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}
