//! The table of miners: who is wanted, at which address, and the slot of each address.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use btlightning_proto::peers::{self, Close, PeerAddr, QuicAxonInfo, WantedPeers, reconcile};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::deadline::deadline_after;
use super::error::CallError;
use super::known::KnownRoutes;
use super::names::NamesMiner;
use super::peers::Peer;
use super::route::Route;
use super::slot::{Slot, SlotState};
use super::supervisor::Supervision;
use crate::transport::close::CloseReason;

/// Who is wanted where.
pub(crate) struct Registry {
    addresses_max: usize,
    supervision: Arc<Supervision>,
    table: Mutex<Table>,
    known: KnownRoutes,
}

/// What becomes of an address that is still wanted and could not be reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Down {
    DialNow,
    /// It is dialled when its pause is over; now, if it has none.
    Wait,
}

#[derive(Default)]
struct Table {
    slots: HashMap<PeerAddr, Arc<Slot>>,
    /// Where each hotkey was last said to be.
    homes: HashMap<Hotkey, PeerAddr>,
}

impl Registry {
    pub(crate) fn new(addresses_max: usize, supervision: Arc<Supervision>) -> Self {
        Self { addresses_max, supervision, table: Mutex::default(), known: KnownRoutes::default() }
    }

    /// The slot of a hotkey that is wanted.
    pub(crate) fn find(&self, hotkey: &Hotkey) -> Option<Route> {
        let table = self.lock();
        let slot = table.slots.get(table.homes.get(hotkey)?)?;
        Some(Route { hotkey: *hotkey, slot: slot.clone() })
    }

