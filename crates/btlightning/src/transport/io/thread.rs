//! One I/O thread: a current-thread runtime, and whoever runs it.
//!
//! The runtime has one *leader* at a time. Between two runs of the runtime the leader does [errands](super::errands): quick
//! handlers, for which going to another thread would take longer than they do. If one of them does not end, the *stand-in*,
//! which looks every [`LOOK_EVERY`] while there are errands, becomes the leader, and the former leader is only that
//! handler's thread from then on. So no handler, whatever it does, stops packets for longer than two looks.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::runtime::{Builder, Handle, Runtime};
use tracing::{debug, error};

use super::errands::{Errand, Errands, Outcome, Slot};
use super::inbox::{Entry, Inbox, Job};
use super::polling::{Next, Polling};
use super::{lock, processors};

/// How often the stand-in looks whether an errand hangs.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// After this many looks without an errand the stand-in sleeps until there is one.
const IDLE_LOOKS: u32 = 10;

/// How many errands are done before their outcomes are delivered and packets are looked after again, and for how long.
const ERRANDS_AT_ONCE: u32 = 8;
const ERRANDS_FOR: Duration = Duration::from_micros(100);

/// How many errands may hang at once; each keeps a thread. With more, no handler runs on an I/O thread.
const HANGING_MAX: usize = 16;

/// How long a thread that nobody uses any more runs on for what its connections still have to tell their peers, at most.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(3);

/// How often it looks whether they are done.
const FAREWELL_LOOK_EVERY: Duration = Duration::from_millis(5);

/// A handle on an I/O thread. The thread ends some time after [`IoThread::end`].
#[derive(Clone)]
pub(crate) struct IoThread {
    handle: Handle,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    inbox: Inbox,
    errands: Errands,
    /// To be woken when there is something for the leader to do outside the runtime.
    leader: Mutex<Option<Waker>>,
    /// The errand that is being done, and its number.
    current: Mutex<Option<Arc<dyn Errand>>>,
    /// Zero while there is none.
    current_number: AtomicU64,
    /// The number of the last errand that was begun.
    errands_begun: AtomicU64,
    /// Former leaders whose errands have not ended.
    hanging: AtomicUsize,
    stand_in: Mutex<Option<Thread>>,
    stand_in_sleeps: AtomicBool,
    is_ending: AtomicBool,
}

impl std::fmt::Debug for IoThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IoThread").field(&self.shared.name).finish()
    }
}

