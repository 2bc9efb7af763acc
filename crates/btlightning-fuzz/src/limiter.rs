//! How many handshakes an address may try, and how many unknown addresses may knock.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use btlightning_proto::identity::{AttemptLimiter, AttemptLimits, Claimed, Hotkey, SourcePrefix};
use btlightning_proto::sources::{VisitorGate, VisitorLimits};

/// With the same hashes in every run, so that a failure can be repeated.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// Sixteen addresses, which are twelve sources: some IPv4, one of them in two spellings; some of one /64.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Address(u8);

impl Address {
    fn ip(self) -> IpAddr {
        let n = self.0 % 16;
        match n {
            0..6 => Ipv4Addr::new(192, 0, 2, n).into(),
            6 | 7 => Ipv4Addr::new(192, 0, 2, n - 6).to_ipv6_mapped().into(),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 0, (n / 2).into(), 0, 0, 0, n.into()).into(),
        }
    }

    fn source(self) -> u8 {
        let n = self.0 % 16;
        match n {
            0..6 => n,
            6 | 7 => n - 6,
            _ => n / 2 + 2,
        }
    }
}

#[derive(Debug, Arbitrary)]
struct Attempt {
    address: Address,
    /// A known hotkey that the request names.
    known: Option<u8>,
    /// It proved nothing.
    is_unproven: bool,
    /// What passes before it: mostly little.
    pause: u16,
    is_pause_long: bool,
}

const MINUTE: Duration = Duration::from_secs(60);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Attempts a minute, how many addresses and pairs are tracked, how many forgeries an address has, and attempts.
pub fn limiter(data: &[u8]) {
    let Some((&[per_minute, tracked, known_tracked, unproven], attempts)) = data.split_first_chunk() else {
        return;
    };
    let Ok(attempts) = Vec::<Attempt>::arbitrary_take_rest(Unstructured::new(attempts)) else { return };
    let limits = AttemptLimits {
        per_minute: u32::from(per_minute % 8),
        // Mostly room for everyone, since then the model says exactly what is allowed.
        tracked_max: if tracked < 160 { SOURCES } else { usize::from(tracked % 16) },
        known_tracked_max: if known_tracked < 160 { 3 * SOURCES } else { usize::from(known_tracked % 48) },
        unproven_per_minute: u32::from(unproven % 8),
    };
    let mut limiter = AttemptLimiter::<Hasher>::new(limits, Hasher::default());
    let mut model = Model::default();
    let mut now = *START;
    for Attempt { address, known, is_unproven, pause, is_pause_long } in attempts {
        now +=
            Duration::from_millis(if is_pause_long { u64::from(pause) * 4 } else { u64::from(pause) / 64 });
        let ip = address.ip();
        match known.map(|known| known % 3) {
            None => {
                let who = Who::Source(address.source());
                let allowed = limiter.allow(ip, Claimed::Unknown, now);
                model.check(who, limits.tracked_max >= SOURCES, allowed, limits.per_minute, now);
                model.count(who, allowed, limits.per_minute, now);
            }
            Some(known) => {
                let (key, who) = (hotkey(known), Who::Known(address.source(), known));
                let allowed = limiter.allow(ip, Claimed::Known(&key), now);
                let has_room = limits.known_tracked_max >= 3 * SOURCES;
                model.check(who, has_room, allowed, limits.per_minute, now);
                if is_unproven {
                    let forger = Who::Forger(address.source());
                    limiter.note_unproven(ip, now);
                    model.window(forger, now).used += 1;
                    let is_full = model.window(forger, now).used >= limits.unproven_per_minute;
                    let has_room = limits.tracked_max >= SOURCES;
                    assert!(
                        !has_room || limiter.has_overdrawn(ip, now) == is_full,
                        "forgeries are miscounted"
                    );
                } else if allowed {
                    limiter.note_proven(ip, &key, now);
                    model.count(who, true, limits.per_minute, now);
                }
            }
        }
        assert!(limiter.tracked() <= limits.tracked_max);
    }
    sources_are_as_counted();
}

const SOURCES: usize = 12;

