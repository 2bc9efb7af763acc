//! The supervisor of one address. It alone dials, so there is never more than one dial an address, and a query that is
//! cancelled leaves nothing half done: it only ever waited.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use btlightning_proto::peers::{Backoff, BackoffPolicy, Pause};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, info, warn};

use super::dial_error::DialError;
use super::dialler::Dialler;
use super::ends::Wear;
use super::link::Link;
use super::peers::PeerFeed;
use super::slot::{LinkFault, Slot, SlotState};
use crate::transport::close::{self, CloseReason};
use crate::transport::floods::{Flood, Floods, LOOK_EVERY};
use crate::transport::io::Lane;

/// A link that lived for this long was a good one: when it is lost, the count of failures starts anew.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The pause after a dial that should have replaced a link and failed: that link goes on meanwhile.
const REPLACE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What all supervisors of a client share.
pub(crate) struct Supervision {
    pub(crate) dialler: Arc<Dialler>,
    pub(crate) feed: PeerFeed,
    pub(crate) policy: BackoffPolicy,
}

impl Supervision {
    /// Has a task of its own supervise `slot` until it is closed, where its connections are to live.
    pub(crate) fn supervise(self: &Arc<Self>, slot: Arc<Slot>) {
        let Some(endpoints) = self.dialler.endpoints() else { return };
        let lane = endpoints.io.next_lane();
        let mut supervisor = Supervisor {
            lane: lane.clone(),
            backoff: Backoff::new(self.policy),
            failures: 0,
            free_redial_after: Instant::now(),
            entropy: RandomState::new(),
            shared: self.clone(),
            slot,
        };
        lane.spawn(async move { while supervisor.turn().await.is_continue() {} });
    }
}

struct Supervisor {
    shared: Arc<Supervision>,
    lane: Lane,
    slot: Arc<Slot>,
    backoff: Backoff,
    /// Failed dials and short-lived links since the last stable link.
    failures: u32,
    /// A lost link is dialled again without a pause, but not more often than this allows.
    free_redial_after: Instant,
    /// For jitter, nothing else.
    entropy: RandomState,
}

/// However a supervisor ends, nobody waits on its slot for ever.
impl Drop for Supervisor {
    fn drop(&mut self) {
        self.slot.enter(SlotState::Closed, &self.shared.feed);
    }
}

/// However the life of a link ends, nobody waits for an answer on it: the runtime may end that drives it.
struct Closing(Arc<Link>);

impl Drop for Closing {
    fn drop(&mut self) {
        // A link that is closed already stays so for the reason it was closed for.
        CloseReason::ClientShutdown.close(&self.0.connection);
    }
}

/// A link that another one has replaced, and that still has calls.
struct Replaced(Closing);

impl Replaced {
    fn has_calls(&self) -> bool {
        Arc::strong_count(&self.0.0) > 1
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        CloseReason::Replaced.close(&self.0.0.connection);
    }
}

/// What became of a link.
enum Outcome {
    Lost(DialError),
    /// The slot was closed.
    Closed(CloseReason),
    /// It is worn, and this one takes its place.
    Replaced(Arc<Link>),
}

type Turn = std::ops::ControlFlow<()>;

impl Supervisor {
    /// One dial, the link's life if it succeeded, and the pause after.
    async fn turn(&mut self) -> Turn {
        self.enter(SlotState::Connecting { attempt: self.failures.saturating_add(1) });
        let pins = self.shared.dialler.pins.current();
        let dialled = tokio::select! {
            dialled = self.dial() => dialled,
            _ = self.slot.closing() => return Turn::Break(()),
        };
        let failure = match dialled {
            Err(failure) => failure,
            Ok(link) => {
                let began = Instant::now();
                let lost = match self.live(link).await {
                    Ok(lost) => lost,
                    Err(()) => return Turn::Break(()),
                };
                if began.elapsed() >= STABLE_AFTER {
                    self.backoff.reset();
                    self.failures = 0;
                }
                let now = Instant::now();
                let misbehaves = matches!(lost, DialError::Misbehaving(_));
                if now >= self.free_redial_after && !misbehaves {
                    self.free_redial_after = now + STABLE_AFTER;
                    return Turn::Continue(());
                }
                lost
            }
        };
        self.pause(failure, &pins).await
    }

    /// Dials, and turns away whoever is not wanted here.
    async fn dial(&self) -> Result<Arc<Link>, DialError> {
        let link = self.shared.dialler.dial(&self.lane, &self.slot.addr, || self.slot.wanted()).await?;
        if !self.slot.wants(&link.proven) {
            CloseReason::NoAuthenticatedHotkeys.close(&link.connection);
            return Err(self.slot.wrong_hotkey(&link));
        }
        Ok(Arc::new(link))
    }

    /// Announces the link and waits for its end: `Ok` when it was lost, `Err` when the slot was closed. Where the link is
    /// worn, that is the end of the one that takes its place.
    async fn live(&mut self, link: Arc<Link>) -> Result<DialError, ()> {
        let mut link = Closing(link);
        let mut replaced = None;
        loop {
            info!("connected to {} at {}", link.0.proven, self.slot.addr);
            self.enter(SlotState::Connected(link.0.clone()));
            if !self.slot.wants(&link.0.proven) {
                // It was wanted when the dial was made. Whoever changed that found no link to give up.
                self.slot.give_up(&link.0, LinkFault::Unwanted(CloseReason::MinerDeregistered));
            }
            match self.keep(&link.0, &mut replaced).await {
                Outcome::Lost(lost) => {
                    info!("connection to {} at {} is gone: {lost}", link.0.proven, self.slot.addr);
                    return Ok(lost);
                }
                Outcome::Closed(reason) => {
                    reason.close(&link.0.connection);
                    if let Some(Replaced(Closing(link))) = &replaced {
                        reason.close(&link.connection);
                    }
                    return Err(());
                }
                Outcome::Replaced(next) => {
                    // One that had not lost its last call by now loses it: there are never three.
                    replaced = Some(Replaced(std::mem::replace(&mut link, Closing(next))));
                }
            }
        }
    }

