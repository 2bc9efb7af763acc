//! [`Roster`], the addresses of permitted hotkeys, and whether they are complete enough to keep others out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    ADDRESSES_PER_HOTKEY_MAX, CLOCK_SECS_MIN, HOTKEYS_MAX, HotkeyRecord, RosterPolicy, RosterRecord,
    SeenAddress,
};
use crate::identity::Hotkey;

/// Remembers where permitted hotkeys were seen, and decides whether others are turned away.
///
/// It is told three things: who holds a permit and how much stake ([`permitted`](Self::permitted)), who has proven itself
/// from where ([`observe`](Self::observe)), and which connections live ([`present`](Self::present)). All times are Unix
/// seconds of a clock that should be steady.
///
/// # What it promises
///
/// - [`Mode::Enforcing`] comes with at least one allowed address, and with addresses of at least
///   `coverage_to_relax_permille` of the permitted stake, by a list of permits that is not too old.
/// - A hotkey without a permit adds no address, and one with a permit holds at most [`ADDRESSES_PER_HOTKEY_MAX`].
/// - An empty list of permits, or one without any stake, changes nothing: it is what a failing chain looks like.
/// - A clock that jumps ahead makes addresses old, and then everybody passes; put right, it finds them as they were. One
///   that jumps back makes them young. Neither empties an enforced list.
/// - A clock that is not set ([`CLOCK_SECS_MIN`]) makes nothing old or young: the roster goes on as it was, counting from
///   the latest time that it knows of.
/// - At most [`HOTKEYS_MAX`] hotkeys are remembered, about 300 bytes each.
#[derive(Debug, Clone)]
pub struct Roster {
    policy: RosterPolicy,
    mode: Mode,
    learned_secs: u64,
    permitted_at: Option<u64>,
    known: BTreeMap<Hotkey, Known>,
    /// The last time.
    clock: Option<u64>,
    /// What the clock read then, if it was not set.
    unset: Option<u64>,
}

#[derive(Debug, Clone)]
struct Known {
    stake: u64,
    lost_at: Option<u64>,
    addresses: Vec<SeenAddress>,
}

/// Who passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everybody.
    Learning,
    /// The addresses of permitted hotkeys, and a few visitors.
    Enforcing,
}

/// Why a [`Roster`] decided as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Learning: it was never told who holds a permit.
    #[error("nobody has said yet who holds a permit")]
    NoPermits,
    /// Learning: that was too long ago.
    #[error("the list of permits is too old")]
    PermitsTooOld,
    /// Learning: there is not enough permitted stake whose address is known.
    #[error("the addresses of too little permitted stake are known")]
    CoverageTooLow,
    /// Learning: it has not done so for long enough.
    #[error("it goes on learning for {secs_left} s")]
    TooEarly {
        /// How much longer, in seconds.
        secs_left: u64,
    },
    /// Enforcing: enough is known.
    #[error("the addresses of enough permitted stake are known")]
    Covered,
}

/// What a [`Roster`] says at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who passes.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
    /// The share of permitted stake whose address is known, in thousandths, rounded down.
    pub coverage_permille: u16,
    /// The hotkeys that hold a permit.
    pub permitted: HashSet<Hotkey>,
    /// How many of them have an address that counts.
    pub hotkeys_known: usize,
    /// The addresses of permitted hotkeys that count, in their canonical form; in [`Mode::Learning`], too.
    pub allowed: HashSet<IpAddr>,
}

/// What became of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// The hotkey holds no permit, or nobody can have the address.
    Ignored,
    /// The address counted before.
    Known,
    /// The address counts from now on.
    Learned,
}

/// An address of a [`Roster`], for those who run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceEntry {
    /// Who was seen there.
    pub hotkey: Hotkey,
    /// Where.
    pub ip: IpAddr,
    /// In Unix seconds.
    pub first_seen: u64,
    /// In Unix seconds.
    pub last_seen: u64,
    /// Whether the hotkey holds a permit and was seen there of late: in [`Mode::Enforcing`] the address is let in.
    pub is_allowed: bool,
}

/// The longest step of the clock that counts as learning, in seconds: a longer one is a jump, or the machine slept.
const LEARNING_STEP_SECS_MAX: u64 = 3600;

impl Roster {
    /// A roster that knows nobody.
    pub fn new(policy: RosterPolicy) -> Self {
        Self {
            policy: policy.within_bounds(),
            mode: Mode::Learning,
            learned_secs: 0,
            permitted_at: None,
            known: BTreeMap::new(),
            clock: None,
            unset: None,
        }
    }

    /// The roster that was written down. Of more hotkeys or addresses than there may be, those that matter most are
    /// taken: permitted ones with the most stake, and addresses seen last.
    pub fn restore(policy: RosterPolicy, record: RosterRecord) -> Self {
        let mut roster = Self::new(policy);
        roster.mode = record.mode;
        roster.learned_secs = record.learned_secs;
        roster.permitted_at = record.permitted_at;
        for HotkeyRecord { hotkey, stake, lost_at, addresses } in record.hotkeys {
            let mut known = Known { stake, lost_at, addresses: Vec::new() };
            for seen in addresses {
                known.note(SeenAddress { ip: seen.ip.to_canonical(), ..seen });
            }
            roster.known.insert(hotkey, known);
        }
        roster.keep_within_bounds();
        roster
    }