fn sources_are_as_counted() {
    let prefixes: HashSet<_> = (0..16).map(|n| SourcePrefix::of(Address(n).ip())).collect();
    let counted: HashSet<_> = (0..16).map(|n| Address(n).source()).collect();
    assert!(prefixes.len() == counted.len() && counted.len() <= SOURCES);
}

fn hotkey(n: u8) -> Hotkey {
    Hotkey::from_public_key([n + 1; 32]).expect("not the identity point")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Source(u8),
    Known(u8, u8),
    Forger(u8),
}

/// A window for each, and a list of when something was allowed.
#[derive(Default)]
struct Model {
    windows: HashMap<Who, Window>,
    allowed: HashMap<Who, Vec<Instant>>,
}

struct Window {
    started: Instant,
    used: u32,
}

impl Model {
    /// The window that runs, begun now if there is none.
    fn window(&mut self, who: Who, now: Instant) -> &mut Window {
        let fresh = || Window { started: now, used: 0 };
        let window = self.windows.entry(who).or_insert_with(fresh);
        if now - window.started >= MINUTE {
            *window = fresh();
        }
        window
    }

    fn check(&self, who: Who, has_room: bool, allowed: bool, per_minute: u32, now: Instant) {
        let running = self.windows.get(&who).filter(|window| now - window.started < MINUTE);
        let expected = running.map_or(0, |window| window.used) < per_minute;
        assert!(!has_room || allowed == expected, "a window of its own, and {allowed} instead of {expected}");
    }

    fn count(&mut self, who: Who, allowed: bool, per_minute: u32, now: Instant) {
        self.window(who, now).used += u32::from(allowed);
        if allowed {
            let most = 3 * per_minute as usize;
            assert!(self.allowed_within_a_minute(who, now) <= most, "more than three windows' worth");
        }
    }

    fn allowed_within_a_minute(&mut self, who: Who, now: Instant) -> usize {
        let times = self.allowed.entry(who).or_default();
        times.push(now);
        times.retain(|time| now - *time < MINUTE);
        times.len()
    }
}

#[derive(Debug, Arbitrary)]
struct Visit {
    address: Address,
    is_retry: bool,
    pause: u16,
    is_pause_long: bool,
}

/// Visitors a minute and at once, packets a second, and visits.
pub fn visitors(data: &[u8]) {
    let Some((&[per_minute, burst, retries], visits)) = data.split_first_chunk() else { return };
    let Ok(visits) = Vec::<Visit>::arbitrary_take_rest(Unstructured::new(visits)) else { return };
    let limits = VisitorLimits {
        per_minute: per_minute.into(),
        burst: u32::from(burst % 16),
        retries_per_second: u32::from(retries % 16),
    };
    let mut gate = VisitorGate::<Hasher>::new(limits, Hasher::default());
    let (mut retries, mut visits_by_version) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut model = Model::default();
    let mut now = *START;
    for Visit { address, is_retry, pause, is_pause_long } in visits {
        now +=
            Duration::from_millis(if is_pause_long { u64::from(pause) * 4 } else { u64::from(pause) / 64 });
        if is_retry {
            let most = 2 * limits.retries_per_second.max(1);
            within(&mut retries, gate.may_retry(now), now, Duration::from_secs(1), most);
            continue;
        }
        let admitted = gate.admit(address.ip(), now);
        let is_ipv6 = address.ip().to_canonical().is_ipv6();
        let most = limits.per_minute.max(1) + limits.burst.max(1);
        within(&mut visits_by_version[usize::from(is_ipv6)], admitted, now, MINUTE, most);
        if admitted {
            let who = Who::Source(address.source());
            assert!(
                model.allowed_within_a_minute(who, now) <= 2,
                "an address comes in twice a minute at most"
            );
        }
    }
}

/// Notes what was allowed, of which there may be `most` in any time as long as `span`.
fn within(times: &mut Vec<Instant>, allowed: bool, now: Instant, span: Duration, most: u32) {
    if allowed {
        times.push(now);
    }
    times.retain(|time| now - *time < span);
    assert!(times.len() <= most as usize, "{} within {span:?}, and {most} are too many", times.len());
}
