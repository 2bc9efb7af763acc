//! How long bytes may take, on their way in and on their way out.

use std::time::Duration;

/// The slowest that a peer may be with what is more than a little, in bytes a second.
const RATE_LEAST: u64 = 64 * 1024;

/// The time that `bytes` may take: `patience`, which is for the peer and the path, and more for their number.
pub(super) fn time_for(patience: Duration, bytes: u64) -> Duration {
    patience + Duration::from_secs(bytes / RATE_LEAST)
}

/// How far behind its pace a reader may be, in bytes: whoever grants room for more does so in pieces of an eighth of a
/// window of 8 MiB.
const BEHIND_BYTES_MAX: u64 = 1024 * 1024;

/// The time that a peer has to take `bytes` of which it has taken `taken`: `patience`, and more for what it has taken, but
/// not for much of what it has not. So one that reads nothing is given up on early, however much there is for it.
pub(super) fn time_to_take(patience: Duration, bytes: u64, taken: u64) -> Duration {
    time_for(patience, bytes.min(taken.saturating_add(BEHIND_BYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_has_more_time() {
        let patience = Duration::from_secs(30);
        assert_eq!(time_for(patience, 1000), patience);
        assert_eq!(time_for(patience, 64 << 20), Duration::from_secs(30 + 1024));
    }

    #[test]
    fn who_takes_nothing_has_little_time_and_who_keeps_the_pace_has_enough() {
        let (patience, bytes) = (Duration::from_secs(30), 64 << 20);
        assert_eq!(time_to_take(patience, bytes, 0), patience + Duration::from_secs(16));
        for taken in (0..=bytes).step_by(1 << 20) {
            assert!(time_to_take(patience, bytes, taken) >= Duration::from_secs(taken / RATE_LEAST));
        }
        assert_eq!(time_to_take(patience, bytes, bytes), time_for(patience, bytes));
    }
}