impl IoThread {
    /// Starts one.
    ///
    /// # Errors
    /// When the operating system gives no thread, or no event queue.
    pub(super) fn start(name: String) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            name: name.clone(),
            inbox: Inbox::default(),
            errands: Errands::default(),
            leader: Mutex::default(),
            current: Mutex::default(),
            current_number: AtomicU64::new(0),
            errands_begun: AtomicU64::new(0),
            hanging: AtomicUsize::new(0),
            stand_in: Mutex::default(),
            stand_in_sleeps: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
        });
        let handle = runtime.handle().clone();
        handle.spawn(pump(shared.clone()));
        let leader = Leader { shared: shared.clone(), runtime: Arc::new(runtime) };
        thread::Builder::new().name(name).spawn(move || leader.lead())?;
        Ok(Self { handle, shared })
    }

    /// The runtime.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether this is called on the thread, within its runtime.
    pub(crate) fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|current| current.id() == self.handle.id())
    }

    /// Runs `job` on the thread, within its runtime. Jobs are short.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.shared.inbox.put(Entry::Once(Box::new(job)));
    }

    /// [`run`](Self::run) without an allocation.
    pub(crate) fn put(&self, job: Arc<dyn Job>) {
        self.shared.inbox.put(Entry::Job(job));
    }

    /// Notes that packets have arrived. To be called on the thread.
    pub(crate) fn packets_arrived(&self) {
        self.shared.inbox.packets_arrived();
    }

    /// Does `work` on the thread, outside the runtime. Called within the runtime. If it takes more than a few
    /// milliseconds, `on_overdue` is called from another thread; the work goes on. Dropped before the work has begun, the
    /// future takes it back.
    pub(crate) fn errand<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        on_overdue: impl Fn() + Send + Sync + 'static,
    ) -> Outcome<T> {
        let slot = Slot::new(Box::new(work), Box::new(on_overdue));
        self.add_errand(slot.clone());
        Outcome(slot)
    }

    /// Whether the thread does errands. It takes none while too many of those before have not ended.
    pub(crate) fn takes_errands(&self) -> bool {
        self.shared.hanging.load(Ordering::Relaxed) < HANGING_MAX
    }

    /// Has the thread do `errand`, outside the runtime. Called within the runtime.
    pub(crate) fn add_errand(&self, errand: Arc<dyn Errand>) {
        if self.shared.errands.add(errand) {
            self.shared.wake_leader();
        }
    }

    /// Nobody uses the thread any more. It ends when the tasks on it have, after [`FAREWELL_TIME_MAX`] at the latest.
    pub(super) fn end(&self) {
        let shared = self.shared.clone();
        let handle = self.handle.clone();
        self.handle.spawn(async move {
            let until = tokio::time::Instant::now() + FAREWELL_TIME_MAX;
            // The pump and this one are always there.
            while handle.metrics().num_alive_tasks() > 2 && tokio::time::Instant::now() < until {
                tokio::time::sleep(FAREWELL_LOOK_EVERY).await;
            }
            shared.is_ending.store(true, Ordering::SeqCst);
            shared.wake_leader();
            shared.wake_stand_in();
        });
    }
}

impl Shared {
    fn wake_leader(&self) {
        if let Some(waker) = lock(&self.leader).take() {
            waker.wake();
        }
    }

    fn wake_stand_in(&self) {
        self.stand_in_sleeps.store(false, Ordering::SeqCst);
        if let Some(thread) = &*lock(&self.stand_in) {
            thread.unpark();
        }
    }
}

/// Looks into the inbox, and keeps the thread from parking for a moment after the last packet or job.
async fn pump(shared: Arc<Shared>) {
    let mut polling = Polling::new(processors() > 1);
    let mut jobs = Vec::new();
    let mut seen = shared.inbox.arrivals();
    loop {
        shared.inbox.take(&mut jobs);
        let arrivals = shared.inbox.arrivals();
        let is_busy = !jobs.is_empty() || arrivals != seen;
        seen = arrivals;
        for job in jobs.drain(..) {
            // Whoever is woken is the program's.
            if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
                error!("{}: a job panicked", shared.name);
            }
        }
        match polling.next(is_busy, Instant::now()) {
            Next::Poll => {
                if !is_busy {
                    // Somebody else may want the processor.
                    thread::yield_now();
                }
                tokio::task::yield_now().await;
            }
            Next::Park => std::future::poll_fn(|cx| shared.inbox.poll_news(cx, seen)).await,
        }
    }
}

/// Who runs the runtime.
struct Leader {
    shared: Arc<Shared>,
    runtime: Arc<Runtime>,
}

enum Turn {
    Errands,
    /// Nobody uses the thread any more.
    Over,
}

/// Another thread leads.
struct Deposed;

impl Leader {
    fn lead(self) {
        while let Turn::Errands = self.runtime.block_on(self.turn()) {
            self.have_stand_in();
            if let ControlFlow::Break(Deposed) = self.do_errands() {
                // Whoever leads now is in the runtime, and delivers what this one has done.
                self.shared.wake_leader();
                self.shared.hanging.fetch_sub(1, Ordering::SeqCst);
                break;
            }
        }
        if self.shared.is_ending.load(Ordering::SeqCst) {
            // They hold on to this thread's handle, and it to them.
            lock(&self.shared.current).take();
            self.shared.errands.clear();
            self.shared.inbox.take(&mut Vec::new());
        }
        debug!("{}: a leader steps down", self.shared.name);
    }

