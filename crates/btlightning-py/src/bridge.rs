//! Between the runtime and an asyncio event loop.
//!
//! The runtime's threads never take the GIL: a thread that waits for it moves no packets. They put what is for the loop
//! into its [`Bridge`]'s queue and, if the loop was not told already, write one byte to a socket that it watches. The loop
//! then takes all that is there at once. A loop that cannot watch a socket has a Python thread that waits in its place
//! (`btlightning._loop`).

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::errors;
use crate::kept::{self, Kept};
use crate::process::{self, Here};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Bridge>()?;
    module.add_class::<Pending>()
}

/// What is done on the loop's thread, with the GIL.
pub(crate) type Errand = Box<dyn FnOnce(Python<'_>) + Send>;

/// The way to one event loop. A clone leads to the same.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Bridge {
    road: Arc<Road>,
    #[cfg(unix)]
    bell: std::os::unix::net::UnixStream,
}

/// The runtime's end.
pub(crate) struct Road {
    errands: Mutex<Vec<Errand>>,
    /// Whether the loop has been told that there is something, and has not looked since.
    told: AtomicBool,
    /// For a loop that has a thread wait in its place.
    rung: Condvar,
    closed: AtomicBool,
    #[cfg(unix)]
    bell: std::os::unix::net::UnixStream,
}

impl Road {
    /// Has the loop do `errand`, soon. From any thread; takes no GIL and does not wait.
    pub(crate) fn send(&self, errand: Errand) {
        self.errands().push(errand);
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

    fn errands(&self) -> MutexGuard<'_, Vec<Errand>> {
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
            Ok(Self { road: Arc::new(Road::new(ours)), bell: theirs })
        }
        #[cfg(not(unix))]
        Ok(Self { road: Arc::new(Road::new()) })
    }

    /// What the loop watches for reading; `None` where it has to have a thread wait.
    fn fileno(&self) -> Option<i64> {
        #[cfg(unix)]
        {
            use std::os::fd::AsRawFd;
            Some(self.bell.as_raw_fd().into())
        }
        #[cfg(not(unix))]
        None
    }

    /// Does what there is to do. Called on the loop's thread.
    fn run(&self, py: Python<'_>) {
        // What it does may run Python, and the exit must not come in between.
        let _inside = process::Waiting::begin();
        #[cfg(unix)]
        {
            let mut bytes = [0; 64];
            loop {
                match (&self.bell).read(&mut bytes) {
                    Ok(read) if read == bytes.len() => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
        }
        if process::check_here().is_err() {
            return;
        }
        // Before it looks: whoever comes after this tells it again.
        self.road.told.store(false, Ordering::Release);
        let errands = std::mem::take(&mut *self.road.errands());
        for errand in errands {
            errand(py);
        }
        kept::sweep(py);
    }

    /// Waits until there is something to do, in a thread in place of the loop. False once the bridge is closed.
    fn wait(&self, py: Python<'_>) -> PyResult<bool> {
        process::check_here()?;
        Ok(py.detach(|| {
            let mut errands = self.road.errands();
            loop {
                if self.road.closed.load(Ordering::Acquire) {
                    return false;
                }
                if !errands.is_empty() {
                    return true;
                }
                errands = self.road.rung.wait(errands).unwrap_or_else(PoisonError::into_inner);
            }
        }))
    }

    /// Ends a thread that waits.
    fn close(&self) {
        self.road.closed.store(true, Ordering::Release);
        self.road.ring();
    }
}

impl Bridge {
    pub(crate) fn road(&self) -> Arc<Road> {
        self.road.clone()
    }
}

impl Road {
    fn new(#[cfg(unix)] bell: std::os::unix::net::UnixStream) -> Self {
        Self {
            errands: Mutex::new(Vec::new()),
            told: AtomicBool::new(false),
            rung: Condvar::new(),
            closed: AtomicBool::new(false),
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
        Ok(Self { road: bridge.get().road(), future: Kept::new(future.unbind()) })
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
fn settle(py: Python<'_>, future: &Bound<'_, PyAny>, finish: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) {
    let settled = || -> PyResult<()> {
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match finish(py) {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
        };
        Ok(())
    };
    if let Err(error) = settled() {
        error.write_unraisable(py, Some(future));
    }
}
