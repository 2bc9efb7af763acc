//! How long bytes may take, on their way in and on their way out.

use std::time::Duration;

/// The slowest that a peer may be with what is more than a little, in bytes a second.
const RATE_LEAST: u64 = 64 * 1024;

/// The time that `bytes` may take: `patience`, which is for the peer and the path, and more for their number.
pub(super) fn time_for(patience: Duration, bytes: u64) -> Duration {
    patience + Duration::from_secs(bytes / RATE_LEAST)
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
}
