//! Between the runtime and an asyncio event loop.
//!
//! The runtime's threads never take the GIL: a thread that waits for it moves no packets. They put what is for the loop
//! into its [`Bridge`]'s queue and, if the loop was not told already, write one byte to a socket that it watches. The loop
//! then takes all that is there at once. A loop that cannot watch a socket has a Python thread that waits in its place
//! (`btlightning._loop`).

use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::errors;
use crate::kept::{self, Kept};
use crate::process::{self, Here};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Bridge>()?;
    module.add_class::<Pending>()
}

/// What is done on the loop's thread, with the GIL. It returns an error only to have the loop raise it: one that is no
/// `Exception`, which ends the loop (`KeyboardInterrupt`) or is told by it.
pub(crate) type Errand = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// The way to one event loop.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Bridge {
    end: Here<End>,
}

/// The loop's end.
struct End {
    road: Arc<Road>,
    #[cfg(unix)]
    bell: std::os::unix::net::UnixStream,
}

/// The runtime's end.
pub(crate) struct Road {
    errands: Mutex<Errands>,
    /// Whether the loop has been told that there is something, and has not looked since.
    told: AtomicBool,
    /// For a loop that has a thread wait in its place.
    rung: Condvar,
    #[cfg(unix)]
    bell: std::os::unix::net::UnixStream,
}

#[derive(Default)]
struct Errands {
    queued: Vec<Errand>,
    /// Nothing is queued any more: the loop has ended.
    closed: bool,
}

impl Road {
    /// Has the loop do `errand`, soon; drops it if the loop has ended. From any thread; takes no GIL and does not wait.
    pub(crate) fn send(&self, errand: Errand) {
        let mut errands = self.errands();
        if errands.closed {
            // Its own drop is not under the lock.
            drop(errands);
            return;
        }
        errands.queued.push(errand);
        drop(errands);
        if !self.told.swap(true, Ordering::AcqRel) {
            self.ring();
        }
    }

    fn ring(&self) {
        #[cfg(unix)]
        {
            // Full means that the loop has been told often enough. Any other error: the loop is gone, and so are those who
            // would have cared.
            let _ = (&self.bell).write(&[1]);
        }
        let _errands = self.errands();
        self.rung.notify_all();
    }

    fn errands(&self) -> MutexGuard<'_, Errands> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        #[cfg(unix)]
        {
            let pair = || {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                theirs.set_nonblocking(true)?;
                std::io::Result::Ok((ours, theirs))
            };
            let (ours, theirs) =
                pair().map_err(|error| errors::config(format!("no socket pair: {error}")))?;
            Ok(Self { end: Here::new(End { road: Arc::new(Road::new(ours)), bell: theirs }) })
        }
        #[cfg(not(unix))]
        Ok(Self { end: Here::new(End { road: Arc::new(Road::new()) }) })
    }

    /// What the loop watches for reading; `None` where it has to have a thread wait.
    fn fileno(&self) -> PyResult<Option<i64>> {
        let _end = self.end.get()?;
        #[cfg(unix)]
        {
            use std::os::fd::AsRawFd;
            Ok(Some(_end.bell.as_raw_fd().into()))
        }
        #[cfg(not(unix))]
        Ok(None)
    }

    /// Does what there is to do. Called on the loop's thread.
    ///
    /// Raises, once all is done, what is no `Exception` and came up meanwhile.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        // In a forked child, the bell is still the parent's.
        let Ok(end) = self.end.get() else { return Ok(()) };
        // What it does may run Python, and the exit must not come in between.
        let _inside = process::Waiting::begin();
        #[cfg(unix)]
        {
            let mut bytes = [0; 64];
            loop {
                match (&end.bell).read(&mut bytes) {
                    Ok(read) if read == bytes.len() => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
        }
        // Before it looks: whoever comes after this tells it again.
        end.road.told.store(false, Ordering::Release);
        let errands = std::mem::take(&mut end.road.errands().queued);
        let mut raised = None;
        for errand in errands {
            if let Err(error) = panicked(|| errand(py)).and_then(|done| done) {
                match &raised {
                    None => raised = Some(error),
                    Some(_) => error.write_unraisable(py, None),
                }
            }
        }
        kept::sweep(py);
        raised.map_or(Ok(()), Err)
    }

    /// Waits until there is something to do, in a thread in place of the loop. False once the bridge is closed.
    fn wait(&self, py: Python<'_>) -> PyResult<bool> {
        let road = &self.end.get()?.road;
        Ok(py.detach(|| {
            let idle = |errands: &mut Errands| errands.queued.is_empty() && !errands.closed;
            let errands = road.rung.wait_while(road.errands(), idle);
            !errands.unwrap_or_else(PoisonError::into_inner).closed
        }))
    }

    /// Says that the loop has ended: what is queued is dropped, as is what comes later, and a thread that waits ends.
    fn close(&self, py: Python<'_>) {
        let Ok(end) = self.end.get() else { return };
        let queued = {
            let mut errands = end.road.errands();
            errands.closed = true;
            std::mem::take(&mut errands.queued)
        };
        drop(queued);
        end.road.ring();
        kept::sweep(py);
    }
}

