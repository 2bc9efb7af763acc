//! [`AttemptLimiter`], which decides how many handshakes an address may try.
//!
//! A handshake costs the server a signature verification, so strangers get only so many a minute. Who tries is told
//! by the IP address, which QUIC's address validation has shown to be real, and that is a coarse measure: a validator
//! may share its address with whoever else sits behind the same NAT. So there are two budgets:
//!
//! - [`Claimed::Unknown`]: one window an address, for requests that are garbage or name a hotkey nobody knows.
//! - [`Claimed::Known`]: one window an address *and hotkey*, for requests that name a hotkey the server would let in.
//!   Only what the hotkey's owner has signed counts in it ([`note_proven`](AttemptLimiter::note_proven)): neither garbage
//!   nor garbage that borrows the hotkey's name.
//!
//! What a forgery in a known name costs, a verification, is counted for its address
//! ([`note_unproven`](AttemptLimiter::note_unproven)). An address that has cost too many is not shut out, for the owner of
//! the name may share it. It [has overdrawn](AttemptLimiter::has_overdrawn), and the caller verifies for it when there is
//! nothing better to do. For a hotkey that is at home there only what was forged in its own name counts
//! ([`note_unproven_at_home`](AttemptLimiter::note_unproven_at_home)).

mod windows;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use self::windows::Windows;
use super::{Hotkey, SourcePrefix};

/// Counts handshake attempts by address, in windows of a minute.
///
/// # What it promises
///
/// - An address gets `per_minute` attempts in a window that begins with its first attempt, hence at most twice that in
///   any 60 seconds, however many other addresses there are: a full table never evicts a window that is running.
/// - Addresses that come when the table is full share [`SHARED_WINDOWS`] windows, and may be refused on each other's
///   account. One that goes from a window of its own through a shared one may get three times `per_minute` in 60
///   seconds, no more.
/// - An attempt costs a constant number of table operations, whatever the tables hold.
/// - Memory is bounded by `tracked_max` and `known_tracked_max`, about 100 bytes an address, as much for one that forges,
///   and 250 a known pair, and is allocated as needed. A known pair is tracked once it has proven itself, so strangers
///   cannot fill that table.
///
/// IPv4 addresses written as IPv6 count as IPv4. IPv6 addresses count by their /64, which is what one customer gets at
/// the least; who has a /48 has 65,536 of them, and ends up in the shared windows.
///
/// # What it costs at worst
///
/// Signature verifications in one window: `per_minute` for strangers at an address, `unproven_per_minute` for forgeries
/// in whatever known names, and `per_minute` for each known hotkey whose owner is there. With the default of 30 and 300
/// that is 330 a minute for an address at which nobody is known, 20 ms of one core. What an address wants beyond that has
/// the time that is left over.
#[derive(Debug)]
pub struct AttemptLimiter<S = RandomState> {
    limits: AttemptLimits,
    unknown: Windows<SourcePrefix, S>,
    known: Windows<(SourcePrefix, Hotkey), S>,
    unproven: Windows<SourcePrefix, S>,
    unproven_at_home: Windows<(SourcePrefix, Hotkey), S>,
}

/// The bounds of an [`AttemptLimiter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Attempts in a window of a minute, for an address as for a known hotkey at an address. Zero lets nobody in.
    pub per_minute: u32,
    /// Addresses that have a window to themselves.
    pub tracked_max: usize,
    /// Pairs of address and known hotkey that have a window to themselves.
    pub known_tracked_max: usize,
    /// Forgeries in the name of known hotkeys from an address in a window, before it has overdrawn. As many in the name of
    /// one that is at home there.
    pub unproven_per_minute: u32,
}

impl AttemptLimits {
    /// The two published settings, and what follows from them: as many known pairs as addresses, and ten unproven
    /// attempts for each one allowed.
    pub fn new(per_minute: u32, tracked_max: usize) -> Self {
        Self {
            per_minute,
            tracked_max,
            known_tracked_max: tracked_max,
            unproven_per_minute: per_minute.saturating_mul(10),
        }
    }
}

/// Windows shared by whoever comes when a table is full.
pub const SHARED_WINDOWS: usize = 1024;

/// Whom a handshake claims to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed<'a> {
    /// Nobody whom the server knows, or the request could not be read.
    Unknown,
    /// A hotkey that has a permit, or that has authenticated before. It is the caller who looks that up; hotkeys that
    /// anyone can make up must not be called known, because each brings a budget of its own.
    Known(&'a Hotkey),
}

impl<S: BuildHasher + Clone> AttemptLimiter<S> {
    /// A limiter that has seen nobody. `hasher` must be keyed with something that peers cannot know, as
    /// [`RandomState`] is, or they could choose whom to share a window with.
    pub fn new(limits: AttemptLimits, hasher: S) -> Self {
        Self {
            limits,
            unknown: Windows::new(limits.tracked_max, hasher.clone()),
            known: Windows::new(limits.known_tracked_max, hasher.clone()),
            unproven: Windows::new(limits.tracked_max, hasher.clone()),
            unproven_at_home: Windows::new(limits.known_tracked_max, hasher),
        }
    }

