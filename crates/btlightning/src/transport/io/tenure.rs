//! For how long the state of a server's connections is kept.
//!
//! quinn keeps what it has of a connection until its draining period is over. That period is the peer's to choose, up to
//! 50 s, and it does not begin at all for a connection that its own first packet closes: such a one is kept for the idle
//! timeout. So whoever closes connections could have a server keep any number of them. Therefore a server's connections
//! are forgotten [`FAREWELL_TIME`] after nobody serves them any more, those of strangers at once when they use up their
//! [allowance](Allowance), or somebody else [needs](Eviction) their place, and those of others at once when they
//! [flood](Floods) them.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::Connection;
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::allowance::Allowance;
use super::lock;
use super::quiet::Quiet;
use crate::transport::close::CloseReason;
use crate::transport::floods::Floods;

/// How long the state of a connection is kept that nobody serves any more: the peer is told again that it is closed
/// whenever it sends something meanwhile, and after that what it sends is answered by a stateless reset.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// The time that a connection is served. When it is dropped, the connection is about to be forgotten.
#[derive(Debug)]
pub(crate) struct Tenure(Arc<Shared>);

/// What the driver of a connection and whoever serves it both know.
struct Shared {
    stage: AtomicU8,
    /// Whether nothing good is to be expected of it.
    has_earned_eviction: AtomicBool,
    held: Mutex<Held>,
}

/// The stages of a tenure.
const STRANGER: u8 = 0;
const MEMBER: u8 = 1;
const OVER: u8 = 2;
const EVICTED: u8 = 3;

#[derive(Default)]
struct Held {
    driver: Option<Waker>,
    /// For as long as the connection is kept and a stranger's.
    deposit: Option<Box<dyn Any + Send>>,
    /// As long as it is served.
    connection: Option<Connection>,
    allowance: Allowance,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("stage", &self.stage).finish_non_exhaustive()
    }
}

thread_local! {
    /// Whose connection is being accepted on this thread.
    static ACCEPTING: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

impl Tenure {
    /// That of a stranger.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            stage: AtomicU8::new(STRANGER),
            has_earned_eviction: AtomicBool::new(false),
            held: Mutex::default(),
        }))
    }

    /// Holds on to `deposit` until the connection is forgotten, or [no stranger's](Door::pass) any more.
    pub(crate) fn hold(&self, deposit: impl Send + 'static) {
        lock(&self.0.held).deposit = Some(Box::new(deposit));
    }

    /// What takes its place from it.
    pub(crate) fn eviction(&self) -> Eviction {
        Eviction(Arc::downgrade(&self.0))
    }

    #[cfg(test)]
    pub(crate) fn is_evicted(&self) -> bool {
        self.0.is_evicted()
    }

    /// Accepts a connection, by quinn: the tenure is that connection's.
    pub(crate) fn of<T>(&self, accept: impl FnOnce() -> T) -> T {
        struct Accepted;
        impl Drop for Accepted {
            fn drop(&mut self) {
                ACCEPTING.take();
            }
        }
        ACCEPTING.set(Some(self.0.clone()));
        let _accepted = Accepted;
        accept()
    }

    /// Has `connection`, which was [accepted](Self::of), closed when it sends more than a stranger may, or floods.
    pub(crate) fn watch(&self, connection: Connection) {
        let mut held = lock(&self.0.held);
        if !self.0.is_evicted() {
            held.connection = Some(connection);
            return;
        }
        drop(held);
        // Before it was known here.
        CloseReason::CrowdedOut.close(&connection);
    }

    /// What the connection passes when it is no stranger's any more.
    pub(crate) fn door(&self) -> Door {
        Door(self.0.clone())
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.0.stage.fetch_max(OVER, Ordering::SeqCst);
        self.0.release();
        self.0.wake();
    }
}

/// Where a connection stops being a stranger's.
#[derive(Debug)]
pub(crate) struct Door(Arc<Shared>);

