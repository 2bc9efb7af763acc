//! What becomes of a connection attempt, decided before anything is allocated for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use btlightning_proto::identity::SourcePrefix;

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

/// Decides about one attempt, in this order: whoever is not allowed learns nothing, and no slot is spent on an address
/// that may be forged.
pub(super) fn decide(
    strangers: &Arc<Strangers>,
    remote: SocketAddr,
    is_allowed: bool,
    needs_validation: bool,
) -> Admission {
    if !is_allowed {
        return Admission::Ignore;
    }
    if needs_validation {
        return Admission::Retry;
    }
    match strangers.enter(remote.ip()) {
        Ok(slot) => Admission::Admit(slot),
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
    use super::*;

    fn remote(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 9)
    }

    fn admitted(strangers: &Arc<Strangers>, text: &str) -> Result<StrangerSlot, Crowd> {
        match decide(strangers, remote(text), true, false) {
            Admission::Admit(slot) => Ok(slot),
            Admission::Refuse(crowd) => Err(crowd),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_source_that_is_not_allowed_gets_no_answer_and_an_unvalidated_one_no_slot() {
        let strangers = Strangers::new(1, 1);
        assert!(matches!(decide(&strangers, remote("10.0.0.1"), false, true), Admission::Ignore));
        assert!(matches!(decide(&strangers, remote("10.0.0.1"), true, true), Admission::Retry));
        admitted(&strangers, "10.0.0.1").unwrap();
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
