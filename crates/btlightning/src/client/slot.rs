//! The slot of one address: what queries read and wait on, and the supervisor writes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use btlightning_proto::peers::PeerAddr;
use tokio::sync::{Notify, watch};

use super::dial_error::DialError;
use super::link::Link;
use super::peers::{Peer, PeerFeed, PeerState};
use crate::transport::close::CloseReason;

/// How things stand at one address.
#[derive(Debug, Clone)]
pub(crate) enum SlotState {
    /// A dial is under way.
    Connecting { attempt: u32 },
    /// A link is up. It is good for the hotkey that it proved, and for no other.
    Connected(Arc<Link>),
    /// The last dial failed. `until` is when the next begins.
    Waiting { until: Option<Instant>, failures: u32, slow: bool, reason: Arc<DialError> },
    /// Nobody wants this address any more.
    Closed,
}

impl SlotState {
    /// Whether both say that one and the same dial is under way.
    fn is_same_dial(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Connecting { attempt }, Self::Connecting { attempt: other }) => attempt == other,
            _ => false,
        }
    }
}

/// One address, its hotkeys and its state.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) addr: PeerAddr,
    members: Mutex<Members>,
    state: watch::Sender<SlotState>,
    orders: Orders,
}

/// Who should be at the address, and who was.
#[derive(Debug)]
struct Members {
    wanted: HashSet<Hotkey>,
    /// Who proved to be there the last time a link was up.
    proven: Option<Hotkey>,
}

/// What the rest of the client may ask of a slot's supervisor.
#[derive(Debug)]
struct Orders {
    /// Dial now instead of when the pause is over.
    redial: Notify,
    /// Stop, for this reason.
    close: watch::Sender<Option<CloseReason>>,
    /// The link with this id is to be dropped.
    drop_link: watch::Sender<Option<(usize, LinkFault)>>,
}

/// Why a live link is given up while its slot goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkFault {
    /// Queries were waiting, and nothing at all came back.
    Silent,
    /// The hotkey that it proved is no longer wanted here, though others are.
    Unwanted(CloseReason),
}

impl Slot {
    pub(crate) fn new(addr: PeerAddr, wanted: HashSet<Hotkey>) -> Self {
        Self {
            addr,
            members: Mutex::new(Members { wanted, proven: None }),
            state: watch::Sender::new(SlotState::Connecting { attempt: 1 }),
            orders: Orders {
                redial: Notify::new(),
                close: watch::Sender::new(None),
                drop_link: watch::Sender::new(None),
            },
        }
    }

    /// How things stand.
    pub(crate) fn state(&self) -> SlotState {
        self.state.borrow().clone()
    }

