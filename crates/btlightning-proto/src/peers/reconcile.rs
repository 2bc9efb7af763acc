//! [`reconcile`], from what a client has and what it wants to what it has to do.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{PeerAddr, WantedPeers};
use crate::identity::Hotkey;

/// An address and the hotkeys wanted there, sorted, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Where to dial. One connection serves all the hotkeys; it proves one of them.
    pub addr: PeerAddr,
    /// Whom to find there.
    pub hotkeys: Vec<Hotkey>,
}

/// An address to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Which.
    pub addr: PeerAddr,
    /// What the peer is told.
    pub reason: CloseReason,
}

/// Why an address is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// None of its hotkeys is wanted anywhere.
    Deregistered,
    /// One of its hotkeys at least is now wanted at another address, and nobody here.
    AddressMoved,
    /// Somebody is still wanted there, but the limit has become lower than the number of addresses.
    OverLimit,
}

/// What to do. Every wanted address is in exactly one of `open`, `keep`, `change` and `over_limit`; every current one
/// in exactly one of `keep`, `change` and `close`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Addresses to leave, in their own order.
    pub close: Vec<Close>,
    /// Addresses to begin with, in the order they are wanted in.
    pub open: Vec<Slot>,
    /// Addresses to leave alone: the same hotkeys as before.
    pub keep: Vec<Slot>,
    /// Addresses to keep with other hotkeys than before.
    pub change: Vec<Slot>,
    /// Addresses that there is no room for, those to be closed first. To be reported; nobody dials them.
    pub over_limit: Vec<Slot>,
}

/// Compares the current peers with the wanted ones.
///
/// `current` is every hotkey that has a slot, with the slot's address. At most `addresses_max` addresses remain;
/// existing ones come first, then those earlier in the list. A hotkey that has moved costs its old address only if
/// nobody else is wanted there.
///
/// Carrying the plan out and reconciling again gives a plan that does nothing but keep, and names the same addresses
/// over the limit.
pub fn reconcile(
    current: impl IntoIterator<Item = (Hotkey, PeerAddr)>,
    wanted: &WantedPeers,
    addresses_max: usize,
) -> Plan {
    let current = hotkeys_by_address(current);
    let mut plan = Plan::default();

    let (existing, new): (Vec<_>, Vec<_>) =
        slots_in_order(wanted).into_iter().partition(|slot| current.contains_key(&slot.addr));
    let kept_max = existing.len().min(addresses_max);
    let opened_max = addresses_max - kept_max;

    for (position, slot) in existing.into_iter().enumerate() {
        if position >= kept_max {
            plan.over_limit.push(slot);
        } else if current.get(&slot.addr) == Some(&slot.hotkeys) {
            plan.keep.push(slot);
        } else {
            plan.change.push(slot);
        }
    }
    let mut new = new.into_iter();
    plan.open.extend(new.by_ref().take(opened_max));
    plan.over_limit.extend(new);
    plan.close = closes(&current, wanted, &plan);
    plan
}

fn hotkeys_by_address(
    current: impl IntoIterator<Item = (Hotkey, PeerAddr)>,
) -> BTreeMap<PeerAddr, Vec<Hotkey>> {
    let mut by_address: BTreeMap<PeerAddr, Vec<Hotkey>> = BTreeMap::new();
    for (hotkey, addr) in current {
        by_address.entry(addr).or_default().push(hotkey);
    }
    for hotkeys in by_address.values_mut() {
        hotkeys.sort_unstable();
        hotkeys.dedup();
    }
    by_address
}

/// One slot an address, in the order in which the list first names the address.
fn slots_in_order(wanted: &WantedPeers) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut position_of: HashMap<&PeerAddr, usize> = HashMap::new();
    for (hotkey, addr) in wanted.as_slice() {
        let position = *position_of.entry(addr).or_insert_with(|| {
            slots.push(Slot { addr: addr.clone(), hotkeys: Vec::new() });
            slots.len() - 1
        });
        slots[position].hotkeys.push(*hotkey);
    }
    for slot in &mut slots {
        slot.hotkeys.sort_unstable();
    }
    slots
}