    /// Runs the runtime until there is something to be done outside of it.
    fn turn(&self) -> impl Future<Output = Turn> {
        let shared = &self.shared;
        // Whether tasks and packets have had their turn.
        let mut had_a_round = false;
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            shared.errands.deliver();
            let mut leader = lock(&shared.leader);
            if shared.errands.are_done() {
                // Of a former leader, just now.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if shared.is_ending.load(Ordering::SeqCst) {
                return Poll::Ready(Turn::Over);
            }
            let is_first = !std::mem::replace(&mut had_a_round, true);
            if shared.errands.are_waiting() {
                if !is_first {
                    return Poll::Ready(Turn::Errands);
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            *leader = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn do_errands(&self) -> ControlFlow<Deposed> {
        let shared = &self.shared;
        let began = Instant::now();
        let mut done = 0;
        while done < ERRANDS_AT_ONCE
            && let Some(errand) = shared.errands.next()
        {
            done += 1;
            *lock(&shared.current) = Some(errand.clone());
            let number = shared.errands_begun.fetch_add(1, Ordering::Relaxed) + 1;
            shared.current_number.store(number, Ordering::SeqCst);
            if shared.stand_in_sleeps.load(Ordering::SeqCst) {
                shared.wake_stand_in();
            }
            if catch_unwind(AssertUnwindSafe(|| errand.run())).is_err() {
                error!("{}: an errand panicked", shared.name);
            }
            // Either this leader takes the number back, or the stand-in has: then it leads.
            let is_deposed = shared
                .current_number
                .compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst)
                .is_err();
            shared.errands.note_done(errand);
            if is_deposed {
                return ControlFlow::Break(Deposed);
            }
            lock(&shared.current).take();
            if began.elapsed() >= ERRANDS_FOR {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Makes sure that somebody looks after the errands.
    fn have_stand_in(&self) {
        let mut stand_in = lock(&self.shared.stand_in);
        if stand_in.is_some() {
            return;
        }
        let (shared, runtime) = (self.shared.clone(), self.runtime.clone());
        let spawned = thread::Builder::new()
            .name(format!("{}-stand-in", shared.name))
            .spawn(move || stand_in_for(shared, runtime));
        match spawned {
            Ok(thread) => *stand_in = Some(thread.thread().clone()),
            Err(error) => {
                error!("{}: no thread to stand in: {error}", self.shared.name);
                // Nobody would look after errands; there are to be no more of them.
                self.shared.hanging.fetch_add(HANGING_MAX, Ordering::SeqCst);
            }
        }
    }
}

/// Looks after errands until one hangs; then leads.
fn stand_in_for(shared: Arc<Shared>, runtime: Arc<Runtime>) {
    let mut seen = 0;
    let mut seen_at = Instant::now();
    let mut idle_looks = 0;
    while !shared.is_ending.load(Ordering::SeqCst) {
        let number = shared.current_number.load(Ordering::SeqCst);
        if number != 0
            && number == seen
            && seen_at.elapsed() >= LOOK_EVERY
            && shared.current_number.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            shared.hanging.fetch_add(1, Ordering::SeqCst);
            let hanging = lock(&shared.current).take();
            if let Some(hanging) = hanging {
                hanging.overdue();
            }
            // The next one is made when there is an errand again.
            *lock(&shared.stand_in) = None;
            return Leader { shared, runtime }.lead();
        }
        idle_looks = if number == seen && number == 0 { idle_looks + 1 } else { 0 };
        if number != seen {
            (seen, seen_at) = (number, Instant::now());
        }
        if idle_looks < IDLE_LOOKS {
            thread::park_timeout(LOOK_EVERY);
        } else {
            shared.stand_in_sleeps.store(true, Ordering::SeqCst);
            if shared.current_number.load(Ordering::SeqCst) == 0 && !shared.is_ending.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.stand_in_sleeps.store(false, Ordering::SeqCst);
            idle_looks = 0;
        }
    }
}
