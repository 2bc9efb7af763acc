//! Whether an I/O thread with nothing to do polls on for a moment or parks.
//!
//! Parking is cheap; being woken is not: between two threads or processes it is most of the time that a small request
//! takes. So after the last packet or job the thread polls its sockets for [`POLL_FOR`] before it parks. That is worth its
//! while only if something does arrive then, so it keeps score: where the pauses are longer, it parks at once, and tries
//! polling again now and then.

use std::time::{Duration, Instant};

/// How long after the last packet or job a thread polls on. About what waking it would take.
pub(super) const POLL_FOR: Duration = Duration::from_micros(50);

/// What a success or a failure counts in the share of successes.
const WEIGHT: f32 = 1.0 / 8.0;

/// The least share of successes that polling is kept up for.
const SHARE_LEAST: f32 = 0.25;

/// Below that share, one pause in this many is polled through, to see whether things have changed.
const TRY_EVERY: u32 = 16;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Poll,
    Park,
}

/// Whether polling has been worth its while of late.
#[derive(Debug)]
pub(super) struct Score {
    /// The share of pauses that ended while they were polled through, of late.
    share: f32,
    /// The pauses that were not polled through since one was.
    skipped: u32,
}

impl Default for Score {
    fn default() -> Self {
        Self { share: 0.5, skipped: 0 }
    }
}

impl Score {
    /// Whether the next pause is to be polled through.
    pub(super) fn is_worthwhile(&self) -> bool {
        self.share >= SHARE_LEAST || self.skipped >= TRY_EVERY
    }

    /// Notes a pause that was not polled through.
    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Notes a pause that was polled through, and whether something came in it.
    pub(super) fn note(&mut self, has_come: bool) {
        self.skipped = 0;
        self.share += (f32::from(u8::from(has_come)) - self.share) * WEIGHT;
    }
}

#[derive(Debug)]
pub(super) struct Polling {
    is_allowed: bool,
    score: Score,
    /// When the pause after what came last is given up.
    until: Option<Instant>,
    /// Whether that pause has begun.
    has_paused: bool,
}

impl Polling {
    /// For a thread that has a processor of its own, or has not.
    pub(super) fn new(is_allowed: bool) -> Self {
        Self { is_allowed, score: Score::default(), until: None, has_paused: false }
    }

    /// What to do at `now`; `is_busy` if there was something to do since the last time.
    pub(super) fn next(&mut self, is_busy: bool, now: Instant) -> Next {
        if !self.is_allowed {
            return if is_busy { Next::Poll } else { Next::Park };
        }
        if is_busy {
            if std::mem::take(&mut self.has_paused) {
                self.score.note(true);
            }
            self.until = Some(now + POLL_FOR);
            return Next::Poll;
        }
        match self.until {
            Some(until) if now < until && self.score.is_worthwhile() => {
                self.has_paused = true;
                Next::Poll
            }
            Some(_) => {
                self.note_park();
                Next::Park
            }
            None => Next::Park,
        }
    }

    fn note_park(&mut self) {
        self.until = None;
        if std::mem::take(&mut self.has_paused) {
            self.score.note(false);
        } else {
            self.score.skip();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets that come `apart`, many of them; the share of the time that was polled through at the end.
    fn polled(polling: &mut Polling, apart: Duration, packets: u32) -> f32 {
        let step = Duration::from_micros(1);
        let mut now = Instant::now();
        let (mut polls, mut steps) = (0, 0);
        for packet in 0..packets {
            let next_packet = now + apart;
            let mut is_busy = true;
            let mut is_parked = false;
            while now < next_packet {
                is_parked = is_parked || polling.next(is_busy, now) == Next::Park;
                is_busy = false;
                if packet * 2 > packets {
                    steps += 1;
                    polls += u32::from(!is_parked);
                }
                now += step;
            }
        }
        polls as f32 / steps as f32
    }

    #[test]
    fn packets_that_follow_each_other_are_waited_for_by_polling() {
        assert!(polled(&mut Polling::new(true), Duration::from_micros(20), 100) > 0.99);
        assert!(polled(&mut Polling::new(true), Duration::from_micros(45), 100) > 0.99);
    }

    #[test]
    fn packets_that_are_far_apart_cost_next_to_nothing() {
        let every_millisecond = polled(&mut Polling::new(true), Duration::from_millis(1), 500);
        assert!(every_millisecond < 0.006, "{every_millisecond}");
    }

    #[test]
    fn polling_is_taken_up_again_when_packets_come_close_again() {
        let mut polling = Polling::new(true);
        polled(&mut polling, Duration::from_millis(1), 200);
        assert!(polled(&mut polling, Duration::from_micros(20), 400) > 0.99);
    }

    #[test]
    fn one_processor_is_not_polled_on() {
        let mut polling = Polling::new(false);
        let now = Instant::now();
        assert_eq!(polling.next(true, now), Next::Poll);
        assert_eq!(polling.next(false, now), Next::Park);
    }
}
