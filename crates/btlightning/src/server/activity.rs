//! What a session is doing, and since when it does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When a session last did something, and what it is doing.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    last_millis: AtomicU64,
    in_flight: AtomicUsize,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self { began: now, last_millis: AtomicU64::new(0), in_flight: AtomicUsize::new(0) })
    }

    /// Notes that a request has begun; it ends when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// How many requests are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How long nothing has happened. `None` while a request is in flight.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        if self.in_flight() > 0 {
            return None;
        }
        let last = self.began + Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        Some(now.saturating_duration_since(last))
    }

    fn touch(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.began).as_millis();
        self.last_millis.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch(Instant::now());
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
