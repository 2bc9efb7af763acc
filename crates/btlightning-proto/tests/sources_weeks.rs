//! The roster's life over simulated weeks: validators that move, permits that come and go, a chain that fails, a program
//! that restarts, a clock that is wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use btlightning_proto::identity::Hotkey;
use btlightning_proto::sources::{Decision, Mode, Observed, Reason, Roster, RosterPolicy};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A year that clocks show these days.
const START: u64 = 1_760_000_000;

fn hotkey(n: u8) -> Hotkey {
    Hotkey::from_public_key([n + 1; 32]).unwrap()
}

fn ip(validator: u8, place: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, validator, place).into()
}

/// A miner, its roster, and the validators that connect to it.
struct Subnet {
    roster: Roster,
    now: u64,
    stakes: BTreeMap<u8, u64>,
    /// Where each validator's connection comes from.
    connected: BTreeMap<u8, u8>,
    chain_answers: bool,
}

impl Subnet {
    /// Ten validators with a stake of 100 each.
    fn new() -> Self {
        Self {
            roster: Roster::new(RosterPolicy::default()),
            now: START,
            stakes: (0..10).map(|n| (n, 100)).collect(),
            connected: BTreeMap::new(),
            chain_answers: true,
        }
    }

    /// A validator authenticates from a place of its own.
    fn connects(&mut self, validator: u8, place: u8) -> Observed {
        self.connected.insert(validator, place);
        self.roster.observe(&hotkey(validator), ip(validator, place), self.now)
    }

    /// What a server does at each refresh.
    fn refresh(&mut self) -> Decision {
        if self.chain_answers {
            let list: Vec<_> = self.stakes.iter().map(|(n, stake)| (hotkey(*n), *stake)).collect();
            self.roster.permitted(&list, self.now);
        }
        for (validator, place) in &self.connected {
            self.roster.observe(&hotkey(*validator), ip(*validator, *place), self.now);
        }
        self.roster.decide(self.now)
    }

    /// Lets time pass, with a refresh every five minutes, and says what the last one decided.
    fn pass(&mut self, time: u64) -> Decision {
        for _ in 0..time / (5 * MINUTE) {
            self.now += 5 * MINUTE;
            self.refresh();
        }
        self.refresh()
    }

    /// The program ends, and is started again after a while.
    fn restart(&mut self, away: u64) {
        self.roster = Roster::restore(RosterPolicy::default(), self.roster.record());
        self.connected.clear();
        self.now += away;
    }

    fn lets_in(&mut self, from: IpAddr) -> bool {
        let decision = self.roster.decide(self.now);
        decision.mode == Mode::Learning || decision.allowed.contains(&from)
    }

    /// Nine of ten connected for as long as it takes.
    fn enforcing() -> Self {
        let mut subnet = Self::new();
        subnet.refresh();
        for validator in 0..9 {
            assert_eq!(subnet.connects(validator, 1), Observed::Learned);
        }
        let decision = subnet.pass(2 * HOUR);
        assert_eq!((decision.mode, decision.coverage_permille), (Mode::Enforcing, 900));
        subnet
    }
}

#[test]
fn it_learns_for_an_hour_and_until_enough_stake_has_come() {
    let mut subnet = Subnet::new();
    assert_eq!(subnet.roster.decide(subnet.now).reason, Reason::NoPermits);
    subnet.refresh();
    for validator in 0..7 {
        subnet.connects(validator, 1);
    }
    let decision = subnet.pass(3 * DAY);
    assert_eq!((decision.reason, decision.coverage_permille), (Reason::CoverageTooLow, 700));
    subnet.connects(7, 1);
    assert_eq!(subnet.refresh().mode, Mode::Enforcing);
    assert!(!subnet.lets_in(ip(8, 1)));

    // One with most of the stake does not shut the others out before they had time to come.
    let mut subnet = Subnet::new();
    subnet.stakes.insert(0, 100_000);
    subnet.refresh();
    subnet.connects(0, 1);
    assert_eq!(subnet.pass(55 * MINUTE).reason, Reason::TooEarly { secs_left: 300 });
    assert_eq!(subnet.pass(5 * MINUTE).mode, Mode::Enforcing);
}

#[test]
fn time_without_permits_or_between_runs_is_no_learning() {
    let mut subnet = Subnet::new();
    subnet.chain_answers = false;
    subnet.pass(DAY);
    subnet.chain_answers = true;
    subnet.refresh();
    for validator in 0..10 {
        let _ = subnet.connects(validator, 1);
    }
    assert_eq!(subnet.refresh().reason, Reason::TooEarly { secs_left: HOUR });
    subnet.pass(30 * MINUTE);
    subnet.restart(2 * DAY);
    assert_eq!(subnet.refresh().reason, Reason::TooEarly { secs_left: HOUR / 2 });
    assert_eq!(subnet.pass(30 * MINUTE).mode, Mode::Enforcing);
}

