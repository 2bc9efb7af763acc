//! What becomes of a connection attempt, decided before anything is allocated for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use btlightning_proto::identity::SourcePrefix;

use super::learned::Visitors;

/// What becomes of an attempt.
#[derive(Debug)]
pub(super) enum Admission {
    /// Not a packet in answer: the source is not on the allowlist, and may be forged.
    Ignore,
    /// The peer has to show that it receives what is sent to its address.
    Retry,
    /// There are too many strangers.
    Refuse(Crowd),
    /// It may try to authenticate, as long as it holds the slot.
    Admit(StrangerSlot),
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    /// `max_unauthenticated_connections`.
    InAll,
    /// `max_unauthenticated_connections_per_ip`.
    FromThisSource,
}

/// Decides about one attempt from an address that may connect. No slot is spent on one that may be forged.
pub(super) fn decide(strangers: &Arc<Strangers>, remote: SocketAddr, needs_validation: bool) -> Admission {
    if needs_validation {
        return Admission::Retry;
    }
    match strangers.enter(remote.ip()) {
        Ok(slot) => Admission::Admit(slot),
        Err(crowd) => Admission::Refuse(crowd),
    }
}

/// Decides about one attempt from an address that is not on the learned list. It is validated whether or not others
/// are: neither a visit nor a slot is spent on an address that may be forged, and few packets.
pub(super) fn decide_visitor(
    strangers: &Arc<Strangers>,
    visitors: &Visitors,
    remote: SocketAddr,
    is_validated: bool,
    now: Instant,
) -> Admission {
    if !is_validated {
        return match visitors.may_retry(now) {
            true => Admission::Retry,
            false => Admission::Ignore,
        };
    }
    // The slot first: a visit that finds none is not used up.
    match strangers.enter(remote.ip()) {
        Ok(slot) if visitors.admit(remote.ip(), now) => Admission::Admit(slot),
        Ok(_) => Admission::Ignore,
        Err(crowd) => Admission::Refuse(crowd),
    }
}

/// The connections that have not authenticated, counted in all and by source.
#[derive(Debug)]
pub(super) struct Strangers {
    in_all_max: usize,
    per_source_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    in_all: usize,
    by_source: HashMap<SourcePrefix, usize>,
}

impl Strangers {
    pub(super) fn new(in_all_max: usize, per_source_max: usize) -> Arc<Self> {
        Arc::new(Self { in_all_max, per_source_max, held: Mutex::default() })
    }

    fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<StrangerSlot, Crowd> {
        let source = SourcePrefix::of(ip);
        let mut held = self.held();
        if held.in_all >= self.in_all_max {
            return Err(Crowd::InAll);
        }
        let from_source = held.by_source.entry(source).or_default();
        // A source that holds nothing has an entry only while the bound is zero, which the configuration refuses.
        if *from_source >= self.per_source_max {
            return Err(Crowd::FromThisSource);
        }
        *from_source += 1;
        held.in_all += 1;
        Ok(StrangerSlot { strangers: self.clone(), source })
    }

    fn leave(&self, source: SourcePrefix) {
        let mut held = self.held();
        held.in_all -= 1;
        if let Some(from_source) = held.by_source.get_mut(&source) {
            *from_source -= 1;
            if *from_source == 0 {
                held.by_source.remove(&source);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one stranger; free again when dropped.
#[derive(Debug)]
pub(super) struct StrangerSlot {
    strangers: Arc<Strangers>,
    source: SourcePrefix,
}

impl Drop for StrangerSlot {
    fn drop(&mut self) {
        self.strangers.leave(self.source);
    }
}

#[cfg(test)]
mod tests {
    use btlightning_proto::sources::VisitorLimits;

    use super::*;

    fn remote(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 9)
    }

    fn admitted(strangers: &Arc<Strangers>, text: &str) -> Result<StrangerSlot, Crowd> {
        match decide(strangers, remote(text), false) {
            Admission::Admit(slot) => Ok(slot),
            Admission::Refuse(crowd) => Err(crowd),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unvalidated_source_gets_no_slot() {
        let strangers = Strangers::new(1, 1);
        assert!(matches!(decide(&strangers, remote("10.0.0.1"), true), Admission::Retry));
        admitted(&strangers, "10.0.0.1").unwrap();
    }

    #[test]
    fn a_visitor_that_may_be_forged_costs_neither_a_visit_nor_a_slot() {
        let (strangers, now) = (Strangers::new(1, 1), Instant::now());
        let visitors = Visitors::new(VisitorLimits { per_minute: 60, burst: 1, retries_per_second: 2 });
        let visit =
            |is_validated| decide_visitor(&strangers, &visitors, remote("10.0.0.1"), is_validated, now);
        assert!(matches!(visit(false), Admission::Retry));
        assert!(matches!(visit(false), Admission::Retry));
        assert!(matches!(visit(false), Admission::Ignore), "more Retries than there may be");
        let held = visit(true);
        assert!(matches!(held, Admission::Admit(_)));
        assert!(matches!(visit(true), Admission::Refuse(Crowd::InAll)));
        drop(held);
        assert!(matches!(visit(true), Admission::Ignore), "a second visit");
        assert_eq!(strangers.held().in_all, 0);
    }

    #[test]
    fn a_visitor_that_finds_no_slot_may_come_again() {
        let (strangers, now) = (Strangers::new(1, 1), Instant::now());
        let visitors = Visitors::new(VisitorLimits::default());
        let known = admitted(&strangers, "10.0.0.9").unwrap();
        let visit = || decide_visitor(&strangers, &visitors, remote("10.0.0.1"), true, now);
        assert!(matches!(visit(), Admission::Refuse(Crowd::InAll)));
        drop(known);
        assert!(matches!(visit(), Admission::Admit(_)));
    }

    #[test]
    fn strangers_are_bounded_by_source_and_in_all() {
        let strangers = Strangers::new(3, 2);
        let first = admitted(&strangers, "10.0.0.1").unwrap();
        let _second = admitted(&strangers, "::ffff:10.0.0.1").unwrap();
        assert_eq!(admitted(&strangers, "10.0.0.1").unwrap_err(), Crowd::FromThisSource);
        let _other = admitted(&strangers, "10.0.0.2").unwrap();
        assert_eq!(admitted(&strangers, "10.0.0.3").unwrap_err(), Crowd::InAll);
        drop(first);
        admitted(&strangers, "10.0.0.1").unwrap();
    }

    #[test]
    fn ipv6_counts_by_its_64() {
        let strangers = Strangers::new(9, 1);
        let _held = admitted(&strangers, "2001:db8:1:2::1").unwrap();
        assert_eq!(admitted(&strangers, "2001:db8:1:2:ffff::9").unwrap_err(), Crowd::FromThisSource);
        admitted(&strangers, "2001:db8:1:3::1").unwrap();
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let strangers = Strangers::new(2, 2);
        drop((admitted(&strangers, "10.0.0.1").unwrap(), admitted(&strangers, "10.0.0.1").unwrap()));
        let held = strangers.held();
        assert_eq!((held.in_all, held.by_source.len()), (0, 0));
    }
}
