//! How many streams a validator may have open: few, until it uses many.
//!
//! QUIC's state has a place for each stream that the peer may open, and keeps what a stream needed for the next one, 450
//! bytes or so each: with 128 of them a connection that was once busy would hold 60 KiB for good. Most validators ask one
//! thing at a time.

use std::time::Duration;

use tokio::time::Instant;

/// Streams at the beginning.
pub(super) const FEW: u32 = 32;

/// What shows that more are wanted: so many at once, or within two round trips. They are granted while half of the few
/// are left, so that who wants many waits for one round trip at most, once.
const SIGN: u32 = FEW / 2;

/// Looks whether a connection needs more than a few streams.
#[derive(Debug, Default)]
pub(super) struct Credit {
    is_full: bool,
    /// Of those since `began`.
    opened: u32,
    began: Option<Instant>,
}

impl Credit {
    /// Notes that a stream was opened while others were `open`. True once: when all streams are to be granted.
    pub(super) fn note(&mut self, open: usize, round_trip: impl FnOnce() -> Duration) -> bool {
        if self.is_full {
            return false;
        }
        self.opened += 1;
        let mut is_wanted = open >= SIGN as usize;
        if self.opened == 1 {
            self.began = Some(Instant::now());
        } else if self.opened >= SIGN {
            self.opened = 0;
            is_wanted |= self.began.is_none_or(|began| began.elapsed() < 2 * round_trip());
        }
        self.is_full = is_wanted;
        is_wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn note(credit: &mut Credit, open: usize) -> bool {
        credit.note(open, || ROUND_TRIP)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_one_thing_after_the_other_has_few() {
        let mut credit = Credit::default();
        for _ in 0..1000 {
            assert!(!note(&mut credit, 1));
            tokio::time::advance(ROUND_TRIP / 3).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_much_within_a_round_trip_or_at_once_has_all_before_the_few_are_used_up() {
        let mut credit = Credit::default();
        assert!(!note(&mut credit, 0));
        tokio::time::advance(Duration::from_secs(3600)).await;
        let granted = (1..=FEW).find(|_| note(&mut credit, 0)).unwrap();
        assert!(granted < FEW, "{granted}");
        assert!(!note(&mut credit, 0), "it is granted once");

        let mut credit = Credit::default();
        for open in 0..SIGN as usize {
            assert!(!note(&mut credit, open));
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert!(note(&mut credit, SIGN as usize));
    }
}