/// Every current address that the plan does not go on with, and why.
fn closes(current: &BTreeMap<PeerAddr, Vec<Hotkey>>, wanted: &WantedPeers, plan: &Plan) -> Vec<Close> {
    let goes_on: HashSet<&PeerAddr> = plan.keep.iter().chain(&plan.change).map(|slot| &slot.addr).collect();
    let over_limit: HashSet<&PeerAddr> = plan.over_limit.iter().map(|slot| &slot.addr).collect();
    let wanted_anywhere: HashSet<&Hotkey> = wanted.as_slice().iter().map(|(hotkey, _)| hotkey).collect();

    current
        .iter()
        .filter(|(addr, _)| !goes_on.contains(addr))
        .map(|(addr, hotkeys)| {
            let reason = if over_limit.contains(addr) {
                CloseReason::OverLimit
            } else if hotkeys.iter().any(|hotkey| wanted_anywhere.contains(hotkey)) {
                CloseReason::AddressMoved
            } else {
                CloseReason::Deregistered
            };
            Close { addr: addr.clone(), reason }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::QuicAxonInfo;

    fn hotkey(n: u8) -> Hotkey {
        Hotkey::from_public_key([n; 32]).unwrap()
    }

    fn addr(n: u8) -> PeerAddr {
        PeerAddr::new(&format!("192.0.2.{n}"), 1)
    }

    fn slot(n: u8, hotkeys: &[u8]) -> Slot {
        Slot { addr: addr(n), hotkeys: hotkeys.iter().copied().map(hotkey).collect() }
    }

    /// Pairs of hotkey and address.
    fn current(pairs: &[(u8, u8)]) -> Vec<(Hotkey, PeerAddr)> {
        pairs.iter().map(|&(key, at)| (hotkey(key), addr(at))).collect()
    }

    fn wanted(pairs: &[(u8, u8)]) -> WantedPeers {
        let axons = pairs
            .iter()
            .map(|&(key, at)| QuicAxonInfo::new(hotkey(key).to_string(), format!("192.0.2.{at}"), 1, 4))
            .collect();
        WantedPeers::parse(axons).0
    }

    #[test]
    fn a_first_list_is_opened_in_its_order() {
        let plan = reconcile([], &wanted(&[(1, 9), (2, 3), (3, 9)]), 10);
        assert_eq!(plan, Plan { open: vec![slot(9, &[1, 3]), slot(3, &[2])], ..Plan::default() });
    }

    #[test]
    fn who_is_gone_is_closed_and_who_stays_is_left_alone() {
        let plan = reconcile(current(&[(1, 1), (2, 2)]), &wanted(&[(1, 1)]), 10);
        let close = vec![Close { addr: addr(2), reason: CloseReason::Deregistered }];
        assert_eq!(plan, Plan { close, keep: vec![slot(1, &[1])], ..Plan::default() });
    }

    #[test]
    fn a_move_closes_the_old_address_only_if_nobody_else_is_wanted_there() {
        let plan = reconcile(current(&[(1, 1)]), &wanted(&[(1, 2)]), 10);
        let close = vec![Close { addr: addr(1), reason: CloseReason::AddressMoved }];
        assert_eq!(plan, Plan { close, open: vec![slot(2, &[1])], ..Plan::default() });

        let plan = reconcile(current(&[(1, 1), (2, 1)]), &wanted(&[(1, 2), (2, 1)]), 10);
        assert_eq!(plan, Plan { change: vec![slot(1, &[2])], open: vec![slot(2, &[1])], ..Plan::default() });
    }

    #[test]
    fn a_move_frees_the_room_that_the_new_address_needs() {
        let plan = reconcile(current(&[(1, 1), (2, 2)]), &wanted(&[(1, 3), (2, 2)]), 2);
        assert_eq!(plan.open, [slot(3, &[1])]);
        assert!(plan.over_limit.is_empty());
    }

    #[test]
    fn existing_addresses_come_before_new_ones_that_the_list_names_earlier() {
        let plan = reconcile(current(&[(3, 3)]), &wanted(&[(1, 1), (2, 2), (3, 3)]), 2);
        assert_eq!(plan.keep, [slot(3, &[3])]);
        assert_eq!(plan.open, [slot(1, &[1])]);
        assert_eq!(plan.over_limit, [slot(2, &[2])]);
    }

    #[test]
    fn a_lower_limit_closes_what_it_has_no_room_for() {
        let plan = reconcile(current(&[(1, 1), (2, 2)]), &wanted(&[(2, 2), (1, 1)]), 1);
        assert_eq!(plan.keep, [slot(2, &[2])]);
        assert_eq!(plan.over_limit, [slot(1, &[1])]);
        assert_eq!(plan.close, [Close { addr: addr(1), reason: CloseReason::OverLimit }]);
    }
}
