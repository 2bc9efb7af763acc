//! [`Link`]: what happens to datagrams on their way in one direction.

use std::time::Duration;

/// One direction between two hosts.
///
/// Datagrams keep their order, except those that `reorder` picks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// How long a datagram is on its way. Default: 1 ms.
    pub delay: Duration,
    /// The most that is added to `delay`, drawn evenly. A datagram that was sent later still arrives later. Default: 0.
    pub jitter: Duration,
    /// The share of datagrams that is lost, 0 to 1. Default: 0.
    pub loss: f64,
    /// The share of datagrams that arrives twice, 0 to 1. Default: 0.
    pub duplicate: f64,
    /// The share of datagrams that is held back by another half of `delay` and at least 1 ms, so that later ones
    /// overtake them, 0 to 1. Default: 0.
    pub reorder: f64,
    /// UDP payload bytes that pass in a second; none is no limit. Not 0. Default: none.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// UDP payload bytes that may wait for `bandwidth_bytes_per_second`; what comes on top is dropped. Default: 256 KiB.
    pub backlog_bytes_max: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            bandwidth_bytes_per_second: None,
            backlog_bytes_max: 256 * 1024,
        }
    }
}

impl Link {
    /// Panics if a field is out of its range: that is a mistake in the test.
    pub(super) fn assert_valid(&self) {
        for (name, share) in [("loss", self.loss), ("duplicate", self.duplicate), ("reorder", self.reorder)] {
            assert!((0.0..=1.0).contains(&share), "`{name}` of a link is {share}, not between 0 and 1");
        }
        assert_ne!(self.bandwidth_bytes_per_second, Some(0), "a link of no bandwidth is a partition");
    }

    /// By how much a datagram that is picked for reordering is held back.
    pub(super) fn held_back(&self) -> Duration {
        (self.delay / 2).max(Duration::from_millis(1))
    }
}
