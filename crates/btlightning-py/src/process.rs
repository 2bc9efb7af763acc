//! What a process has one of: the runtime, and the rules of waiting, forking and exiting.
//!
//! A process that was forked from one with a runtime has none of its threads, and any lock may be held for ever by one of
//! them. So whatever is shared by a process exists once for each *generation* of processes, objects of an older generation
//! are refused and not even dropped, and objects that the child makes for itself work.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use btlightning::{LightningClient, LightningServer};
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::errors;

/// How often a thread that waits looks whether Python has a signal for it.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// The most threads that do I/O. Python programs are held up by the GIL long before these are.
const IO_THREADS_MOST: usize = 4;

/// How long the exit waits for connections to be closed, at most. It takes next to nothing to tell the peers, and a whole
/// second until nothing more can be heard of them, which nobody waits for here.
const CLOSING_PATIENCE: Duration = Duration::from_millis(150);

/// How long the exit waits for threads that wait for work, at most.
const THREADS_PATIENCE: Duration = Duration::from_secs(1);

/// How many times in a row a process with a runtime may fork and the child make a runtime of its own.
const GENERATIONS: usize = 16;

/// How often a process in this process's ancestry was forked while it had a runtime.
static GENERATION: AtomicUsize = AtomicUsize::new(0);
static RUNTIME: PerProcess<OnceLock<Runtime>> = PerProcess([const { OnceLock::new() }; GENERATIONS]);
/// Who has connections that the exit closes.
static OPEN: PerProcess<Mutex<Vec<Open>>> = PerProcess([const { Mutex::new(Vec::new()) }; GENERATIONS]);
/// How many threads the exit waits for.
static WAITING: PerProcess<AtomicUsize> = PerProcess([const { AtomicUsize::new(0) }; GENERATIONS]);
/// Told when a process has made its runtime.
static STARTED: OnceLock<fn() -> PyResult<()>> = OnceLock::new();
static EXITING: AtomicBool = AtomicBool::new(false);
/// The thread that the interpreter exits in.
static EXIT_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// `started` is told, perhaps more than once, when a process has made its runtime.
pub(crate) fn add_to(module: &Bound<'_, PyModule>, started: fn() -> PyResult<()>) -> PyResult<()> {
    let _ = STARTED.set(started);
    module.add_function(wrap_pyfunction!(forked, module)?)
}

/// A static value that every generation of processes has for itself.
pub(crate) struct PerProcess<T>(pub(crate) [T; GENERATIONS]);

impl<T> PerProcess<T> {
    /// One for each generation.
    pub(crate) const GENERATIONS: usize = GENERATIONS;
}

impl<T> Deref for PerProcess<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // Beyond the last generation nothing is made, so nothing of what the last one has is used.
        &self.0[generation().min(GENERATIONS - 1)]
    }
}

/// How often a process in this process's ancestry was forked while it had a runtime.
pub(crate) fn generation() -> usize {
    GENERATION.load(Ordering::Acquire)
}

/// The runtime of this process.
///
/// # Errors
/// `ForkError` after too many forks; `ClosedError` while the interpreter exits; what a signal handler raises.
pub(crate) fn runtime() -> PyResult<&'static Handle> {
    check_here()?;
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle());
    }
    let threads =
        std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, IO_THREADS_MOST));
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("btlightning-io")
        .enable_all()
        .build()
        .map_err(|error| errors::config(format!("no I/O threads: {error}")))?;
    // Lost only to another thread that has just made its own.
    let runtime = RUNTIME.get_or_init(|| runtime).handle();
    if let Some(started) = STARTED.get() {
        started()?;
    }
    Ok(runtime)
}

/// Refuses to go on where nothing works. Of a thread that is not the one that exits, this is the end: what is still there
/// then is a daemon, and an error in the middle of the exit would not be its program's fault.
///
/// # Errors
/// `ForkError` after too many forks; `ClosedError` while the interpreter exits.
pub(crate) fn check_here() -> PyResult<()> {
    if generation() >= GENERATIONS {
        return Err(errors::forked());
    }
    if EXITING.load(Ordering::Acquire) {
        if EXIT_THREAD.get().is_some_and(|thread| *thread != std::thread::current().id()) {
            Python::attach(|py| py.detach(stay));
        }
        return Err(errors::exiting());
    }
    Ok(())
}

