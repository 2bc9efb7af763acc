//! What a process has one of: the runtime, and the rules of waiting, forking and exiting.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

use crate::errors;

/// How often a thread that waits looks whether Python has a signal for it.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// The most threads that do I/O. Python programs are held up by the GIL long before these are.
const IO_THREADS_MOST: usize = 4;

/// How long the exit waits for threads that wait for the network, at most.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
/// The process whose the runtime is; 0 before there is one.
static PID: AtomicU32 = AtomicU32::new(0);
static EXITING: AtomicBool = AtomicBool::new(false);
/// How many threads wait in here, the GIL released.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// Wakes them all, once, at the exit.
static EXIT: Notify = Notify::const_new();

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(shutdown, module)?)
}

/// The runtime of this process.
///
/// # Errors
/// `ForkError` in a child that was forked from a process with a runtime: its threads are not there.
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
    PID.store(std::process::id(), Ordering::Release);
    // Lost only to another thread that has just made its own.
    let handle = RUNTIME.get_or_init(|| runtime).handle();
    crate::logging::install()?;
    Ok(handle)
}

/// Whether this process is the one that the runtime, if there is one, was made in.
pub(crate) fn is_here() -> bool {
    let pid = PID.load(Ordering::Acquire);
    pid == 0 || pid == std::process::id()
}

/// Refuses to go on where nothing works.
///
/// # Errors
/// `ForkError` in a forked child; `LightningError` while the interpreter exits.
pub(crate) fn check_here() -> PyResult<()> {
    if !is_here() {
        return Err(errors::forked());
    }
    if EXITING.load(Ordering::Acquire) {
        return Err(errors::exiting());
    }
    Ok(())
}

/// Waits for `work` with the GIL released. Python's signal handlers run meanwhile; when one raises, the work is dropped.
///
/// # Errors
/// What a signal handler raises (`KeyboardInterrupt`); what [`check_here`] says, also when the exit begins meanwhile.
pub(crate) fn wait<T: Send>(py: Python<'_>, work: impl Future<Output = T> + Send) -> PyResult<T> {
    let runtime = runtime()?;
    let mut work = std::pin::pin!(work);
    loop {
        let outcome = py.detach(|| {
            let _waiting = Waiting::begin();
            runtime.block_on(async {
                let exit = EXIT.notified();
                if EXITING.load(Ordering::Acquire) {
                    return Woken::Exit;
                }
                tokio::select! {
                    biased;
                    done = work.as_mut() => Woken::Done(done),
                    () = exit => Woken::Exit,
                    () = tokio::time::sleep(SIGNALS_EVERY) => Woken::Look,
                }
            })
        });
        match outcome {
            Woken::Done(done) => return Ok(done),
            Woken::Exit => return Err(errors::exiting()),
            Woken::Look => py.check_signals()?,
        }
    }
}

enum Woken<T> {
    Done(T),
    Exit,
    Look,
}

/// Counts a thread that the exit waits for: one that waits in here, the GIL released, and is woken; or one that runs
/// Python from in here, and is soon done. CPython before 3.14 unwinds threads that come for the GIL later, which must not
/// go through Rust's frames.
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

/// Called once when the interpreter exits: wakes every thread that waits here, and lets them end while they still can.
#[pyfunction]
fn shutdown(py: Python<'_>) {
    if !is_here() || EXITING.swap(true, Ordering::AcqRel) {
        return;
    }
    crate::server::close();
    EXIT.notify_waiters();
    py.detach(|| {
        let until = std::time::Instant::now() + EXIT_PATIENCE;
        while WAITING.load(Ordering::Acquire) > 0 && std::time::Instant::now() < until {
            EXIT.notify_waiters();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    crate::logging::close(py);
}

/// Something that lives on this process's runtime. In a forked child it is neither used nor dropped: its locks may be
/// held by threads that the child does not have.
pub(crate) struct Here<T>(Option<T>);

impl<T> Here<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, to be used.
    ///
    /// # Errors
    /// As [`check_here`].
    pub(crate) fn get(&self) -> PyResult<&T> {
        check_here()?;
        Ok(self)
    }
}

impl<T> Deref for Here<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl<T> Drop for Here<T> {
    fn drop(&mut self) {
        if !is_here() {
            std::mem::forget(self.0.take());
        }
    }
}
