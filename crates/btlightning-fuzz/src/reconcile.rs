//! The reconciler: list after list of wanted miners, under limits that change, carried out on a table of slots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use btlightning_proto::identity::Hotkey;
use btlightning_proto::peers::{
    Close, CloseReason, PeerAddr, Plan, QuicAxonInfo, Slot, WantedPeers, reconcile as plan_for,
};

#[derive(Debug, Arbitrary)]
enum Step {
    /// A new list, and how many addresses there may be.
    Want { axons: Vec<(u8, u8)>, addresses_max: u8 },
    /// A call to a miner that is not on the list adds it.
    Added { hotkey: u8, at: u8 },
    /// A slot ends by itself.
    Lost { at: u8 },
}

/// The hotkeys at each address, as a client holds them. A hotkey that has moved by a call may be at two.
type Table = BTreeMap<PeerAddr, BTreeSet<Hotkey>>;

/// Steps, in the form that `arbitrary` reads.
pub fn reconcile(data: &[u8]) {
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let mut table = Table::new();
    for step in steps {
        match step {
            Step::Want { axons, addresses_max } => {
                let axons: Vec<_> = axons.into_iter().take(LIST_MAX).map(|(key, at)| axon(key, at)).collect();
                let (wanted, _) = WantedPeers::parse(axons);
                table = carried_out(&table, &wanted, usize::from(addresses_max % 24));
            }
            Step::Added { hotkey: key, at } => {
                table.entry(addr(at)).or_default().insert(hotkey(key));
            }
            Step::Lost { at } => {
                table.remove(&addr(at));
            }
        }
    }
}

fn carried_out(before: &Table, wanted: &WantedPeers, addresses_max: usize) -> Table {
    let plan = plan_of(before, wanted, addresses_max);
    let target = table_of(wanted);
    let after = apply(before, &plan);

    assert!(after.len() <= addresses_max, "{} addresses, and the limit is {addresses_max}", after.len());
    let mut all = after.clone();
    for Slot { addr, hotkeys } in &plan.over_limit {
        assert!(!hotkeys.is_empty());
        let clash = all.insert(addr.clone(), hotkeys.iter().copied().collect());
        assert_eq!(clash, None, "an address is in one list of the plan");
    }
    assert_eq!(all, target, "all that is wanted is there or named, and nothing else");
    assert!(plan.over_limit.is_empty() || after.len() == addresses_max, "room is left unused");
    for (hotkey, addr) in wanted.as_slice() {
        let has_route = after.get(addr).is_some_and(|hotkeys| hotkeys.contains(hotkey));
        let is_named = plan.over_limit.iter().any(|slot| slot.addr == *addr && slot.hotkeys.contains(hotkey));
        assert!(has_route != is_named, "{hotkey} has no route, or two");
    }
    reasons_are_true(before, &plan, wanted);
    existing_come_first(before, &plan);
    again_changes_nothing(&after, &plan, wanted, addresses_max);
    after
}

/// Does what the plan says, and fails where it cannot be done.
fn apply(before: &Table, plan: &Plan) -> Table {
    let mut table = before.clone();
    for Close { addr, .. } in &plan.close {
        assert!(table.remove(addr).is_some(), "closes an address that is not there");
    }
    for Slot { addr, hotkeys } in &plan.keep {
        assert_eq!(table.get(addr), Some(&hotkeys.iter().copied().collect()), "keeps what is not the same");
        assert!(hotkeys.is_sorted() && !hotkeys.is_empty());
    }
    for Slot { addr, hotkeys } in &plan.change {
        let changed = hotkeys.iter().copied().collect();
        let old = table.insert(addr.clone(), changed).expect("changes an address that is not there");
        assert_ne!(old, table[addr], "changes what is the same");
        assert!(hotkeys.is_sorted() && !hotkeys.is_empty());
    }
    for Slot { addr, hotkeys } in &plan.open {
        let old = table.insert(addr.clone(), hotkeys.iter().copied().collect());
        assert_eq!(old, None, "opens an address that is there");
        assert!(hotkeys.is_sorted() && !hotkeys.is_empty());
    }
    table
}

fn reasons_are_true(before: &Table, plan: &Plan, wanted: &WantedPeers) {
    let anywhere: BTreeSet<_> = wanted.as_slice().iter().map(|(hotkey, _)| *hotkey).collect();
    for Close { addr, reason } in &plan.close {
        let expected = match () {
            () if wanted.as_slice().iter().any(|(_, at)| at == addr) => CloseReason::OverLimit,
            () if before[addr].iter().any(|hotkey| anywhere.contains(hotkey)) => CloseReason::AddressMoved,
            () => CloseReason::Deregistered,
        };
        assert_eq!(*reason, expected, "{addr}");
    }
}

/// Nobody who is there gives way to a newcomer.
fn existing_come_first(before: &Table, plan: &Plan) {
    let gives_way = plan.close.iter().any(|close| close.reason == CloseReason::OverLimit);
    assert!(plan.open.is_empty() || !gives_way);
    assert!(plan.open.iter().all(|slot| !before.contains_key(&slot.addr)));
}

fn again_changes_nothing(after: &Table, first: &Plan, wanted: &WantedPeers, addresses_max: usize) {
    let second = plan_of(after, wanted, addresses_max);
    assert!(second.close.is_empty() && second.open.is_empty() && second.change.is_empty());
    assert_eq!(second.keep.len(), after.len());
    let named = |plan: &Plan| plan.over_limit.iter().map(|slot| slot.addr.clone()).collect::<BTreeSet<_>>();
    assert_eq!(named(first), named(&second));
}

fn plan_of(table: &Table, wanted: &WantedPeers, addresses_max: usize) -> Plan {
    let current = table.iter().flat_map(|(addr, keys)| keys.iter().map(|key| (*key, addr.clone())));
    plan_for(current, wanted, addresses_max)
}

fn table_of(wanted: &WantedPeers) -> Table {
    let mut table = Table::new();
    for (hotkey, addr) in wanted.as_slice() {
        table.entry(addr.clone()).or_default().insert(*hotkey);
    }
    table
}

const LIST_MAX: usize = 40;

/// Base58 would take most of the time.
static SPELLED: LazyLock<Vec<String>> = LazyLock::new(|| (0..32).map(|n| hotkey(n).to_string()).collect());

fn axon(key: u8, at: u8) -> QuicAxonInfo {
    // Some addresses in their other spelling, and one that nobody can dial.
    let ip = match at % 24 {
        n @ 0..20 => format!("192.0.2.{n}"),
        n @ 20..23 => format!("::ffff:192.0.2.{}", n - 20),
        _ => "0.0.0.0".to_owned(),
    };
    QuicAxonInfo::new(SPELLED[usize::from(key % 32)].clone(), ip, 8443, 4)
}

fn addr(at: u8) -> PeerAddr {
    PeerAddr::new(&format!("192.0.2.{}", at % 20), 8443)
}

fn hotkey(n: u8) -> Hotkey {
    Hotkey::from_public_key([n % 32 + 1; 32]).expect("not the identity point")
}