    /// How things stand with everyone.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.slots()
            .iter()
            .flat_map(|slot| slot.wanted().into_iter().map(|hotkey| slot.peer(hotkey)))
            .collect()
    }

    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.lock().slots.values().cloned().collect()
    }

    /// Dials at once wherever a server was turned away for its TLS key, and one of those who are wanted there has another
    /// pin now than `before`.
    pub(crate) fn redial_repinned(&self, before: &HashMap<Hotkey, TlsKeyPin>) {
        let now = self.supervision.dialler.pins.current();
        for slot in self.slots() {
            if slot.is_repinned(before, &now) {
                slot.redial(&self.supervision.feed);
            }
        }
    }

    /// Closes every slot and forgets everyone.
    pub(crate) fn close_all(&self, reason: CloseReason) {
        let mut locked = self.lock();
        self.known.forget();
        let table = std::mem::take(&mut *locked);
        drop(locked);
        for slot in table.slots.values() {
            slot.close(reason, &self.supervision.feed);
        }
    }

    /// The route to `miner`. An axon that the registry does not have is added, and its address dialled.
    pub(crate) fn route(&self, miner: &impl NamesMiner) -> Result<Route, CallError> {
        if self.supervision.dialler.endpoints().is_none() {
            return Err(CallError::NotStarted);
        }
        let spelled = miner.spelled();
        if let Some(route) = spelled.and_then(|spelled| self.known.find(spelled)) {
            return Ok(route);
        }
        let hotkey = miner.hotkey()?;
        let mut table = self.lock();
        let known = match miner.addr() {
            // Most axons are spelt as the registry spells them.
            Some(addr) => {
                table.slots.get(&addr).filter(|slot| slot.wants(&hotkey) && !slot.is_closed()).cloned()
            }
            None => {
                let slot = table.homes.get(&hotkey).and_then(|addr| table.slots.get(addr));
                Some(slot.ok_or(CallError::UnknownPeer(hotkey))?.clone())
            }
        };
        let route = match known {
            Some(slot) => Route { hotkey, slot },
            None => self.added(&mut table, hotkey, miner)?,
        };
        if let Some(spelled) = spelled {
            self.known.note(spelled, &route);
        }
        Ok(route)
    }

    /// The route to a miner that is not at its address yet.
    fn added(&self, table: &mut Table, hotkey: Hotkey, miner: &impl NamesMiner) -> Result<Route, CallError> {
        let addr = miner.addr().ok_or(CallError::UnknownPeer(hotkey))?;
        self.known.forget();
        let addr = addr.canonical()?;
        let slot = match table.slots.get(&addr) {
            Some(slot) if !slot.is_closed() => {
                if slot.want(hotkey, &self.supervision.feed) {
                    // Whoever was refused here before may be who is wanted now.
                    slot.redial(&self.supervision.feed);
                }
                slot.clone()
            }
            None if table.slots.len() >= self.addresses_max => {
                return Err(CallError::ConnectionLimit { max: self.addresses_max });
            }
            // A slot that closed by itself lost its supervisor; it is replaced.
            _ => self.open_slot(table, addr.clone(), HashSet::from([hotkey])),
        };
        table.homes.insert(hotkey, addr);
        Ok(Route { hotkey, slot })
    }

    /// Wants `axons` besides whoever is wanted already. Returns the slots whose dials are under way.
    pub(crate) fn add(&self, axons: Vec<QuicAxonInfo>) -> Vec<Arc<Slot>> {
        let mut table = self.lock();
        // Whoever is named again is where it is said to be now. A hotkey has one spelling.
        let named: HashSet<&str> = axons
            .iter()
            .filter(|axon| axon.addr_key().canonical().is_ok())
            .map(|axon| axon.hotkey.as_str())
            .collect();
        let mut all: Vec<_> = table
            .current()
            // A call may have found one at another address since; that is where it is.
            .filter(|(hotkey, addr)| table.homes.get(hotkey).is_none_or(|home| home == addr))
            .map(|(hotkey, addr)| (hotkey.to_string(), addr))
            .filter(|(hotkey, _)| !named.contains(hotkey.as_str()))
            .filter_map(|(hotkey, addr)| {
                let socket = addr.socket_addr().ok()?;
                Some(QuicAxonInfo::new(hotkey, socket.ip().to_string(), socket.port(), 4))
            })
            .collect();
        all.extend(axons);
        self.carry_out(&mut table, all, Down::DialNow)
    }

    /// Wants exactly `axons`: opens what is new, closes what is gone or has moved, dials now what is down. Returns the
    /// slots whose dials are under way.
    pub(crate) fn replace(&self, axons: Vec<QuicAxonInfo>) -> Vec<Arc<Slot>> {
        let mut table = self.lock();
        self.carry_out(&mut table, axons, Down::DialNow)
    }

    /// Wants exactly `axons`, as [`replace`](Self::replace) does, but leaves those that are down to their back-off: a list
    /// that is read again every few minutes is no news of them. Returns the slots whose dials are under way.
    pub(crate) fn follow(&self, axons: Vec<QuicAxonInfo>) -> Vec<Arc<Slot>> {
        let mut table = self.lock();
        self.carry_out(&mut table, axons, Down::Wait)
    }

    fn carry_out(&self, table: &mut Table, axons: Vec<QuicAxonInfo>, down: Down) -> Vec<Arc<Slot>> {
        self.known.forget();
        let (wanted, rejected) = WantedPeers::parse(axons);
        for peers::Rejected { axon, why } in rejected {
            warn!("miner {:?} at {:?} is left out: {why}", axon.hotkey, axon.addr_key().as_ref());
        }
        table.slots.retain(|_, slot| !slot.is_closed());
        let plan = reconcile(table.current(), &wanted, self.addresses_max);
        if !plan.over_limit.is_empty() {
            let max = self.addresses_max;
            warn!("connection limit ({max}) reached: {} addresses are left out", plan.over_limit.len());
        }

        for Close { addr, reason } in plan.close {
            if let Some(slot) = table.slots.remove(&addr) {
                info!("{addr} is no longer wanted: {reason:?}");
                slot.close(close_reason(reason), &self.supervision.feed);
            }
        }
        table.homes.clear();
        let mut dialling = Vec::new();
        // Whoever was refused at an address that changes hands may be who is wanted there now.
        let keep = plan.keep.into_iter().map(|slot| (slot, down));
        let change = plan.change.into_iter().map(|slot| (slot, Down::DialNow));
        for (peers::Slot { addr, hotkeys }, down) in keep.chain(change) {
            let Some(slot) = table.slots.get(&addr).cloned() else { continue };
            table.homes.extend(hotkeys.iter().map(|hotkey| (*hotkey, addr.clone())));
            slot.want_only(
                hotkeys.into_iter().collect(),
                CloseReason::MinerDeregistered,
                &self.supervision.feed,
            );
            if down == Down::DialNow || slot.is_left_alone() {
                slot.redial(&self.supervision.feed);
            }
            if matches!(slot.state(), SlotState::Connecting { .. }) {
                dialling.push(slot);
            }
        }
        for peers::Slot { addr, hotkeys } in plan.open {
            table.homes.extend(hotkeys.iter().map(|hotkey| (*hotkey, addr.clone())));
            dialling.push(self.open_slot(table, addr, hotkeys.into_iter().collect()));
        }
        dialling
    }

    fn open_slot(&self, table: &mut Table, addr: PeerAddr, wanted: HashSet<Hotkey>) -> Arc<Slot> {
        let slot = Arc::new(Slot::new(addr.clone(), wanted));
        table.slots.insert(addr, slot.clone());
        slot.announce(&self.supervision.feed);
        self.supervision.supervise(slot.clone());
        slot
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until each of `slots` has made the dial that is under way, whatever came of it, but not for longer than `within`.
pub(crate) async fn settled(slots: Vec<Arc<Slot>>, within: Duration) {
    // Subscribed to before the first is waited for, so that none is seen dialling again.
    let waiting: Vec<_> = slots.iter().map(|slot| slot.subscribe()).collect();
    let all = async {
        for mut states in waiting {
            // An error would mean that the slot is gone, and that settles it as well.
            let _ = states.wait_for(|state| !matches!(state, SlotState::Connecting { .. })).await;
        }
    };
    let _ = timeout_at(deadline_after(Instant::now(), within), all).await;
}

fn close_reason(reason: peers::CloseReason) -> CloseReason {
    match reason {
        peers::CloseReason::AddressMoved => CloseReason::MinerAddrChanged,
        peers::CloseReason::Deregistered | peers::CloseReason::OverLimit => CloseReason::MinerDeregistered,
    }
}

impl Table {
    /// Every hotkey that is wanted, with each address it is wanted at.
    fn current(&self) -> impl Iterator<Item = (Hotkey, PeerAddr)> + use<'_> {
        self.slots
            .values()
            .flat_map(|slot| slot.wanted().into_iter().map(|hotkey| (hotkey, slot.addr.clone())))
    }
}