/// Waits for the process to end.
fn stay() {
    loop {
        std::thread::park();
    }
}

/// Waits for `work` with the GIL released. Python's signal handlers run meanwhile; when one raises, the work is dropped.
///
/// A thread that still waits when the interpreter exits never comes back; see [`check_here`].
///
/// # Errors
/// What a signal handler raises (`KeyboardInterrupt`); what [`check_here`] says.
pub(crate) fn wait<T: Send>(py: Python<'_>, work: impl Future<Output = T> + Send) -> PyResult<T> {
    let runtime = runtime()?;
    let mut work = std::pin::pin!(work);
    loop {
        let outcome = py.detach(|| {
            let outcome =
                runtime.block_on(async { tokio::time::timeout(SIGNALS_EVERY, work.as_mut()).await });
            if EXITING.load(Ordering::Acquire) {
                stay();
            }
            outcome
        });
        match outcome {
            Ok(done) => return Ok(done),
            Err(_) => py.check_signals()?,
        }
    }
}

/// Counts a thread that the exit waits for: one that waits in here for work, the GIL released, and is woken; or one that
/// runs Python from in here, and is soon done. CPython before 3.14 unwinds threads that come for the GIL later, and must
/// not meet Rust's frames on the way.
pub(crate) struct Waiting;

impl Waiting {
    pub(crate) fn begin() -> Self {
        WAITING.fetch_add(1, Ordering::AcqRel);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Something with connections.
pub(crate) enum Open {
    Client(Weak<LightningClient>),
    Server(Weak<LightningServer>),
}

impl Open {
    fn is_gone(&self) -> bool {
        match self {
            Self::Client(client) => client.strong_count() == 0,
            Self::Server(server) => server.strong_count() == 0,
        }
    }

    async fn close(self) {
        match self {
            Self::Client(client) => {
                if let Some(client) = client.upgrade() {
                    let _ = client.close_all_connections().await;
                }
            }
            Self::Server(server) => {
                if let Some(server) = server.upgrade() {
                    let _ = server.stop().await;
                }
            }
        }
    }
}

/// Has the exit close what is still open then, so that peers need not find out by themselves.
pub(crate) fn closed_at_exit(open: Open) {
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() == all.capacity() {
        all.retain(|open| !open.is_gone());
    }
    all.push(open);
}

/// Called in a child after each fork. What the parent had is not touched any more.
#[pyfunction]
fn forked() {
    if RUNTIME.get().is_some() {
        GENERATION.fetch_add(1, Ordering::AcqRel);
    }
}

/// Begins the exit: nothing new is begun from now on. False if there is nothing to end here.
pub(crate) fn begin_exit() -> bool {
    if check_here().is_err() {
        return false;
    }
    let _ = EXIT_THREAD.set(std::thread::current().id());
    EXITING.store(true, Ordering::Release);
    RUNTIME.get().is_some()
}

/// Closes connections, and waits a moment for threads that wait for work, or are inside of Python, to have ended.
pub(crate) fn end(py: Python<'_>) {
    let Some(runtime) = RUNTIME.get() else { return };
    py.detach(|| {
        let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = async {
            open.into_iter().map(Open::close).collect::<JoinSet<()>>().join_all().await;
        };
        // Whoever does not hear of it in time finds out.
        let _ = runtime.block_on(async { tokio::time::timeout(CLOSING_PATIENCE, closing).await });
        let until = Instant::now() + THREADS_PATIENCE;
        while WAITING.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Something that lives on the runtime of the process that made it. In a forked child it is neither used nor dropped: its
/// locks may be held by threads that the child does not have.
pub(crate) struct Here<T> {
    value: Option<T>,
    generation: usize,
}

impl<T> Here<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), generation: generation() }
    }

    /// The value, to be used.
    ///
    /// # Errors
    /// `ForkError` in a forked child; otherwise as [`check_here`].
    pub(crate) fn get(&self) -> PyResult<&T> {
        if self.generation != generation() {
            return Err(errors::forked());
        }
        check_here()?;
        Ok(self)
    }
}

impl<T> Deref for Here<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("taken only when dropped")
    }
}

impl<T> Drop for Here<T> {
    fn drop(&mut self) {
        if self.generation != generation() {
            std::mem::forget(self.value.take());
        }
    }
}