#[test]
fn connections_that_live_for_weeks_keep_their_addresses() {
    let mut subnet = Subnet::enforcing();
    let decision = subnet.pass(8 * 7 * DAY);
    assert_eq!((decision.mode, decision.allowed.len()), (Mode::Enforcing, 9));
}

#[test]
fn validators_that_leave_for_good_open_the_door_again() {
    let mut subnet = Subnet::enforcing();
    // Six of ten go away, and keep their permits.
    for validator in 0..6 {
        let _ = subnet.connected.remove(&validator);
    }
    assert_eq!(subnet.pass(13 * DAY).coverage_permille, 900);
    let decision = subnet.pass(2 * DAY);
    assert_eq!((decision.mode, decision.coverage_permille), (Mode::Learning, 300));
    assert_eq!(decision.reason, Reason::CoverageTooLow);
    // It takes more than it took to open: back at 70 % it goes on learning.
    for validator in 0..4 {
        let _ = subnet.connects(validator, 2);
    }
    assert_eq!(subnet.pass(DAY).reason, Reason::CoverageTooLow);
    subnet.connects(4, 2);
    assert_eq!(subnet.refresh().mode, Mode::Enforcing);
}

#[test]
fn validators_move_and_each_keeps_four_addresses() {
    let mut subnet = Subnet::enforcing();
    for week in 0..12u8 {
        let place = 10 + week;
        assert!(!subnet.lets_in(ip(3, place)));
        assert_eq!(subnet.connects(3, place), Observed::Learned);
        assert!(subnet.lets_in(ip(3, place)), "the address counts at once");
        let decision = subnet.pass(3 * DAY);
        assert_eq!(decision.mode, Mode::Enforcing);
        assert!(subnet.roster.entries(subnet.now).filter(|entry| entry.hotkey == hotkey(3)).count() <= 4);
    }
    // It was at 21 last, and at the others, three days each, before.
    let allowed = subnet.refresh().allowed;
    let places: Vec<u8> = (0..=255).filter(|place| allowed.contains(&ip(3, *place))).collect();
    assert_eq!(places, [18, 19, 20, 21]);
}

#[test]
fn a_permit_that_is_lost_takes_its_addresses_along_and_brings_them_back_within_a_day() {
    let mut subnet = Subnet::enforcing();
    subnet.stakes.remove(&2);
    subnet.refresh();
    assert!(!subnet.lets_in(ip(2, 1)));
    assert_eq!(subnet.connects(2, 9), Observed::Ignored);
    subnet.connected.remove(&2);
    subnet.pass(23 * HOUR);
    subnet.stakes.insert(2, 100);
    subnet.refresh();
    assert!(subnet.lets_in(ip(2, 1)) && !subnet.lets_in(ip(2, 9)));

    subnet.stakes.remove(&2);
    subnet.pass(25 * HOUR);
    subnet.stakes.insert(2, 100);
    subnet.refresh();
    assert!(!subnet.lets_in(ip(2, 1)));
}

#[test]
fn a_new_set_of_validators_opens_the_door() {
    let mut subnet = Subnet::enforcing();
    subnet.stakes = (20..30).map(|n| (n, 5_000)).collect();
    let decision = subnet.refresh();
    assert_eq!((decision.mode, decision.coverage_permille), (Mode::Learning, 0));
}

#[test]
fn a_chain_that_fails_changes_nothing_for_a_week_and_then_the_door_is_open() {
    let mut subnet = Subnet::enforcing();
    subnet.chain_answers = false;
    assert_eq!(subnet.pass(7 * DAY - HOUR).mode, Mode::Enforcing);
    assert_eq!(subnet.pass(2 * HOUR).reason, Reason::PermitsTooOld);
    subnet.chain_answers = true;
    assert_eq!(subnet.refresh().mode, Mode::Enforcing);
}

#[test]
fn a_list_of_permits_without_stake_is_no_list() {
    let mut subnet = Subnet::enforcing();
    let before = subnet.roster.record();
    assert!(!subnet.roster.permitted(&[], subnet.now));
    let no_stake: Vec<_> = (0..10).map(|n| (hotkey(n), 0)).collect();
    assert!(!subnet.roster.permitted(&no_stake, subnet.now));
    assert_eq!(subnet.roster.record(), before);
    // Stakes as large as they come do not overflow.
    let much: Vec<_> = (0..10).map(|n| (hotkey(n), u64::MAX)).collect();
    assert!(subnet.roster.permitted(&much, subnet.now));
    assert_eq!(subnet.roster.decide(subnet.now).coverage_permille, 900);
}

