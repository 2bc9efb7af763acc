//! Deadlines out of timeouts that callers may choose as long as they like.

use std::time::Duration;

use tokio::time::Instant;

/// `start + timeout`, or a day later where that cannot be said.
pub(crate) fn deadline_after(start: Instant, timeout: Duration) -> Instant {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    start.checked_add(timeout).unwrap_or_else(|| start + DAY)
}
