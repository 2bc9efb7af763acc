//! [`Fabric`]: the network as a plain data structure. It is told what time it is, and wakes nobody itself.

use super::{
    direction::{Direction, Fate},
    ledger::{Event, Ledger, TapRecord},
    link::Link,
    mailbox::{Datagram, MailboxId, Mailboxes},
    wire_addr,
};
use quinn::udp::Transmit;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    task::Waker,
};
use tokio::time::Instant;

/// The longest UDP payload in an IPv4 packet.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What may be on its way at a time in the whole network; what comes on top is dropped. A bound on memory, not a model.
const IN_FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a datagram costs beside its payload, counted towards [`IN_FLIGHT_BYTES_MAX`].
const DATAGRAM_OVERHEAD_BYTES: usize = 128;

/// The state of the whole network. All addresses in it are those on the wire.
#[derive(Debug)]
pub(super) struct Fabric {
    pub(super) ledger: Ledger,
    pub(super) mailboxes: Mailboxes,
    pub(super) default_link: Link,
    pub(super) links: HashMap<(IpAddr, IpAddr), Link>,
    /// Pairs that do not reach each other; every partition is in here in both directions.
    pub(super) cut: HashSet<(IpAddr, IpAddr)>,
    /// Addresses that send and receive nothing.
    pub(super) dark: HashSet<SocketAddr>,
    pub(super) receive_queue_datagrams_max: usize,
    seed: u64,
    epoch: Instant,
    directions: HashMap<(IpAddr, IpAddr), Direction>,
    in_flight: BinaryHeap<Reverse<Flight>>,
    in_flight_bytes: usize,
    flights: u64,
}

impl Fabric {
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self {
            ledger: Ledger::default(),
            mailboxes: Mailboxes::default(),
            default_link: Link::default(),
            links: HashMap::new(),
            cut: HashSet::new(),
            dark: HashSet::new(),
            receive_queue_datagrams_max: 4_096,
            seed,
            epoch: now,
            directions: HashMap::new(),
            in_flight: BinaryHeap::new(),
            in_flight_bytes: 0,
            flights: 0,
        }
    }

    /// Sends the datagrams of a transmit. True if one of them is due before everything else, and the carrier must know.
    pub(super) fn send(
        &mut self,
        now: Instant,
        sender: MailboxId,
        transmit: &Transmit<'_>,
    ) -> io::Result<bool> {
        let segment_bytes = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        if segment_bytes.min(transmit.contents.len()) > DATAGRAM_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "longer than a datagram can be"));
        }
        let Some(mailbox) = self.mailboxes.get(sender) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (from, to) = (mailbox.seen(), wire_addr(transmit.destination));
        let own_source = transmit.src_ip.is_none_or(|source| mailbox.may_send_as(source));
        let reachable = own_source && from.is_ipv4() == to.is_ipv4();

        let mut segments: Vec<&[u8]> = transmit.contents.chunks(segment_bytes).collect();
        if segments.is_empty() {
            segments.push(&[]);
        }
        let mut first = false;
        for payload in segments {
            self.note(now, from, to, payload.len(), Event::Sent);
            if !reachable {
                self.note(now, from, to, payload.len(), Event::Unreachable);
                continue;
            }
            first |= self.launch(now, Datagram { from, to, ecn: transmit.ecn, payload: payload.into() });
        }
        Ok(first)
    }

    /// Delivers what is due, and hands out the wakers of those who waited for it.
    pub(super) fn deliver(&mut self, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse(Flight { datagram, .. })) = self.in_flight.pop() else { break };
            self.in_flight_bytes -= weight(&datagram);
            let (from, to, len) = (datagram.from, datagram.to, datagram.payload.len());
            let event = if self.is_blocked(from, to) {
                Event::Blocked
            } else if let Some(mailbox) = self.mailboxes.seen_as(to) {
                match mailbox.accept(datagram, self.receive_queue_datagrams_max) {
                    Some(readers) => {
                        wakers.extend(readers);
                        Event::Delivered
                    }
                    None => Event::ReceiverFull,
                }
            } else {
                Event::Unreachable
            };
            self.note(now, from, to, len, event);
        }
        wakers
    }

    /// When the next datagram arrives.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(flight)| flight.due)
    }

    /// Decides what becomes of a datagram. True if it is now the next to arrive.
    fn launch(&mut self, now: Instant, datagram: Datagram) -> bool {
        let (from, to, len) = (datagram.from, datagram.to, datagram.payload.len());
        let pair = (from.ip(), to.ip());
        let link = self.links.get(&pair).unwrap_or(&self.default_link);
        let fresh = || Direction::new(self.seed, pair.0, pair.1, now);
        let direction = self.directions.entry(pair).or_insert_with(fresh);
        // Also for a blocked datagram, so that a partition does not shift the fates of those after it.
        let fate = direction.carry(now, link, len);
        if self.is_blocked(from, to) {
            self.note(now, from, to, len, Event::Blocked);
            return false;
        }
        match fate {
            Fate::LinkFull => self.note(now, from, to, len, Event::LinkFull),
            Fate::Lost => self.note(now, from, to, len, Event::Lost),
            Fate::Carried(due) => return self.fly(now, due, datagram),
            Fate::Duplicated(due, again) => {
                self.note(now, from, to, len, Event::Duplicated);
                let copy = datagram.clone();
                return self.fly(now, due, datagram) | self.fly(now, again, copy);
            }
        }
        false
    }

    fn fly(&mut self, now: Instant, due: Instant, datagram: Datagram) -> bool {
        let bytes = weight(&datagram);
        if self.in_flight_bytes + bytes > IN_FLIGHT_BYTES_MAX {
            self.note(now, datagram.from, datagram.to, datagram.payload.len(), Event::LinkFull);
            return false;
        }
        self.in_flight_bytes += bytes;
        let number = self.flights;
        self.flights += 1;
        self.in_flight.push(Reverse(Flight { due, number, datagram }));
        self.in_flight.peek().is_some_and(|Reverse(flight)| flight.number == number)
    }

    fn is_blocked(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.cut.contains(&(from.ip(), to.ip())) || self.dark.contains(&from) || self.dark.contains(&to)
    }

    fn note(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, len: usize, event: Event) {
        let at = now.duration_since(self.epoch);
        self.ledger.note(TapRecord { at, from, to, len, event });
    }
}

fn weight(datagram: &Datagram) -> usize {
    datagram.payload.len() + DATAGRAM_OVERHEAD_BYTES
}

/// A datagram and when it arrives. Those that arrive at the same time arrive in the order they were sent.
#[derive(Debug)]
struct Flight {
    due: Instant,
    number: u64,
    datagram: Datagram,
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}
