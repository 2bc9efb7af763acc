//! What a handler's work usually takes, and so where it is done.
//!
//! To hand a request to another thread and its answer back takes some tens of microseconds of two processors. A handler
//! that takes less stays on the thread that has the request. It need not say so: its runs are timed. A run that was not
//! quick after all sends the handler away, and it has to be quick many times elsewhere before it comes back; more often
//! each time that this happens.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A handler whose runs take less on average stays on the I/O thread.
const QUICK: Duration = Duration::from_micros(25);

/// A single run that takes longer sends the handler away.
///
/// Long, because the clock does not stop for a thread that has to wait for a processor.
const SLOW: Duration = Duration::from_millis(5);

/// How many quick runs a handler that was sent away owes, the first time; the number doubles up to [`DEBT_MOST`].
const DEBT_LEAST: u32 = 64;
const DEBT_MOST: u32 = 65_536;

/// Requests up to this many bytes are judged apart from larger ones: for many a handler the size is all that counts.
const SMALL_BYTES: usize = 16 * 1024;

/// The habits of one handler.
#[derive(Debug, Default)]
pub(super) struct Habits {
    small: Habit,
    large: Habit,
}

impl Habits {
    /// Its habit with requests of this size.
    pub(super) fn with(&self, request_bytes: usize) -> &Habit {
        if request_bytes <= SMALL_BYTES { &self.small } else { &self.large }
    }
}

/// What runs took of late. Several threads may note runs at once; that one of them is lost now and then does no harm.
#[derive(Debug, Default)]
pub(super) struct Habit {
    /// The average, in nanoseconds. Later runs count more.
    average_ns: AtomicU32,
    /// The quick runs that it takes to be trusted again.
    debt: AtomicU32,
    /// The debt that the last slow run made.
    last_debt: AtomicU32,
}

impl Habit {
    /// Whether the next run belongs on the I/O thread. A handler that has never run is trusted.
    pub(super) fn is_quick(&self) -> bool {
        self.debt.load(Ordering::Relaxed) == 0
            && Duration::from_nanos(self.average_ns.load(Ordering::Relaxed).into()) < QUICK
    }

    /// Notes a run, wherever it was.
    pub(super) fn note(&self, took: Duration) {
        if took >= SLOW {
            self.distrust();
        } else if took < QUICK {
            let _ = self.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |debt| debt.checked_sub(1));
        }
        let took_ns = took.min(SLOW).as_nanos() as u32;
        let before = self.average_ns.load(Ordering::Relaxed);
        self.average_ns.store(before - before / 8 + took_ns / 8, Ordering::Relaxed);
    }

    /// A run was slow, or is still going on.
    pub(super) fn distrust(&self) {
        if self.debt.load(Ordering::Relaxed) > 0 {
            return;
        }
        let debt = (self.last_debt.load(Ordering::Relaxed) * 2).clamp(DEBT_LEAST, DEBT_MOST);
        self.last_debt.store(debt, Ordering::Relaxed);
        self.debt.store(debt, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn runs(habit: &Habit, took: Duration, times: u32) {
        for _ in 0..times {
            habit.note(took);
        }
    }

    #[test]
    fn a_handler_is_trusted_until_it_is_slow_once() {
        let habit = Habit::default();
        assert!(habit.is_quick());
        runs(&habit, us(5), 100);
        assert!(habit.is_quick());
        habit.note(us(6000));
        assert!(!habit.is_quick());
    }

    #[test]
    fn a_handler_that_is_rather_slow_leaves_and_one_that_becomes_quick_returns() {
        let habit = Habit::default();
        runs(&habit, us(60), 20);
        assert!(!habit.is_quick());
        runs(&habit, us(5), 40);
        assert!(habit.is_quick());
        habit.note(us(4_900));
        assert!(!habit.is_quick(), "one run in a thousand that takes long is one too many");
    }

    #[test]
    fn each_slow_run_takes_longer_to_be_forgiven() {
        let habit = Habit::default();
        let mut debts = Vec::new();
        for _ in 0..12 {
            habit.note(us(100_000));
            habit.note(us(100_000));
            let mut quick = 0;
            while !habit.is_quick() {
                habit.note(us(2));
                quick += 1;
            }
            debts.push(quick);
        }
        assert_eq!(debts[..3], [64, 128, 256]);
        assert_eq!(debts[11], 65_536);
    }

    #[test]
    fn large_requests_do_not_send_small_ones_away() {
        let habits = Habits::default();
        habits.with(1 << 20).note(us(5000));
        assert!(!habits.with(1 << 20).is_quick());
        assert!(habits.with(1 << 10).is_quick());
    }
}
