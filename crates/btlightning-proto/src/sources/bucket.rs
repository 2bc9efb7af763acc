//! [`TokenBucket`], so many of something over time.

use std::time::{Duration, Instant};

/// Lets `burst` through at once, and one more each `interval`.
///
/// It keeps nothing but the time at which it would be full again, so it never overflows and never counts in fractions.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    interval: Duration,
    /// How far `full_at` may lie ahead for one more to be let through.
    slack: Duration,
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket. A `burst` of zero counts as one.
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, slack: interval.saturating_mul(burst.saturating_sub(1)), full_at: None }
    }

    /// Whether [`take`](Self::take) would succeed at `now`, a reading of a monotonic clock.
    pub fn has_token(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at.saturating_duration_since(now) <= self.slack)
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let has_token = self.has_token(now);
        if has_token {
            // A time that the clock cannot show is never reached; then the bucket stays as it is.
            let from = self.full_at.map_or(now, |full_at| full_at.max(now));
            self.full_at = from.checked_add(self.interval).or(self.full_at);
        }
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, now: Instant) -> usize {
        (0..1000).take_while(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut bucket = TokenBucket::new(second, 10);
        assert_eq!(taken(&mut bucket, start), 10);
        assert_eq!(taken(&mut bucket, start + second - Duration::from_nanos(1)), 0);
        assert_eq!(taken(&mut bucket, start + second), 1);
        assert_eq!(taken(&mut bucket, start + 4 * second), 3);
        // It fills up, and no further.
        assert_eq!(taken(&mut bucket, start + 1000 * second), 10);
    }

    #[test]
    fn readings_that_overtake_each_other_give_nothing_away() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut bucket = TokenBucket::new(second, 2);
        assert_eq!(taken(&mut bucket, start + second), 2);
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + 2 * second), 1);
    }

    #[test]
    fn a_burst_of_zero_is_one() {
        let mut bucket = TokenBucket::new(Duration::from_secs(1), 0);
        assert_eq!(taken(&mut bucket, Instant::now()), 1);
    }
}