    /// What has to be written down.
    pub fn record(&self) -> RosterRecord {
        let record = |(hotkey, known): (&Hotkey, &Known)| HotkeyRecord {
            hotkey: *hotkey,
            stake: known.stake,
            lost_at: known.lost_at,
            addresses: known.addresses.clone(),
        };
        RosterRecord {
            mode: self.mode,
            learned_secs: self.learned_secs,
            permitted_at: self.permitted_at,
            hotkeys: self.known.iter().map(record).collect(),
        }
    }

    /// Takes note of who holds a permit, and of their stakes in whatever unit. Says whether it did: a list without
    /// stake changes nothing. Of a hotkey that is named twice, the higher stake counts.
    pub fn permitted(&mut self, list: &[(Hotkey, u64)], now: u64) -> bool {
        let now = self.advance(now);
        if list.iter().all(|(_, stake)| *stake == 0) {
            return false;
        }
        let mut stakes = BTreeMap::new();
        for (hotkey, stake) in list {
            let highest = stakes.entry(*hotkey).or_insert(*stake);
            *highest = (*highest).max(*stake);
        }
        for (hotkey, known) in &mut self.known {
            match stakes.remove(hotkey) {
                Some(stake) => (known.stake, known.lost_at) = (stake, None),
                None => known.lost_at = known.lost_at.or(Some(now)),
            }
        }
        let newcomers = stakes.into_iter();
        self.known.extend(
            newcomers.map(|(hotkey, stake)| (hotkey, Known { stake, lost_at: None, addresses: Vec::new() })),
        );
        self.permitted_at = Some(now);
        self.forget_the_lost(now);
        self.keep_within_bounds();
        true
    }

    /// Takes note that `hotkey` has proven itself from `ip`, which must be an address that it receives packets at.
    pub fn observe(&mut self, hotkey: &Hotkey, ip: IpAddr, now: u64) -> Observed {
        let now = self.advance(now);
        let ip = ip.to_canonical();
        if ip.is_unspecified() || ip.is_multicast() {
            return Observed::Ignored;
        }
        let age_max = self.policy.address_age_secs_max;
        let Some(known) = self.known.get_mut(hotkey).filter(|known| known.lost_at.is_none()) else {
            return Observed::Ignored;
        };
        match known.addresses.iter_mut().find(|seen| seen.ip == ip) {
            Some(seen) => {
                let counted = seen.counts(now, age_max);
                seen.last_seen = now;
                if counted { Observed::Known } else { Observed::Learned }
            }
            None => {
                known.note(SeenAddress { ip, first_seen: now, last_seen: now });
                Observed::Learned
            }
        }
    }

    /// Takes note of connections that live: validators hold theirs for weeks, without another handshake. Addresses that
    /// the hotkey has not proven itself from are passed over; a connection may have been moved there by others.
    pub fn present(&mut self, connections: &[(Hotkey, IpAddr)], now: u64) {
        let now = self.advance(now);
        for (hotkey, ip) in connections {
            let ip = ip.to_canonical();
            let known = self.known.get_mut(hotkey).filter(|known| known.lost_at.is_none());
            if let Some(seen) = known.and_then(|known| known.addresses.iter_mut().find(|seen| seen.ip == ip))
            {
                seen.last_seen = now;
            }
        }
    }

    /// Decides who passes from now on.
    pub fn decide(&mut self, now: u64) -> Decision {
        let now = self.advance(now);
        self.forget_the_lost(now);
        let mut decision = self.look(now);
        decision.reason = self.reason(&decision, now);
        decision.mode = match decision.reason {
            Reason::Covered => Mode::Enforcing,
            _ => Mode::Learning,
        };
        self.mode = decision.mode;
        decision
    }

