//! [`Backoff`], when to dial an address again.

use std::time::Duration;

/// How patient a client is with an address. Any values work; those out of order are put in order as the fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The first pause before jitter. Not longer than `max`.
    pub initial: Duration,
    /// The longest pause between retries, jitter included. At least a millisecond, at most a year.
    pub max: Duration,
    /// Retries before the address counts as dead.
    pub retries_max: u32,
    /// The first pause between probes of a dead address, before jitter; it doubles up to
    /// [`SLOW_PROBE_GROWTH_MAX`] times this. `None` gives dead addresses up.
    pub slow_probe: Option<Duration>,
}

/// Slow probes slow down to this many times their first pause: a miner that has been away for long is not likely to
/// be back this minute, and a subnet has many of them.
pub const SLOW_PROBE_GROWTH_MAX: u32 = 10;

/// What to do about an address that could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Dial again after this.
    Retry(Duration),
    /// The address is as good as dead; look whether it still is after this.
    Probe(Duration),
    /// Leave the address alone until somebody asks for it.
    GiveUp,
}

/// Counts the failures of one address.
///
/// Retries use *equal jitter*: the pause doubles from `initial` to `max`, and a random half of it is cut, so it lies
/// between half and all of the doubled value. A thousand clients that lose a miner at once come back spread out, and
/// none at once. Probes are spread by a tenth to either side.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    retries: u32,
    probes: u32,
}

impl Backoff {
    /// A backoff for an address that has not failed yet.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, retries: 0, probes: 0 }
    }

    /// The pause after one more failure. `entropy` is 64 random bits, which need not be secret.
    ///
    /// A pause is at least a millisecond. A retry's is at most `max`; a probe's is at most eleven times `slow_probe`.
    pub fn next_pause(&mut self, entropy: u64) -> Pause {
        if self.retries < self.policy.retries_max {
            let doubled = doubled(self.policy.initial, self.retries, clamp(self.policy.max));
            self.retries += 1;
            return Pause::Retry(spread(doubled / 2, doubled, entropy));
        }
        let Some(first) = self.policy.slow_probe else {
            return Pause::GiveUp;
        };
        let slowest = clamp(first.saturating_mul(SLOW_PROBE_GROWTH_MAX));
        let doubled = doubled(first, self.probes, slowest);
        self.probes = self.probes.saturating_add(1);
        Pause::Probe(spread(doubled - doubled / 10, doubled + doubled / 10, entropy))
    }

    /// The peer answered, and the answer was no. Asking again soon would be no use and a nuisance, so what follows is
    /// slow probes, or [`Pause::GiveUp`].
    pub fn refused(&mut self) {
        self.retries = self.policy.retries_max;
    }

    /// The address was reached; the next failure is a first one.
    pub fn reset(&mut self) {
        self.retries = 0;
        self.probes = 0;
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Long enough for anyone, and short enough to be added to any clock.
const PAUSE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn clamp(pause: Duration) -> Duration {
    pause.clamp(PAUSE_MIN, PAUSE_MAX)
}

/// `first` doubled `times` over, not above `max`.
fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    let factor = 1u32.checked_shl(times).unwrap_or(u32::MAX);
    clamp(first.saturating_mul(factor)).min(max)
}

/// A duration between `low` and `high`, both at most a few years, and at least a millisecond.
fn spread(low: Duration, high: Duration, entropy: u64) -> Duration {
    // Nanoseconds of a few years take 58 bits and 32 bits of entropy are plenty, so the product fits.
    let share = (high - low).as_nanos() * u128::from(entropy >> 32) / u128::from(u32::MAX);
    let share = Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
    (low + share).clamp(PAUSE_MIN, high.max(PAUSE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BackoffPolicy = BackoffPolicy {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        retries_max: 8,
        slow_probe: Some(Duration::from_secs(60)),
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn retries_double_up_to_the_longest_pause() {
        let mut backoff = Backoff::new(POLICY);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(backoff.next_pause(u64::MAX), Pause::Retry(secs(expected)));
        }
        assert!(matches!(backoff.next_pause(u64::MAX), Pause::Probe(_)));
    }

    #[test]
    fn jitter_cuts_at_most_half() {
        let mut backoff = Backoff::new(POLICY);
        assert_eq!(backoff.next_pause(0), Pause::Retry(Duration::from_millis(500)));
        assert_eq!(backoff.next_pause(0), Pause::Retry(secs(1)));
    }

    #[test]
    fn slow_probes_grow_slower_up_to_ten_times() {
        let mut backoff = Backoff::new(BackoffPolicy { retries_max: 0, ..POLICY });
        for expected in [60, 120, 240, 480, 600, 600] {
            assert_eq!(backoff.next_pause(u64::MAX), Pause::Probe(secs(expected + expected / 10)));
        }
        assert_eq!(backoff.next_pause(0), Pause::Probe(secs(540)));
    }

    #[test]
    fn a_refusal_leads_to_slow_probes_at_once() {
        let mut backoff = Backoff::new(POLICY);
        backoff.refused();
        assert!(matches!(backoff.next_pause(0), Pause::Probe(_)));
    }

    #[test]
    fn without_slow_probes_it_gives_up() {
        let mut backoff = Backoff::new(BackoffPolicy { retries_max: 1, slow_probe: None, ..POLICY });
        assert!(matches!(backoff.next_pause(0), Pause::Retry(_)));
        assert_eq!(backoff.next_pause(0), Pause::GiveUp);
        backoff.reset();
        assert!(matches!(backoff.next_pause(0), Pause::Retry(_)));
        backoff.refused();
        assert_eq!(backoff.next_pause(0), Pause::GiveUp);
    }
}
