//! When to dial again: any policy, and any history of failures, refusals and successes.

use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use btlightning_proto::peers::backoff::SLOW_PROBE_GROWTH_MAX;
use btlightning_proto::peers::{Backoff, BackoffPolicy, Pause};

#[derive(Debug, Arbitrary)]
struct History {
    initial: Duration,
    max: Duration,
    retries_max: u32,
    slow_probe: Option<Duration>,
    events: Vec<Event>,
}

#[derive(Debug, Arbitrary)]
enum Event {
    Failed { entropy: u64 },
    Refused,
    Reached,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A policy and what happens, in the form that `arbitrary` reads.
pub fn backoff(data: &[u8]) {
    let Ok(history) = History::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let History { initial, max, retries_max, slow_probe, events } = history;
    let mut backoff = Backoff::new(BackoffPolicy { initial, max, retries_max, slow_probe });
    let (mut failures, mut probes, mut highest) = (0, 0_u32, Duration::ZERO);
    for event in events {
        let entropy = match event {
            Event::Failed { entropy } => entropy,
            Event::Refused => {
                backoff.refused();
                failures = retries_max;
                continue;
            }
            Event::Reached => {
                backoff.reset();
                (failures, probes, highest) = (0, 0, Duration::ZERO);
                continue;
            }
        };
        // The longest and the shortest that luck allows, without moving on.
        let (longest, shortest) = (backoff.clone().next_pause(u64::MAX), backoff.clone().next_pause(0));
        let pause = backoff.next_pause(entropy);
        match (shortest, pause, longest) {
            (Pause::Retry(shortest), Pause::Retry(pause), Pause::Retry(longest)) => {
                assert!(failures < retries_max);
                assert!(shortest <= pause && pause <= longest);
                assert!(shortest >= (longest / 2).max(MILLISECOND), "half of it is jitter, no more");
                assert!(longest <= max.clamp(MILLISECOND, YEAR));
                assert!(longest >= highest, "pauses do not shrink");
                assert!(
                    failures > 0
                        || longest == initial.clamp(MILLISECOND, YEAR).min(max.clamp(MILLISECOND, YEAR))
                );
                highest = longest;
                failures += 1;
            }
            (Pause::Probe(shortest), Pause::Probe(pause), Pause::Probe(longest)) => {
                assert!(failures >= retries_max);
                assert!(shortest <= pause && pause <= longest && shortest >= MILLISECOND);
                let slowest = slow_probe.expect("it probes").saturating_mul(SLOW_PROBE_GROWTH_MAX);
                let slowest = slowest.clamp(MILLISECOND, YEAR);
                assert!(longest <= slowest + slowest / 10);
                assert!(probes == 0 || longest >= highest, "probes do not get faster");
                highest = longest;
                probes = probes.saturating_add(1);
            }
            (Pause::GiveUp, Pause::GiveUp, Pause::GiveUp) => {
                assert!(failures >= retries_max && slow_probe.is_none());
                continue;
            }
            other => panic!("luck decides more than the length: {other:?}"),
        }
        let (Pause::Retry(pause) | Pause::Probe(pause)) = pause else { continue };
        assert!(Instant::now().checked_add(pause).is_some(), "a pause that no clock can be told");
    }
}