    /// Says whether an attempt may go on, and counts it if it claims nobody who is known; one in a known name is counted
    /// once it has turned out to be proven or not. `now` comes from a monotonic clock; readings that overtake each other by
    /// a little, as those of several threads do, are harmless.
    pub fn allow(&mut self, ip: IpAddr, claimed: Claimed<'_>, now: Instant) -> bool {
        let (prefix, per_minute) = (SourcePrefix::of(ip), self.limits.per_minute);
        match claimed {
            Claimed::Unknown => self.unknown.charged(prefix, now).take(per_minute),
            Claimed::Known(hotkey) => match self.known.running(&(prefix, *hotkey), now) {
                Some(window) => window.has_left(per_minute),
                None => per_minute > 0,
            },
        }
    }

    /// Counts an attempt in a known name whose signature is the owner's.
    pub fn note_proven(&mut self, ip: IpAddr, known: &Hotkey, now: Instant) {
        self.known.charged((SourcePrefix::of(ip), *known), now).take(self.limits.per_minute);
    }

    /// Counts an attempt in a known name whose signature was looked at and is not the owner's. It is not held against
    /// the owner, who may share the address. What was refused before that, for its time or its form, has cost nothing.
    pub fn note_unproven(&mut self, ip: IpAddr, now: Instant) {
        self.unproven.charged(SourcePrefix::of(ip), now).take(self.limits.unproven_per_minute);
    }

    /// Whether `unproven_per_minute` forgeries came from the address of late: then what it claims is to be verified only
    /// when nobody else waits for that.
    pub fn has_overdrawn(&mut self, ip: IpAddr, now: Instant) -> bool {
        let unproven_max = self.limits.unproven_per_minute;
        self.unproven.running(&SourcePrefix::of(ip), now).is_some_and(|window| !window.has_left(unproven_max))
    }

    /// Counts an unproven attempt in the name of a hotkey that has proven itself from there before; the caller knows which.
    /// It is one for the [address](Self::note_unproven), too.
    pub fn note_unproven_at_home(&mut self, ip: IpAddr, known: &Hotkey, now: Instant) {
        let pair = (SourcePrefix::of(ip), *known);
        self.unproven_at_home.charged(pair, now).take(self.limits.unproven_per_minute);
    }

    /// Whether `unproven_per_minute` forgeries came of late in the name of `known` from the address where it is at home.
    pub fn has_overdrawn_at_home(&mut self, ip: IpAddr, known: &Hotkey, now: Instant) -> bool {
        let unproven_max = self.limits.unproven_per_minute;
        let window = self.unproven_at_home.running(&(SourcePrefix::of(ip), *known), now);
        window.is_some_and(|window| !window.has_left(unproven_max))
    }

