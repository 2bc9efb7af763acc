//! [`VisitorGate`], how many unknown addresses may try.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::TokenBucket;
use crate::identity::{AttemptLimiter, AttemptLimits, Claimed};

/// Decides which addresses that are not on an enforced list may show who they are.
///
/// # What it promises
///
/// - At most `per_minute` and once `burst` visitors of each IP version. The versions do not share, since who has a large
///   block of IPv6 has more prefixes than there are visitors, and an IPv4 address costs money.
/// - An address (a /64 of IPv6) is let in at most twice in any 60 seconds, and once in a minute that begins with its
///   first visit.
/// - An address that is turned away because too many others came has not used up its own visit.
/// - At most `retries_per_second`, and once as many, packets go to addresses that may be forged.
/// - Memory does not grow beyond [`SOURCES_TRACKED_MAX`] addresses of about 100 bytes.
///
/// It is for validated addresses: a forged one must not use up visits. Ask [`may_retry`](Self::may_retry) first.
#[derive(Debug)]
pub struct VisitorGate<S = RandomState> {
    ipv4: TokenBucket,
    ipv6: TokenBucket,
    retries: TokenBucket,
    by_source: AttemptLimiter<S>,
}

/// How many visitors there may be. Zeros count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisitorLimits {
    /// Visitors of each IP version in a minute. Default: 60.
    pub per_minute: u32,
    /// Visitors of each IP version at once, after a quiet time. Default: 10.
    pub burst: u32,
    /// QUIC Retry packets to unknown addresses, in a second and at once. Default: 50.
    pub retries_per_second: u32,
}

impl Default for VisitorLimits {
    fn default() -> Self {
        Self { per_minute: 60, burst: 10, retries_per_second: 50 }
    }
}

/// Addresses whose visits are counted each for itself; later ones share.
pub const SOURCES_TRACKED_MAX: usize = 10_000;

const VISITS_PER_SOURCE_AND_MINUTE: u32 = 1;

impl<S: BuildHasher + Clone> VisitorGate<S> {
    /// A gate that nobody has come to. `hasher` must be keyed with something that peers cannot know.
    pub fn new(limits: VisitorLimits, hasher: S) -> Self {
        let visits = TokenBucket::new(Duration::from_secs(60) / limits.per_minute.max(1), limits.burst);
        let retries_per_second = limits.retries_per_second.max(1);
        let by_source = AttemptLimits {
            known_tracked_max: 0,
            ..AttemptLimits::new(VISITS_PER_SOURCE_AND_MINUTE, SOURCES_TRACKED_MAX)
        };
        Self {
            ipv4: visits.clone(),
            ipv6: visits,
            retries: TokenBucket::new(Duration::from_secs(1) / retries_per_second, retries_per_second),
            by_source: AttemptLimiter::new(by_source, hasher),
        }
    }

    /// Whether an address that may be forged may be asked to show that it is not. Counts if so. `now` comes from a
    /// monotonic clock.
    pub fn may_retry(&mut self, now: Instant) -> bool {
        self.retries.take(now)
    }

    /// Whether a validated address may try to authenticate. Counts if so.
    pub fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let visits = match ip.to_canonical() {
            IpAddr::V4(_) => &mut self.ipv4,
            IpAddr::V6(_) => &mut self.ipv6,
        };
        visits.has_token(now) && self.by_source.allow(ip, Claimed::Unknown, now) && visits.take(now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const LIMITS: VisitorLimits = VisitorLimits { per_minute: 60, burst: 3, retries_per_second: 5 };

    fn gate() -> VisitorGate {
        VisitorGate::new(LIMITS, RandomState::new())
    }

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn v6(n: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1).into()
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_crowd_gets_the_burst_and_then_its_rate() {
        let (mut gate, start) = (gate(), Instant::now());
        let admitted = |gate: &mut VisitorGate, from: u32, now| {
            (from..from + 500).filter(|n| gate.admit(v4(*n), now)).count()
        };
        assert_eq!(admitted(&mut gate, 0, start), 3);
        assert_eq!(admitted(&mut gate, 1000, start + secs(1)), 1);
        assert_eq!(admitted(&mut gate, 2000, start + secs(3)), 2);
    }

    #[test]
    fn an_address_visits_once_a_minute() {
        let (mut gate, start) = (gate(), Instant::now());
        assert!(gate.admit(v4(1), start));
        assert!(!gate.admit(v4(1), start + secs(59)));
        assert!(!gate.admit("::ffff:10.0.0.1".parse().unwrap(), start + secs(59)));
        assert!(gate.admit(v4(1), start + secs(60)));
        assert!(gate.admit(v6(1), start));
        assert!(!gate.admit("2001:db8:1:1:ffff::9".parse().unwrap(), start));
    }

    #[test]
    fn who_is_turned_away_for_the_crowd_has_its_visit_left() {
        let (mut gate, start) = (gate(), Instant::now());
        for n in 0..3 {
            assert!(gate.admit(v4(n), start));
        }
        assert!(!gate.admit(v4(9), start));
        assert!(gate.admit(v4(9), start + secs(1)));
    }

    #[test]
    fn a_visit_that_is_refused_to_an_address_is_left_to_the_others() {
        let (mut gate, start) = (gate(), Instant::now());
        assert!(gate.admit(v4(1), start));
        for _ in 0..100 {
            assert!(!gate.admit(v4(1), start));
        }
        assert!(gate.admit(v4(2), start) && gate.admit(v4(3), start));
    }

    #[test]
    fn a_block_of_ipv6_does_not_use_up_the_visits_of_ipv4() {
        let (mut gate, start) = (gate(), Instant::now());
        assert_eq!((0..1000).filter(|n| gate.admit(v6(*n), start)).count(), 3);
        assert!(gate.admit(v4(1), start));
    }

    #[test]
    fn packets_to_addresses_that_may_be_forged_are_bounded() {
        let (mut gate, start) = (gate(), Instant::now());
        assert_eq!((0..1000).filter(|_| gate.may_retry(start)).count(), 5);
        assert_eq!((0..1000).filter(|_| gate.may_retry(start + secs(1))).count(), 5);
        // They cost nobody a visit.
        assert!(gate.admit(v4(1), start));
    }
}