impl Bridge {
    pub(crate) fn road(&self) -> PyResult<Arc<Road>> {
        Ok(self.end.get()?.road.clone())
    }
}

impl Road {
    fn new(#[cfg(unix)] bell: std::os::unix::net::UnixStream) -> Self {
        Self {
            errands: Mutex::default(),
            told: AtomicBool::new(false),
            rung: Condvar::new(),
            #[cfg(unix)]
            bell,
        }
    }
}

/// Work of the runtime that an event loop waits for. Dropped or cancelled, the work is dropped where it stands.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Pending {
    work: Here<AbortHandle>,
}

#[pymethods]
impl Pending {
    /// Drops the work, if it is not done.
    fn cancel(&self) -> PyResult<()> {
        self.work.get()?.abort();
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Ok(work) = self.work.get() {
            work.abort();
        }
    }
}

/// Where the outcome of some work goes: an event loop's future, by its bridge. Without one, whoever asked waits.
pub(crate) struct On {
    road: Arc<Road>,
    future: Kept<Py<PyAny>>,
}

impl<'py> FromPyObject<'_, 'py> for On {
    type Error = PyErr;

    fn extract(on: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (bridge, future): (Bound<'py, Bridge>, Bound<'py, PyAny>) = on.extract()?;
        Ok(Self { road: bridge.get().road()?, future: Kept::new(future.unbind()) })
    }
}

/// Does `work` and turns its outcome into a Python object: at once, waiting for it with the GIL released; or, `on` an event
/// loop, later, handing out a [`Pending`].
///
/// # Errors
/// What `finish` returns, and what [`process::wait`] says; of work for an event loop only the latter.
pub(crate) fn run<T, W, F>(py: Python<'_>, on: Option<On>, work: W, finish: F) -> PyResult<Py<PyAny>>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
    F: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
{
    let Some(On { road, future }) = on else {
        let outcome = process::wait(py, work);
        kept::sweep(py);
        return finish(py, outcome?);
    };
    kept::sweep(py);
    let runtime = process::runtime()?;
    let task = runtime.spawn(async move {
        let outcome = work.await;
        road.send(Box::new(move |py| settle(py, future.bind(py), |py| finish(py, outcome))));
    });
    let pending = Pending { work: Here::new(task.abort_handle()) };
    Ok(Py::new(py, pending)?.into_any())
}

/// Gives an asyncio future its outcome, unless it has one: it may have been cancelled meanwhile.
///
/// # Errors
/// What is no `Exception`. The future has it, too; but nobody may wait for it any more.
fn settle(
    py: Python<'_>,
    future: &Bound<'_, PyAny>,
    finish: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>,
) -> PyResult<()> {
    let mut ending = None;
    let settled = || -> PyResult<()> {
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match panicked(|| finish(py)).and_then(|finished| finished) {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
            Err(error) => {
                if !error.is_instance_of::<PyException>(py) {
                    ending = Some(error.clone_ref(py));
                }
                future.call_method1(intern!(py, "set_exception"), (error,))?
            }
        };
        Ok(())
    };
    let settled = settled();
    if let Some(ending) = ending {
        return Err(ending);
    }
    settled.or_else(|error| unraised(py, error, Some(future)))
}

/// Reports an error that nobody waits for.
///
/// # Errors
/// The same, if it is no `Exception`: the loop is to raise it.
pub(crate) fn unraised(py: Python<'_>, error: PyErr, about: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    error.write_unraisable(py, about);
    Ok(())
}

/// A panic as the exception that PyO3 makes of one.
fn panicked<T>(work: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let words =
            panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        PanicException::new_err(words.unwrap_or("a panic").to_owned())
    })
}
