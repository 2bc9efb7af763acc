//! What must hold of the roster of addresses, whatever it is told and whatever its clock shows.

// Helpers of tests may unwrap as the tests do; the lint knows only functions that are tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use btlightning_proto::identity::Hotkey;
use btlightning_proto::sources::{
    ADDRESSES_PER_HOTKEY_MAX, CLOCK_SECS_MIN, HOTKEYS_MAX, Mode, Observed, Reason, Roster, RosterPolicy,
    RosterRecord, SeenAddress,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A year that clocks show these days.
const START: u64 = 1_760_000_000;

const POLICY: RosterPolicy = RosterPolicy {
    coverage_to_enforce_permille: 800,
    coverage_to_relax_permille: 500,
    learning_secs_min: 100,
    address_age_secs_max: 1000,
    permit_grace_secs: 200,
    permits_age_secs_max: 500,
};

fn hotkey(n: u16) -> Hotkey {
    let mut key = [1; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    Hotkey::from_public_key(key).unwrap()
}

fn ip(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, n).into()
}

#[derive(Debug, Clone)]
enum Step {
    Permitted(Vec<(u16, u64)>),
    Observe(u16, u8),
    Present(Vec<(u16, u8)>),
    Decide,
    /// The program ends, and starts again with what it wrote down.
    Restart,
    Advance(u64),
    /// The clock is set to something else.
    Jump(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let stake = prop_oneof![Just(0), 1u64..100, Just(u64::MAX)];
    prop_oneof![
        2 => vec((0u16..8, stake), 0..8).prop_map(Step::Permitted),
        6 => (0u16..10, 0u8..12).prop_map(|(key, at)| Step::Observe(key, at)),
        1 => vec((0u16..10, 0u8..12), 0..6).prop_map(Step::Present),
        2 => Just(Step::Decide),
        1 => Just(Step::Restart),
        4 => (0u64..400).prop_map(Step::Advance),
        1 => prop_oneof![Just(0), Just(u64::MAX), 0u64..20_000, START..START + 20_000].prop_map(Step::Jump),
    ]
}

/// What is true of the world, kept in the simplest way.
#[derive(Default)]
struct Truth {
    permitted: BTreeMap<Hotkey, u64>,
    /// All that permitted hotkeys ever proved.
    proven: BTreeSet<(Hotkey, IpAddr)>,
}

impl Truth {
    fn hear(&mut self, list: &[(Hotkey, u64)]) {
        if list.iter().any(|(_, stake)| *stake > 0) {
            self.permitted.clear();
            for (hotkey, stake) in list {
                let highest = self.permitted.entry(*hotkey).or_default();
                *highest = (*highest).max(*stake);
            }
        }
    }

    fn coverage_permille(&self, allowed_hotkeys: &BTreeSet<Hotkey>) -> u128 {
        let all: u128 = self.permitted.values().map(|stake| u128::from(*stake)).sum();
        let known = self.permitted.iter().filter(|(hotkey, _)| allowed_hotkeys.contains(hotkey));
        let known: u128 = known.map(|(_, stake)| u128::from(*stake)).sum();
        (known * 1000).checked_div(all).unwrap_or(0)
    }
}

fn check(roster: &mut Roster, truth: &Truth, now: u64) {
    let before = roster.mode();
    let decision = roster.decide(now);
    let counting: Vec<_> = roster.entries(now).filter(|entry| entry.is_allowed).collect();
    let hotkeys: BTreeSet<_> = counting.iter().map(|entry| entry.hotkey).collect();

    assert_eq!(decision.allowed, counting.iter().map(|entry| entry.ip).collect());
    assert_eq!(decision.hotkeys_known, hotkeys.len());
    assert_eq!(decision.permitted, truth.permitted.keys().copied().collect());
    for entry in &counting {
        assert!(truth.permitted.contains_key(&entry.hotkey), "an address of one without a permit");
        assert!(truth.proven.contains(&(entry.hotkey, entry.ip)), "an address that nobody proved");
        assert!(entry.first_seen <= entry.last_seen);
        assert!(entry.last_seen <= now || now < CLOCK_SECS_MIN, "a stamp that would never grow old");
    }
    assert_eq!(u128::from(decision.coverage_permille), truth.coverage_permille(&hotkeys));
    assert_eq!((decision.reason == Reason::Covered), (decision.mode == Mode::Enforcing));
    if decision.mode == Mode::Enforcing {
        assert!(!decision.allowed.is_empty(), "an empty list is enforced");
        assert!(roster.permits_age_secs(now).unwrap() <= POLICY.permits_age_secs_max);
        let least = match before {
            Mode::Learning => POLICY.coverage_to_enforce_permille,
            Mode::Enforcing => POLICY.coverage_to_relax_permille,
        };
        assert!(decision.coverage_permille >= least);
    }
    assert_eq!(roster.decide(now), decision, "a decision changes the next one");
}

fn bounded(record: &RosterRecord) {
    assert!(record.hotkeys.len() <= HOTKEYS_MAX);
    for known in &record.hotkeys {
        assert!(known.addresses.len() <= ADDRESSES_PER_HOTKEY_MAX);
        let different: BTreeSet<_> = known.addresses.iter().map(|seen| seen.ip).collect();
        assert_eq!(different.len(), known.addresses.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_enforces_what_is_not_known(steps in vec(step(), 0..120)) {
        let (mut roster, mut truth, mut now) = (Roster::new(POLICY), Truth::default(), START + 10_000);
        for step in steps {
            match step {
                Step::Permitted(list) => {
                    let list: Vec<_> = list.iter().map(|(key, stake)| (hotkey(*key), *stake)).collect();
                    let counts = roster.permitted(&list, now);
                    assert_eq!(counts, list.iter().any(|(_, stake)| *stake > 0));
                    truth.hear(&list);
                }
                Step::Observe(key, at) => {
                    let before = roster.clone().record();
                    let observed = roster.observe(&hotkey(key), ip(at), now);
                    if truth.permitted.contains_key(&hotkey(key)) {
                        assert_ne!(observed, Observed::Ignored);
                        truth.proven.insert((hotkey(key), ip(at)));
                        assert!(roster.decide(now).allowed.contains(&ip(at)), "not allowed at once");
                    } else {
                        assert_eq!(observed, Observed::Ignored);
                        assert_eq!(addresses(&roster.record()), addresses(&before));
                    }
                }
                Step::Present(connections) => {
                    let before = addresses(&roster.record());
                    let connections: Vec<_> =
                        connections.iter().map(|(key, at)| (hotkey(*key), ip(*at))).collect();
                    roster.present(&connections, now);
                    assert_eq!(addresses(&roster.record()), before);
                }
                Step::Decide => check(&mut roster, &truth, now),
                Step::Restart => {
                    let record = roster.record();
                    roster = Roster::restore(POLICY, record.clone());
                    assert_eq!(roster.record(), record);
                }
                Step::Advance(secs) => now = now.saturating_add(secs),
                Step::Jump(to) => now = to,
            }
            bounded(&roster.record());
        }
        check(&mut roster, &truth, now);
    }

    #[test]
    fn no_record_takes_more_than_its_bounds(
        keys in vec((0u16..40, any::<u64>(), any::<Option<u64>>(), vec((any::<u8>(), any::<u64>(), any::<u64>()), 0..9)), 0..60),
        mode in prop_oneof![Just(Mode::Learning), Just(Mode::Enforcing)],
        permitted_at in any::<Option<u64>>(),
        now in any::<u64>(),
    ) {
        let hotkeys = keys.into_iter().map(|(key, stake, lost_at, addresses)| {
            let addresses = addresses
                .into_iter()
                .map(|(at, first_seen, last_seen)| SeenAddress { ip: ip(at), first_seen, last_seen })
                .collect();
            btlightning_proto::sources::HotkeyRecord { hotkey: hotkey(key), stake, lost_at, addresses }
        });
        let record = RosterRecord { mode, learned_secs: u64::MAX, permitted_at, hotkeys: hotkeys.collect() };
        let mut roster = Roster::restore(POLICY, record);
        bounded(&roster.record());
        let decision = roster.decide(now);
        assert!(decision.mode == Mode::Learning || !decision.allowed.is_empty());
        // What was written down is read back as it was.
        let bytes = rmp_serde::to_vec(&roster.record()).unwrap();
        assert_eq!(rmp_serde::from_slice::<RosterRecord>(&bytes).unwrap(), roster.record());
    }
}

/// Who was seen where.
fn addresses(record: &RosterRecord) -> BTreeSet<(Hotkey, IpAddr)> {
    let pairs =
        record.hotkeys.iter().flat_map(|known| known.addresses.iter().map(|seen| (known.hotkey, seen.ip)));
    pairs.collect()
}

#[test]
fn of_too_many_hotkeys_those_with_the_most_stake_are_kept() {
    let mut roster = Roster::new(POLICY);
    let list: Vec<_> = (0..5000u16).map(|n| (hotkey(n), u64::from(n) + 1)).collect();
    assert!(roster.permitted(&list, 0));
    let kept: BTreeSet<_> = roster.decide(0).permitted.into_iter().collect();
    assert_eq!(kept, (5000 - 4096..5000).map(hotkey).collect());
    // Those whose permit is gone make room first.
    assert_eq!(roster.observe(&hotkey(4999), ip(1), 0), Observed::Learned);
    let list: Vec<_> = (0..4096u16).map(|n| (hotkey(n), 1)).collect();
    roster.permitted(&list, 1);
    assert!(!roster.record().hotkeys.iter().any(|known| known.hotkey == hotkey(4999)));
}