    /// Whether nobody supervises the address any more.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), SlotState::Closed)
    }

    /// Whether the address is down, and is not going to be dialled unless somebody asks for it.
    pub(crate) fn is_left_alone(&self) -> bool {
        matches!(*self.state.borrow(), SlotState::Waiting { until: None, .. })
    }

    /// Whether the last dial failed for the server's TLS key, and one of those who are wanted here has another pin `now`
    /// than it had `before`.
    pub(crate) fn is_repinned(
        &self,
        before: &HashMap<Hotkey, TlsKeyPin>,
        now: &HashMap<Hotkey, TlsKeyPin>,
    ) -> bool {
        let failed_for_its_key = match &*self.state.borrow() {
            SlotState::Waiting { reason, .. } => matches!(**reason, DialError::WrongTlsKey { .. }),
            _ => false,
        };
        failed_for_its_key && self.wanted().iter().any(|hotkey| before.get(hotkey) != now.get(hotkey))
    }

    /// To wait for changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<SlotState> {
        self.state.subscribe()
    }

    /// Records a new state and tells the subscribers of every hotkey that is wanted here.
    pub(crate) fn enter(&self, state: SlotState, feed: &PeerFeed) {
        if let SlotState::Connected(link) = &state {
            self.members().proven = Some(link.proven);
        }
        let mut is_news = false;
        self.state.send_if_modified(|now| {
            // A closed slot stays closed: its supervisor may still be on its way out.
            if matches!(now, SlotState::Closed) {
                return false;
            }
            is_news = !now.is_same_dial(&state);
            *now = state;
            true
        });
        if is_news {
            self.announce(feed);
        }
    }

    /// Tells the subscribers how things stand with every hotkey that is wanted here.
    pub(crate) fn announce(&self, feed: &PeerFeed) {
        for hotkey in self.wanted() {
            feed.announce(self.peer(hotkey));
        }
    }

    /// The hotkeys that are wanted here.
    pub(crate) fn wanted(&self) -> Vec<Hotkey> {
        self.members().wanted.iter().copied().collect()
    }

    pub(crate) fn wants(&self, hotkey: &Hotkey) -> bool {
        self.members().wanted.contains(hotkey)
    }

    /// The wanted hotkey that has proven to be here, even if the link is down just now.
    pub(crate) fn authenticated(&self) -> Option<Hotkey> {
        let members = self.members();
        members.proven.filter(|proven| members.wanted.contains(proven))
    }

    /// Wants `hotkey` here too; says whether that is new, to the subscribers as well.
    pub(crate) fn want(&self, hotkey: Hotkey, feed: &PeerFeed) -> bool {
        let is_new = self.members().wanted.insert(hotkey);
        if is_new {
            feed.announce(self.peer(hotkey));
        }
        is_new
    }

    /// Wants exactly `hotkeys` here, and tells the subscribers of those who came and went. A link that proved none of
    /// them is given up for `reason`.
    pub(crate) fn want_only(&self, hotkeys: HashSet<Hotkey>, reason: CloseReason, feed: &PeerFeed) {
        if let SlotState::Connected(link) = self.state()
            && !hotkeys.contains(&link.proven)
        {
            self.give_up(&link, LinkFault::Unwanted(reason));
        }
        let before = std::mem::replace(&mut self.members().wanted, hotkeys.clone());
        for gone in before.difference(&hotkeys) {
            feed.announce(Peer { hotkey: *gone, addr: self.addr.clone(), state: PeerState::Closed });
        }
        for new in hotkeys.difference(&before) {
            feed.announce(self.peer(*new));
        }
    }

    /// How things stand with one hotkey at this address.
    pub(crate) fn peer(&self, hotkey: Hotkey) -> Peer {
        Peer { hotkey, addr: self.addr.clone(), state: self.peer_state(&hotkey) }
    }

    fn peer_state(&self, hotkey: &Hotkey) -> PeerState {
        match self.state() {
            SlotState::Connecting { attempt } => PeerState::Connecting { attempt },
            SlotState::Connected(link) if link.proven == *hotkey => {
                PeerState::Connected { since: link.since, path_rtt: link.connection.rtt() }
            }
            SlotState::Connected(link) => {
                PeerState::Refused { until: None, reason: Arc::new(self.wrong_hotkey(&link)) }
            }
            SlotState::Waiting { until, reason, .. } if reason.is_refusal() => {
                PeerState::Refused { until, reason }
            }
            SlotState::Waiting { until, failures, reason, .. } => {
                PeerState::BackingOff { until, failures, reason }
            }
            SlotState::Closed => PeerState::Closed,
        }
    }

    /// What a hotkey that is not the proven one is told.
    pub(crate) fn wrong_hotkey(&self, link: &Link) -> DialError {
        DialError::WrongHotkey { addr: self.addr.clone(), proven: link.proven }
    }

    /// Ends a pause: the supervisor dials now. Does nothing while it dials or is connected.
    pub(crate) fn redial(&self, feed: &PeerFeed) {
        let mut ended = false;
        self.state.send_if_modified(|now| {
            if matches!(now, SlotState::Waiting { .. }) {
                // Entered here and not only by the supervisor, so that whoever asked can wait for the outcome.
                *now = SlotState::Connecting { attempt: 1 };
                ended = true;
            }
            ended
        });
        if ended {
            self.announce(feed);
            self.orders.redial.notify_one();
        }
    }

    /// Tells the supervisor to close the link for `reason` and end. Queries that wait here fail at once.
    pub(crate) fn close(&self, reason: CloseReason, feed: &PeerFeed) {
        self.orders.close.send_if_modified(|order| {
            let first = order.is_none();
            order.get_or_insert(reason);
            first
        });
        self.enter(SlotState::Closed, feed);
    }

    /// Tells the supervisor to drop `link` and dial anew.
    pub(crate) fn give_up(&self, link: &Link, fault: LinkFault) {
        self.orders.drop_link.send_replace(Some((link.connection.stable_id(), fault)));
    }

    /// Resolves when the slot is to be closed. Cancel-safe.
    pub(crate) async fn closing(&self) -> CloseReason {
        let mut order = self.orders.close.subscribe();
        match order.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(CloseReason::ClientShutdown),
            // The sender lives in `self`, so this cannot happen; pending would be as right.
            Err(_) => CloseReason::ClientShutdown,
        }
    }

    /// Resolves when an immediate dial is asked for. Cancel-safe.
    pub(crate) async fn redial_asked(&self) {
        self.orders.redial.notified().await;
    }

    /// Resolves when `link` is to be dropped. Cancel-safe.
    pub(crate) async fn given_up(&self, link: &Link) -> LinkFault {
        let id = link.connection.stable_id();
        let mut orders = self.orders.drop_link.subscribe();
        loop {
            if let Some((named, fault)) = *orders.borrow_and_update()
                && named == id
            {
                return fault;
            }
            if orders.changed().await.is_err() {
                // The sender lives in `self`, so this cannot happen.
                std::future::pending().await
            }
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
