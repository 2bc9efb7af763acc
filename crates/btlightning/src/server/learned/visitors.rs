//! Who may try to authenticate from an address that is not on the list.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use btlightning_proto::sources::{VisitorGate, VisitorLimits};

/// The gate for visitors, and how many came to it.
#[derive(Debug)]
pub(in crate::server) struct Visitors {
    gate: Mutex<VisitorGate>,
    admitted: AtomicU64,
    turned_away: AtomicU64,
    dropped: AtomicU64,
}

/// What has come to the gate since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visits {
    pub(super) admitted: u64,
    pub(super) turned_away: u64,
    pub(super) dropped: u64,
}

impl Visitors {
    pub(in crate::server) fn new(limits: VisitorLimits) -> Self {
        Self {
            gate: Mutex::new(VisitorGate::new(limits, RandomState::new())),
            admitted: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether an address that may be forged may be sent a Retry.
    pub(in crate::server) fn may_retry(&self, now: Instant) -> bool {
        let may = self.gate().may_retry(now);
        if !may {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    /// Whether a validated address may try to authenticate.
    pub(in crate::server) fn admit(&self, ip: IpAddr, now: Instant) -> bool {
        let is_admitted = self.gate().admit(ip, now);
        let count = if is_admitted { &self.admitted } else { &self.turned_away };
        count.fetch_add(1, Ordering::Relaxed);
        is_admitted
    }

    pub(super) fn visits(&self) -> Visits {
        Visits {
            admitted: self.admitted.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn gate(&self) -> MutexGuard<'_, VisitorGate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
