//! What becomes of a connection attempt, decided before anything is allocated for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::learned::Visitors;
use super::strangers::{Crowd, Strangers};
use crate::transport::io::Tenure;

/// What becomes of an attempt.
#[derive(Debug)]
pub(super) enum Admission {
    /// Not a packet in answer: the source is not on the allowlist, and may be forged.
    Ignore,
    /// The peer has to show that it receives what is sent to its address.
    Retry,
    /// There are too many strangers.
    Refuse(Crowd),
    /// It may try to authenticate. The slot is the tenure's.
    Admit(Tenure),
}

/// Decides about one attempt from an address that may connect. No slot is spent on one that may be forged.
pub(super) fn decide(strangers: &Arc<Strangers>, remote: SocketAddr, needs_validation: bool) -> Admission {
    if needs_validation {
        return Admission::Retry;
    }
    match strangers.enter(remote.ip()) {
        Ok(tenure) => Admission::Admit(tenure),
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
        Ok(tenure) if visitors.admit(remote.ip(), now) => Admission::Admit(tenure),
        Ok(_) => Admission::Ignore,
        Err(crowd) => Admission::Refuse(crowd),
    }
}

#[cfg(test)]
mod tests {
    use btlightning_proto::sources::VisitorLimits;

    use super::*;

    fn remote(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 9)
    }

    fn admitted(strangers: &Arc<Strangers>, text: &str) -> Result<Tenure, Crowd> {
        match decide(strangers, remote(text), false) {
            Admission::Admit(tenure) => Ok(tenure),
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

    #[tokio::test(start_paused = true)]
    async fn a_visitor_that_may_be_forged_costs_neither_a_visit_nor_a_slot() {
        let (strangers, now) = (Strangers::new(1, 1), Instant::now());
        let visitors = Visitors::new(VisitorLimits { per_minute: 60, burst: 1, retries_per_second: 2 });
        let visit =
            |is_validated| decide_visitor(&strangers, &visitors, remote("10.0.0.1"), is_validated, now);
        assert!(matches!(visit(false), Admission::Retry));
        assert!(matches!(visit(false), Admission::Retry));
        assert!(matches!(visit(false), Admission::Ignore), "more Retries than there may be");
        let held = visit(true);
        assert!(matches!(held, Admission::Admit(_)));
        assert!(matches!(visit(true), Admission::Refuse(Crowd::FromThisSource)));
        drop(held);
        assert!(matches!(visit(true), Admission::Ignore), "a second visit");
        assert_eq!(strangers.count().0, 0);
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
}