#[test]
fn a_restart_goes_on_where_it_ended_and_a_long_absence_learns() {
    let mut subnet = Subnet::enforcing();
    subnet.restart(MINUTE);
    subnet.chain_answers = false;
    let decision = subnet.refresh();
    assert_eq!((decision.mode, decision.allowed.len()), (Mode::Enforcing, 9));
    subnet.restart(15 * DAY);
    assert_eq!(subnet.refresh().mode, Mode::Learning);
    subnet.chain_answers = true;
    assert_eq!(subnet.refresh().reason, Reason::CoverageTooLow);
    for validator in 0..9 {
        let _ = subnet.connects(validator, 1);
    }
    assert_eq!(subnet.refresh().mode, Mode::Enforcing);
}

#[test]
fn a_clock_that_jumps_passes_and_never_shuts_out() {
    // A year ahead, and put right an hour later.
    let mut subnet = Subnet::enforcing();
    subnet.connected.clear();
    let right = subnet.now;
    subnet.now += 365 * DAY;
    let decision = subnet.pass(HOUR);
    assert_eq!((decision.mode, decision.reason), (Mode::Learning, Reason::CoverageTooLow));
    subnet.now = right + HOUR;
    let decision = subnet.refresh();
    assert_eq!((decision.mode, decision.allowed.len()), (Mode::Enforcing, 9));

    // Back to 1970, and put right: nothing has become old.
    let mut subnet = Subnet::enforcing();
    let right = subnet.now;
    subnet.now = 0;
    assert_eq!(subnet.refresh().mode, Mode::Enforcing);
    subnet.connected.clear();
    subnet.now = right;
    assert_eq!(subnet.refresh().mode, Mode::Enforcing);

    // Ahead for good: no address stays young for as long as the clock was wrong.
    let mut subnet = Subnet::enforcing();
    subnet.now += 365 * DAY;
    subnet.refresh();
    subnet.now -= 365 * DAY;
    subnet.connected.clear();
    assert_eq!(subnet.pass(15 * DAY).mode, Mode::Learning);
}

#[test]
fn a_start_with_a_clock_that_is_not_set_goes_on_where_it_ended() {
    let mut subnet = Subnet::enforcing();
    let right = subnet.now;
    let written = subnet.roster.record();
    subnet.restart(0);
    subnet.now = 5;
    assert_eq!(subnet.roster.permits_age_secs(subnet.now), Some(0));
    let decision = subnet.roster.decide(subnet.now);
    assert_eq!((decision.mode, decision.allowed.len()), (Mode::Enforcing, 9));
    assert_eq!(subnet.roster.record(), written, "what was seen is not brought back to 1970");

    // It learns as always: of one with four addresses the one seen least recently goes, not the new one.
    for place in 2..6 {
        subnet.now += 60;
        assert_eq!(subnet.connects(3, place), Observed::Learned);
        assert!(subnet.lets_in(ip(3, place)));
    }
    assert!(!subnet.lets_in(ip(3, 1)));
    // And it forgets as always, by the time that goes by.
    subnet.connected.clear();
    subnet.chain_answers = false;
    assert_eq!(subnet.pass(7 * DAY - HOUR).mode, Mode::Enforcing);
    assert_eq!(subnet.pass(2 * HOUR).reason, Reason::PermitsTooOld);
    subnet.chain_answers = true;
    assert_eq!(subnet.pass(6 * DAY).mode, Mode::Enforcing);
    assert_eq!(subnet.pass(2 * DAY).reason, Reason::CoverageTooLow);

    // Set while the program runs: what was learned meanwhile has about the right stamps.
    let mut subnet = Subnet::enforcing();
    subnet.restart(0);
    subnet.now = 5;
    subnet.pass(HOUR);
    assert_eq!(subnet.connects(3, 2), Observed::Learned);
    subnet.now = right + 2 * HOUR;
    subnet.chain_answers = false;
    let decision = subnet.refresh();
    assert_eq!((decision.mode, decision.allowed.len()), (Mode::Enforcing, 10));
}

#[test]
fn who_holds_one_permitted_hotkey_adds_no_more_than_four_addresses() {
    let mut subnet = Subnet::enforcing();
    let honest = subnet.refresh().allowed;
    for place in 0..=255 {
        subnet.roster.observe(&hotkey(9), ip(9, place), subnet.now);
        // Strangers may prove what they like.
        subnet.roster.observe(&hotkey(100), ip(100, place), subnet.now);
    }
    let allowed = subnet.refresh().allowed;
    assert_eq!(allowed.difference(&honest).count(), 4);
    assert!(allowed.is_superset(&honest));
    let strangers: HashSet<IpAddr> = (0..=255).map(|place| ip(100, place)).collect();
    assert!(allowed.is_disjoint(&strangers));
    for nobody in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
        assert_eq!(subnet.roster.observe(&hotkey(0), nobody.parse().unwrap(), subnet.now), Observed::Ignored);
    }
    let mapped: IpAddr = "::ffff:198.51.0.1".parse().unwrap();
    assert_eq!(subnet.roster.observe(&hotkey(0), mapped, subnet.now), Observed::Known);
}