    /// How many addresses have a window to themselves; windows that are over count until they are reclaimed.
    pub fn tracked(&self) -> usize {
        self.unknown.tracked()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const PER_MINUTE: u32 = 3;
    const MINUTE: Duration = Duration::from_secs(60);

    fn limiter(tracked_max: usize) -> AttemptLimiter {
        AttemptLimiter::new(AttemptLimits::new(PER_MINUTE, tracked_max), RandomState::new())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn hotkey(n: u8) -> Hotkey {
        Hotkey::from_public_key([n; 32]).unwrap()
    }

    fn exhaust(limiter: &mut AttemptLimiter, ip: IpAddr, claimed: Claimed<'_>, now: Instant) {
        for _ in 0..PER_MINUTE {
            assert!(limiter.allow(ip, claimed, now));
        }
        assert!(!limiter.allow(ip, claimed, now));
    }

    #[test]
    fn an_address_gets_its_attempts_again_when_its_minute_is_over() {
        let (mut limiter, start) = (limiter(10), Instant::now());
        exhaust(&mut limiter, address(1), Claimed::Unknown, start);
        assert!(!limiter.allow(address(1), Claimed::Unknown, start + MINUTE - Duration::from_nanos(1)));
        exhaust(&mut limiter, address(1), Claimed::Unknown, start + MINUTE);
    }

    #[test]
    fn ipv6_counts_by_its_first_half_and_mapped_ipv4_as_ipv4() {
        let (mut limiter, now) = (limiter(10), Instant::now());
        exhaust(&mut limiter, ip("2001:db8:1:2::1"), Claimed::Unknown, now);
        assert!(!limiter.allow(ip("2001:db8:1:2:ffff::9"), Claimed::Unknown, now));
        assert!(limiter.allow(ip("2001:db8:1:3::1"), Claimed::Unknown, now));
        exhaust(&mut limiter, ip("::ffff:192.0.2.1"), Claimed::Unknown, now);
        assert!(!limiter.allow(ip("192.0.2.1"), Claimed::Unknown, now));
    }

    #[test]
    fn filling_the_table_resets_nobody() {
        let (mut limiter, start) = (limiter(10), Instant::now());
        exhaust(&mut limiter, address(0), Claimed::Unknown, start);
        for n in 1..10_000 {
            limiter.allow(address(n), Claimed::Unknown, start + Duration::from_secs(1));
        }
        assert_eq!(limiter.tracked(), 10);
        assert!(!limiter.allow(address(0), Claimed::Unknown, start + Duration::from_secs(59)));
    }

    #[test]
    fn newcomers_to_a_full_table_are_counted_too_and_keep_their_count_when_room_comes() {
        let (mut limiter, start) = (limiter(1), Instant::now());
        limiter.allow(address(0), Claimed::Unknown, start);
        let later = start + MINUTE - Duration::from_secs(1);
        exhaust(&mut limiter, address(1), Claimed::Unknown, later);
        // The first address's window is over and its place free, but the second's shared window still runs.
        assert!(!limiter.allow(address(1), Claimed::Unknown, start + MINUTE));
        exhaust(&mut limiter, address(1), Claimed::Unknown, later + MINUTE);
        assert_eq!(limiter.tracked(), 1);
    }

    #[test]
    fn places_are_reclaimed_when_their_minute_is_over() {
        let (mut limiter, start) = (limiter(4), Instant::now());
        for n in 0..4 {
            limiter.allow(address(n), Claimed::Unknown, start);
        }
        limiter.allow(address(9), Claimed::Unknown, start + MINUTE);
        limiter.allow(address(9), Claimed::Unknown, start + MINUTE);
        assert_eq!(limiter.tracked(), 1);
    }

    fn exhaust_proven(limiter: &mut AttemptLimiter, ip: IpAddr, known: &Hotkey, now: Instant) {
        for _ in 0..PER_MINUTE {
            assert!(limiter.allow(ip, Claimed::Known(known), now));
            limiter.note_proven(ip, known, now);
        }
        assert!(!limiter.allow(ip, Claimed::Known(known), now));
    }

    #[test]
    fn garbage_does_not_lock_out_a_known_hotkey_at_the_same_address() {
        let (mut limiter, now) = (limiter(10), Instant::now());
        exhaust(&mut limiter, address(1), Claimed::Unknown, now);
        exhaust_proven(&mut limiter, address(1), &hotkey(1), now);
        exhaust_proven(&mut limiter, address(1), &hotkey(2), now);
        exhaust_proven(&mut limiter, address(2), &hotkey(1), now);
        assert!(limiter.allow(address(1), Claimed::Known(&hotkey(1)), now + MINUTE));
    }

    #[test]
    fn forgeries_in_a_known_name_are_counted_for_their_address_and_never_for_the_name() {
        let (mut limiter, now) = (limiter(10), Instant::now());
        for _ in 0..10 * PER_MINUTE {
            assert!(!limiter.has_overdrawn(address(1), now));
            assert!(limiter.allow(address(1), Claimed::Known(&hotkey(1)), now));
            limiter.note_unproven(address(1), now);
        }
        assert!(limiter.has_overdrawn(address(1), now));
        assert!(!limiter.has_overdrawn(address(2), now) && !limiter.has_overdrawn(address(1), now + MINUTE));
        exhaust_proven(&mut limiter, address(1), &hotkey(1), now);
    }

    #[test]
    fn at_home_a_hotkey_answers_for_forgeries_in_its_own_name_only() {
        let (mut limiter, now) = (limiter(10), Instant::now());
        for _ in 0..10 * PER_MINUTE {
            assert!(!limiter.has_overdrawn_at_home(address(1), &hotkey(1), now));
            limiter.note_unproven(address(1), now);
            limiter.note_unproven_at_home(address(1), &hotkey(1), now);
        }
        assert!(limiter.has_overdrawn(address(1), now));
        assert!(limiter.has_overdrawn_at_home(address(1), &hotkey(1), now));
        assert!(!limiter.has_overdrawn_at_home(address(1), &hotkey(2), now));
        assert!(!limiter.has_overdrawn_at_home(address(2), &hotkey(1), now));
        assert!(!limiter.has_overdrawn_at_home(address(1), &hotkey(1), now + MINUTE));
    }

    #[test]
    fn forgeries_fill_no_place_of_those_who_prove_themselves() {
        let (mut limiter, now) = (limiter(10), Instant::now());
        for n in 0..5_000 {
            limiter.allow(address(n), Claimed::Known(&hotkey(1)), now);
            limiter.note_unproven(address(n), now);
        }
        for n in 0..10 {
            exhaust_proven(&mut limiter, address(10_000 + n), &hotkey(2), now);
        }
        assert_eq!(limiter.known.tracked(), 10);
    }

    #[test]
    fn a_table_without_places_still_counts() {
        let (mut limiter, now) = (limiter(0), Instant::now());
        exhaust(&mut limiter, address(1), Claimed::Unknown, now);
        assert_eq!(limiter.tracked(), 0);
    }
}
