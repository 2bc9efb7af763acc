//! What must hold of backoff and reconciliation for any input.

// Helpers of tests may unwrap as the tests do; the lint knows only functions that are tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use btlightning_proto::identity::Hotkey;
use btlightning_proto::peers::{
    Backoff, BackoffPolicy, CloseReason, Pause, PeerAddr, Plan, QuicAxonInfo, Slot, WantedPeers, reconcile,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn hotkey(n: u8) -> Hotkey {
    Hotkey::from_public_key([n + 1; 32]).unwrap()
}

fn addr(n: u8) -> PeerAddr {
    PeerAddr::new(&format!("192.0.2.{n}"), 8443)
}

fn axon((key, at): (u8, u8)) -> QuicAxonInfo {
    QuicAxonInfo::new(hotkey(key).to_string(), format!("192.0.2.{at}"), 8443, 4)
}

fn wanted(pairs: &[(u8, u8)]) -> WantedPeers {
    WantedPeers::parse(pairs.iter().copied().map(axon).collect()).0
}

/// The hotkeys at each address, as a client holds them.
type State = BTreeMap<PeerAddr, BTreeSet<Hotkey>>;

fn state(pairs: &[(u8, u8)]) -> State {
    let mut state = State::new();
    for &(key, at) in pairs {
        state.entry(addr(at)).or_default().insert(hotkey(key));
    }
    state
}

fn wanted_state(wanted: &WantedPeers) -> State {
    let mut state = State::new();
    for (hotkey, addr) in wanted.as_slice() {
        state.entry(addr.clone()).or_default().insert(*hotkey);
    }
    state
}

fn plan(state: &State, wanted: &WantedPeers, addresses_max: usize) -> Plan {
    let current =
        state.iter().flat_map(|(addr, hotkeys)| hotkeys.iter().map(|hotkey| (*hotkey, addr.clone())));
    reconcile(current, wanted, addresses_max)
}

/// Does what the plan says, and fails where it cannot be done.
fn apply(state: &State, plan: &Plan) -> State {
    let mut state = state.clone();
    for close in &plan.close {
        assert!(state.remove(&close.addr).is_some(), "closes an address that is not there");
    }
    for Slot { addr, hotkeys } in &plan.keep {
        let kept: BTreeSet<_> = hotkeys.iter().copied().collect();
        assert_eq!(state.get(addr), Some(&kept), "keeps an address that is not the same");
    }
    for Slot { addr, hotkeys } in &plan.change {
        let before = state.insert(addr.clone(), hotkeys.iter().copied().collect());
        assert_ne!(before.expect("changes an address that is not there"), state[addr]);
    }
    for Slot { addr, hotkeys } in &plan.open {
        let before = state.insert(addr.clone(), hotkeys.iter().copied().collect());
        assert_eq!(before, None, "opens an address that is there");
    }
    state
}

fn pairs() -> impl Strategy<Value = Vec<(u8, u8)>> {
    vec((0u8..12, 0u8..8), 0..16)
}

proptest! {
    #[test]
    fn carrying_a_plan_out_yields_what_is_wanted(before in pairs(), list in pairs()) {
        let (state, wanted) = (state(&before), wanted(&list));
        let plan = plan(&state, &wanted, 100);
        prop_assert!(plan.over_limit.is_empty());
        prop_assert_eq!(apply(&state, &plan), wanted_state(&wanted));
    }

    #[test]
    fn the_limit_holds_and_leaves_out_only_what_it_names(before in pairs(), list in pairs(), max in 0usize..10) {
        let (state, wanted) = (state(&before), wanted(&list));
        let plan = plan(&state, &wanted, max);
        let after = apply(&state, &plan);
        prop_assert!(after.len() <= max);

        let mut all = after.clone();
        for Slot { addr, hotkeys } in &plan.over_limit {
            let clash = all.insert(addr.clone(), hotkeys.iter().copied().collect());
            prop_assert_eq!(clash, None);
        }
        prop_assert_eq!(all, wanted_state(&wanted));
        // Room is not left unused while somebody waits for it.
        prop_assert!(plan.over_limit.is_empty() || after.len() == max);
        // Nobody who is there gives way to a newcomer.
        prop_assert!(plan.open.is_empty() || plan.close.iter().all(|close| close.reason != CloseReason::OverLimit));
    }

    #[test]
    fn doing_it_again_changes_nothing(before in pairs(), list in pairs(), max in 0usize..10) {
        let (state, wanted) = (state(&before), wanted(&list));
        let first = plan(&state, &wanted, max);
        let after = apply(&state, &first);
        let second = plan(&after, &wanted, max);
        prop_assert!(second.close.is_empty() && second.open.is_empty() && second.change.is_empty());
        let named = |plan: &Plan| plan.over_limit.iter().map(|slot| slot.addr.clone()).collect::<BTreeSet<_>>();
        prop_assert_eq!(named(&first), named(&second));
    }

    #[test]
    fn addresses_of_which_nothing_changed_are_left_alone(before in pairs(), list in pairs()) {
        let (state, wanted) = (state(&before), wanted(&list));
        let plan = plan(&state, &wanted, 100);
        let target = wanted_state(&wanted);
        let same: Vec<_> = state.iter().filter(|(addr, hotkeys)| target.get(*addr) == Some(hotkeys)).collect();
        prop_assert_eq!(plan.keep.len(), same.len());
        for slot in &plan.keep {
            prop_assert!(same.iter().any(|(addr, _)| **addr == slot.addr));
        }
    }

    #[test]
    fn an_address_is_closed_for_the_reason_that_is_true(before in pairs(), list in pairs()) {
        let (state, wanted) = (state(&before), wanted(&list));
        for close in plan(&state, &wanted, 100).close {
            let moved = wanted.as_slice().iter().any(|(hotkey, _)| state[&close.addr].contains(hotkey));
            let expected = if moved { CloseReason::AddressMoved } else { CloseReason::Deregistered };
            prop_assert_eq!(close.reason, expected);
        }
    }

    #[test]
    fn reading_a_list_loses_nothing(list in pairs(), bad_at in 0usize..16) {
        let mut axons: Vec<_> = list.into_iter().map(axon).collect();
        if let Some(axon) = axons.get_mut(bad_at) {
            axon.port = 0;
        }
        let (wanted, rejected) = WantedPeers::parse(axons.clone());
        prop_assert_eq!(wanted.as_slice().len() + rejected.len(), axons.len());
        let hotkeys: BTreeSet<_> = wanted.as_slice().iter().map(|(hotkey, _)| *hotkey).collect();
        prop_assert_eq!(hotkeys.len(), wanted.as_slice().len());
    }

    #[test]
    fn any_text_makes_an_address_or_an_error(ip in "[0-9a-fA-F:.\\[\\]%]{0,40}|\\PC{0,40}", port in any::<u16>()) {
        if let Ok(canonical) = PeerAddr::new(&ip, port).canonical() {
            prop_assert_eq!(canonical.canonical(), Ok(canonical.clone()));
            prop_assert_eq!(canonical.socket_addr().unwrap().to_string(), canonical.to_string());
        }
    }

    /// Any policy at all: pauses stay within their bounds, can be added to a clock, and do not shrink in the long run.
    #[test]
    fn pauses_stay_within_their_bounds(
        initial in any::<Duration>(),
        max in any::<Duration>(),
        retries_max in prop_oneof![0u32..6, Just(u32::MAX)],
        slow_probe in any::<Option<Duration>>(),
        entropy in vec(any::<u64>(), 1..90),
    ) {
        let millisecond = Duration::from_millis(1);
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let mut backoff = Backoff::new(BackoffPolicy { initial, max, retries_max, slow_probe });
        for (failures, entropy) in (0u32..).zip(entropy) {
            match backoff.next_pause(entropy) {
                Pause::Retry(pause) => {
                    prop_assert!(failures < retries_max);
                    prop_assert!(pause >= millisecond && pause <= max.clamp(millisecond, year));
                    prop_assert!(Instant::now().checked_add(pause).is_some());
                }
                Pause::Probe(pause) => {
                    prop_assert!(failures >= retries_max);
                    let slowest = slow_probe.unwrap().saturating_mul(10).clamp(millisecond, year);
                    prop_assert!(pause >= millisecond && pause <= slowest + slowest / 10);
                    prop_assert!(Instant::now().checked_add(pause).is_some());
                }
                Pause::GiveUp => prop_assert!(failures >= retries_max && slow_probe.is_none()),
            }
        }
    }

    /// The next pause is decided by the failures so far; luck moves it within its half only.
    #[test]
    fn jitter_stays_in_the_upper_half(failures in 0usize..12, entropy in any::<u64>()) {
        let policy = BackoffPolicy {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            retries_max: 20,
            slow_probe: None,
        };
        let mut backoff = Backoff::new(policy);
        for _ in 0..failures {
            backoff.next_pause(entropy);
        }
        let full = Duration::from_secs(60.min(1 << failures));
        let Pause::Retry(pause) = backoff.next_pause(entropy) else { panic!("20 retries were allowed") };
        prop_assert!(pause >= full / 2 && pause <= full);
    }
}