    /// Every address, of permitted hotkeys and of those that lost their permit not long ago.
    pub fn entries(&self, now: u64) -> impl Iterator<Item = SourceEntry> + '_ {
        let now = self.time(now);
        self.known.iter().flat_map(move |(hotkey, known)| {
            known.addresses.iter().map(move |seen| SourceEntry {
                hotkey: *hotkey,
                ip: seen.ip,
                first_seen: seen.first_seen,
                last_seen: seen.last_seen,
                is_allowed: known.lost_at.is_none() && seen.counts(now, self.policy.address_age_secs_max),
            })
        })
    }

    /// What was decided last.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How long ago it was told who holds a permit, in seconds.
    pub fn permits_age_secs(&self, now: u64) -> Option<u64> {
        self.permitted_at.map(|at| self.time(now).saturating_sub(at))
    }

    fn reason(&self, seen: &Decision, now: u64) -> Reason {
        let Some(at) = self.permitted_at else { return Reason::NoPermits };
        if now.saturating_sub(at) > self.policy.permits_age_secs_max {
            return Reason::PermitsTooOld;
        }
        let wanted = match self.mode {
            Mode::Enforcing => self.policy.coverage_to_relax_permille,
            Mode::Learning => self.policy.coverage_to_enforce_permille,
        };
        if seen.coverage_permille < wanted || seen.allowed.is_empty() {
            return Reason::CoverageTooLow;
        }
        match self.policy.learning_secs_min.saturating_sub(self.learned_secs) {
            secs_left if secs_left > 0 && self.mode == Mode::Learning => Reason::TooEarly { secs_left },
            _ => Reason::Covered,
        }
    }

    /// What is known, without a decision.
    fn look(&self, now: u64) -> Decision {
        let (mut stake_in_all, mut stake_known) = (0u128, 0u128);
        let mut hotkeys_known = 0;
        let (mut permitted, mut allowed) = (HashSet::new(), HashSet::new());
        for (hotkey, known) in self.known.iter().filter(|(_, known)| known.lost_at.is_none()) {
            permitted.insert(*hotkey);
            stake_in_all += u128::from(known.stake);
            let counting =
                known.addresses.iter().filter(|seen| seen.counts(now, self.policy.address_age_secs_max));
            let mut counting = counting.peekable();
            if counting.peek().is_some() {
                hotkeys_known += 1;
                stake_known += u128::from(known.stake);
            }
            allowed.extend(counting.map(|seen| seen.ip));
        }
        // The sums of 4,096 64-bit numbers stay far below 128 bits; the quotient is at most a thousand.
        let coverage = (stake_known * 1000).checked_div(stake_in_all).unwrap_or(0);
        Decision {
            mode: self.mode,
            reason: Reason::NoPermits,
            coverage_permille: u16::try_from(coverage).unwrap_or(1000),
            permitted,
            hotkeys_known,
            allowed,
        }
    }

    /// Takes note of the time, and says what it is. Where the clock went back, what it said before is brought back, too:
    /// a stamp ahead of the clock would never grow old.
    fn advance(&mut self, reading: u64) -> u64 {
        let now = self.time(reading);
        self.unset = (reading < CLOCK_SECS_MIN).then_some(reading);
        match self.clock.replace(now) {
            Some(last) if last <= now => {
                if self.permitted_at.is_some() {
                    let step = (now - last).min(LEARNING_STEP_SECS_MAX);
                    self.learned_secs = self.learned_secs.saturating_add(step);
                }
            }
            _ => self.bring_back(now),
        }
        now
    }

    /// What a clock says that reads so. One that is not set only says how much time goes by.
    fn time(&self, reading: u64) -> u64 {
        if reading >= CLOCK_SECS_MIN {
            return reading;
        }
        let Some(last) = self.clock else { return reading.max(self.latest()) };
        let step = self.unset.map_or(0, |before| reading.saturating_sub(before));
        last.saturating_add(step)
    }

    /// The latest stamp.
    fn latest(&self) -> u64 {
        let seen = self.known.values().flat_map(|known| {
            known.addresses.iter().map(|seen| seen.first_seen.max(seen.last_seen)).chain(known.lost_at)
        });
        seen.chain(self.permitted_at).max().unwrap_or(0)
    }

    fn bring_back(&mut self, now: u64) {
        self.permitted_at = self.permitted_at.map(|at| at.min(now));
        for known in self.known.values_mut() {
            known.lost_at = known.lost_at.map(|at| at.min(now));
            for seen in &mut known.addresses {
                seen.first_seen = seen.first_seen.min(now);
                seen.last_seen = seen.last_seen.min(now);
            }
        }
    }

    fn forget_the_lost(&mut self, now: u64) {
        let grace = self.policy.permit_grace_secs;
        self.known.retain(|_, known| match known.lost_at {
            Some(at) => !known.addresses.is_empty() && now.saturating_sub(at) <= grace,
            None => true,
        });
    }

    /// Those who lost their permit go first, the longest ago before the others; then the least stake.
    fn keep_within_bounds(&mut self) {
        if self.known.len() <= HOTKEYS_MAX {
            return;
        }
        let mut ranked: Vec<_> = std::mem::take(&mut self.known).into_iter().collect();
        ranked.sort_by_key(|(_, known)| (known.lost_at.map(Reverse), Reverse(known.stake)));
        ranked.truncate(HOTKEYS_MAX);
        self.known = ranked.into_iter().collect();
    }
}

impl Known {
    /// Adds an address that is not there yet, in the place of the one seen least recently if there is no other.
    fn note(&mut self, seen: SeenAddress) {
        if self.addresses.iter().any(|other| other.ip == seen.ip) {
            return;
        }
        self.addresses.push(seen);
        if self.addresses.len() > ADDRESSES_PER_HOTKEY_MAX {
            let rank = |index: &usize| {
                let seen = &self.addresses[*index];
                (seen.last_seen, seen.first_seen)
            };
            if let Some(oldest) = (0..self.addresses.len()).min_by_key(rank) {
                self.addresses.remove(oldest);
            }
        }
    }
}

impl SeenAddress {
    fn counts(&self, now: u64, age_secs_max: u64) -> bool {
        now.saturating_sub(self.last_seen) <= age_secs_max
    }
}
