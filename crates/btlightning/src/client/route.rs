//! From a miner to a proven link, waiting for a dial where one is under way or due in time.

use std::sync::Arc;

use btlightning_proto::identity::Hotkey;
use tokio::time::{Instant, timeout_at};

use super::error::{CallError, Phase};
use super::link::Link;
use super::slot::{Slot, SlotState};

/// A miner and the slot of the address where it should be.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) hotkey: Hotkey,
    pub(crate) slot: Arc<Slot>,
}

/// A live link that has proven the route's hotkey.
///
/// Waits for the dial that is under way. In the pause after a failed dial it waits for the next one, if that begins
/// before `deadline` and the miner is not on slow probes. When the dial it waited for fails, it fails with its reason.
/// Cancel-safe: it only watches.
pub(crate) async fn ready_link(
    route: &Route,
    deadline: Instant,
    asked: Instant,
) -> Result<Arc<Link>, CallError> {
    // Almost every call finds the link up; subscribing is for those that do not. Whether the link is still alive is seen
    // by the thread that it lives on: to look from here would be to wait for that thread's lock.
    if let SlotState::Connected(link) = route.slot.state()
        && link.proven == route.hotkey
        && !link.is_lost()
    {
        return Ok(link);
    }
    let mut states = route.slot.subscribe();
    let mut patience = Patience { deadline, failures_seen: None, dial_seen: false };
    loop {
        let state = states.borrow_and_update().clone();
        match patience.judge(route, &state) {
            Outlook::Ready(link) => return Ok(link),
            Outlook::Hopeless(error) => return Err(error),
            Outlook::Wait => {}
        }
        match timeout_at(deadline, states.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(CallError::Closed(route.slot.addr.clone())),
            Err(_) => return Err(CallError::TimedOut { phase: Phase::Connecting, after: asked.elapsed() }),
        }
    }
}

enum Outlook {
    Ready(Arc<Link>),
    Wait,
    Hopeless(CallError),
}

/// How long one call waits: for one dial, and not past its deadline.
struct Patience {
    deadline: Instant,
    /// The failures that the first pause it met had counted.
    failures_seen: Option<u32>,
    /// A dial was under way while it waited.
    dial_seen: bool,
}

impl Patience {
    fn judge(&mut self, route: &Route, state: &SlotState) -> Outlook {
        let unavailable = |retry_at, source| {
            Outlook::Hopeless(CallError::Unavailable { addr: route.slot.addr.clone(), retry_at, source })
        };
        match state {
            SlotState::Connected(link) if link.proven != route.hotkey => {
                unavailable(None, Arc::new(route.slot.wrong_hotkey(link)))
            }
            // A link that has just died is about to be dialled again; its supervisor will say so.
            SlotState::Connected(link) if link.is_lost() => Outlook::Wait,
            SlotState::Connected(link) => Outlook::Ready(link.clone()),
            SlotState::Connecting { .. } => {
                self.dial_seen = true;
                Outlook::Wait
            }
            SlotState::Waiting { until: Some(until), slow: false, failures, .. }
                if !self.dial_has_failed(*failures) && Instant::from_std(*until) < self.deadline =>
            {
                Outlook::Wait
            }
            SlotState::Waiting { until, reason, .. } => unavailable(*until, reason.clone()),
            SlotState::Closed => Outlook::Hopeless(CallError::Closed(route.slot.addr.clone())),
        }
    }

    /// Whether a pause is the outcome of a dial that the call has waited for. A dial may come and go unseen between two
    /// looks, so failures are compared too.
    fn dial_has_failed(&mut self, failures: u32) -> bool {
        self.dial_seen || *self.failures_seen.get_or_insert(failures) != failures
    }
}