impl Door {
    /// From here on the connection may send what is no [flood](Floods), nothing is held for it, and nobody takes its place.
    /// False if somebody has.
    pub(crate) fn pass(&self) -> bool {
        let stage = &self.0.stage;
        let passed = stage.compare_exchange(STRANGER, MEMBER, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if passed {
            self.0.give_back();
        }
        passed
    }

    /// Lets others from its source have the connection's place sooner.
    pub(crate) fn earn_eviction(&self) {
        self.0.has_earned_eviction.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has taken the connection's place.
    pub(crate) fn is_evicted(&self) -> bool {
        self.0.is_evicted()
    }
}

/// Takes the place of a connection from it.
#[derive(Debug)]
pub(crate) struct Eviction(Weak<Shared>);

impl Eviction {
    /// Whether it is [earned](Door::earn_eviction), or the connection not even served any more.
    pub(crate) fn is_earned(&self) -> bool {
        self.0.upgrade().is_none_or(|shared| {
            shared.has_earned_eviction.load(Ordering::Relaxed) || shared.stage.load(Ordering::SeqCst) == OVER
        })
    }

    /// Has the connection closed and forgotten, unless it is no stranger's any more.
    pub(crate) fn evict(&self) {
        let Some(shared) = self.0.upgrade() else { return };
        let evicted = |stage| (stage != MEMBER).then_some(EVICTED);
        if shared.stage.fetch_update(Ordering::SeqCst, Ordering::SeqCst, evicted).is_ok() {
            shared.wake();
        }
    }
}

impl Shared {
    fn is_evicted(&self) -> bool {
        self.stage.load(Ordering::SeqCst) == EVICTED
    }

    fn wake(&self) {
        if let Some(driver) = &lock(&self.held).driver {
            driver.wake_by_ref();
        }
    }

    /// Lets go of the connection. quinn closes it if nobody else has it.
    fn release(&self) {
        let connection = lock(&self.held).connection.take();
        drop(connection);
    }

    fn give_back(&self) {
        let deposit = lock(&self.held).deposit.take();
        drop(deposit);
    }

    /// Takes the connection if that is what its peer has earned.
    fn take_if(&self, is_out: impl FnOnce(&Connection, &mut Allowance) -> bool) -> Option<Connection> {
        let mut held = lock(&self.held);
        let Held { connection, allowance, .. } = &mut *held;
        if is_out(connection.as_ref()?, allowance) { connection.take() } else { None }
    }
}

/// A task of quinn's.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Begins a task: one that drives a connection, if one is being accepted, or the one that reads the socket.
pub(super) fn spawn(quiet: Arc<Quiet>, mut future: Task) {
    match ACCEPTING.take() {
        Some(shared) => drop(tokio::spawn(Driver {
            future: Some(future),
            shared,
            quiet,
            waker: None,
            farewell: None,
            floods: Floods::default(),
        })),
        None => drop(tokio::spawn(poll_fn(move |cx| quiet.around(|| future.as_mut().poll(cx))))),
    }
}

/// Drives a connection until it has ended, or its tenure is over and the farewell said. quinn tells its endpoint to
/// forget a connection as soon as nobody has it any more.
struct Driver {
    future: Option<Task>,
    shared: Arc<Shared>,
    quiet: Arc<Quiet>,
    /// The one that is in `shared`.
    waker: Option<Waker>,
    farewell: Option<Pin<Box<Sleep>>>,
    floods: Floods,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            this.waker = Some(cx.waker().clone());
            lock(&this.shared.held).driver = this.waker.clone();
        }
        let Some(future) = &mut this.future else { return Poll::Ready(()) };
        if this.quiet.around(|| future.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        let (connection, reason) = match this.shared.stage.load(Ordering::SeqCst) {
            MEMBER if !this.floods.note_run() => return Poll::Pending,
            MEMBER => match this.shared.take_if(|connection, _| this.floods.look(connection).is_some()) {
                Some(connection) => (Some(connection), CloseReason::FrameFlood),
                None => return Poll::Pending,
            },
            STRANGER => {
                match this.shared.take_if(|connection, allowance| allowance.is_used_up(&connection.stats())) {
                    Some(connection) => (Some(connection), CloseReason::StrangerAllowance),
                    None => return Poll::Pending,
                }
            }
            EVICTED => (lock(&this.shared.held).connection.take(), CloseReason::CrowdedOut),
            _ => {
                return this.farewell.get_or_insert_with(|| Box::pin(sleep(FAREWELL_TIME))).as_mut().poll(cx);
            }
        };
        if let Some(connection) = connection {
            let remote = connection.remote_address();
            this.quiet
                .closed
                .line(|more| debug!("closing the connection of {remote}: {}{more}", reason.as_str()));
            reason.close(&connection);
            // Says so, once.
            let _ = this.quiet.around(|| future.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The connection's state first, and only then what was deposited for it.
        self.future = None;
        self.shared.release();
        self.shared.give_back();
        lock(&self.shared.held).driver = None;
    }
}