    /// Watches over `link`, and over the one before it until that has no calls any more.
    async fn keep(&self, link: &Arc<Link>, replaced: &mut Option<Replaced>) -> Outcome {
        let began = Instant::now();
        let mut next: Option<Pin<Box<_>>> = None;
        let mut replace_after = began;
        let mut floods = Floods::default();
        let mut look = interval_at(began + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut closing = pin!(self.slot.closing());
        let mut closed = pin!(link.connection.closed());
        let mut given_up = pin!(self.slot.given_up(link));
        loop {
            tokio::select! {
                biased;
                reason = &mut closing => return Outcome::Closed(reason),
                error = &mut closed => return Outcome::Lost(DialError::Lost(close::describe(&error))),
                fault = &mut given_up => return Outcome::Lost(self.drop_link(link, fault)),
                dialled = of(&mut next) => match dialled {
                    Ok(next) => return Outcome::Replaced(next),
                    Err(error) => {
                        debug!("the worn link to {} is not replaced yet: {error}", self.slot.addr);
                        next = None;
                        replace_after = Instant::now() + REPLACE_AGAIN_AFTER;
                    }
                },
                () = link.ends.worn() => {}
                _ = look.tick() => {
                    if let Some(flood) = floods.look(&link.connection) {
                        return Outcome::Lost(flooded(link, flood));
                    }
                    link.ends.look();
                }
            }
            if replaced.as_ref().is_some_and(|replaced| !replaced.has_calls()) {
                *replaced = None;
            }
            // This one has it, and the slot.
            let is_quiet = Arc::strong_count(link) <= 2;
            match link.ends.wear(began.elapsed(), is_quiet) {
                Wear::TooMuch => return Outcome::Lost(turned_away(link, "it does not end its streams")),
                Wear::Worn if next.is_none() && Instant::now() >= replace_after => {
                    next = Some(Box::pin(self.dial()));
                }
                Wear::Worn | Wear::Fine => {}
            }
        }
    }

    fn drop_link(&self, link: &Link, fault: LinkFault) -> DialError {
        match fault {
            LinkFault::Silent => {
                CloseReason::ClientShutdown.close(&link.connection);
                DialError::Lost("nothing came back on it while queries were waiting".to_owned())
            }
            LinkFault::Unwanted(reason) => {
                reason.close(&link.connection);
                self.slot.wrong_hotkey(link)
            }
        }
    }

    /// Waits until the next dial is due or asked for.
    ///
    /// `pins` are those that the dial went by. Where one of them was changed while it was under way, the next dial is due.
    async fn pause(&mut self, failure: DialError, pins: &HashMap<Hotkey, TlsKeyPin>) -> Turn {
        self.failures = self.failures.saturating_add(1);
        if failure.is_refusal() {
            self.backoff.refused();
        }
        let pause = self.backoff.next_pause(self.entropy.hash_one(self.failures));
        let (length, slow) = match pause {
            Pause::Retry(length) => (Some(length), false),
            Pause::Probe(length) => (Some(length), true),
            Pause::GiveUp => (None, true),
        };
        let until = length.map(|length| Instant::now() + length);
        let reason = Arc::new(failure);
        match length {
            Some(length) if slow => debug!("{}: {reason}; next probe in {length:.1?}", self.slot.addr),
            Some(length) => warn!("{}: {reason}; next dial in {length:.1?}", self.slot.addr),
            None => warn!("{}: {reason}; left alone until the registry names it again", self.slot.addr),
        }
        self.enter(SlotState::Waiting {
            until: until.map(Instant::into_std),
            failures: self.failures,
            slow,
            reason,
        });
        if self.slot.is_repinned(pins, &self.shared.dialler.pins.current()) {
            self.slot.redial(&self.shared.feed);
        }
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.slot.redial_asked() => {
                // The registry has named the miner again: it is as good as new.
                self.backoff.reset();
                self.failures = 0;
            }
            _ = self.slot.closing() => return Turn::Break(()),
        }
        Turn::Continue(())
    }

    fn enter(&self, state: SlotState) {
        self.slot.enter(state, &self.shared.feed);
    }
}

/// Closes a link that is flooded. Where that may have come about honestly, it is dialled again at once.
fn flooded(link: &Link, flood: Flood) -> DialError {
    if flood != Flood::IdsRetired {
        return turned_away(link, flood.as_str());
    }
    CloseReason::ClientShutdown.close(&link.connection);
    DialError::Lost(flood.as_str().to_owned())
}

/// Closes a link whose miner does what no honest one does.
fn turned_away(link: &Link, why: &'static str) -> DialError {
    CloseReason::ClientShutdown.close(&link.connection);
    DialError::Misbehaving(why)
}

/// The outcome of a future that there may be; of none, never.
async fn of<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Sleeps until then, or for ever.
async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
