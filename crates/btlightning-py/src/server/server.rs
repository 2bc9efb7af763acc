//! The server as the Python classes have it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use btlightning::{LightningError, LightningServer};
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::error;

use super::config::config;
use super::entry::Entry;
use super::places::{self, Place, Places};
use super::resolvers::Resolver;
use super::tasks;
use super::threads::{self, HandlerThreads};
use crate::bridge::{self, Bridge, On};
use crate::errors;
use crate::kept::{Kept, SweptAfter};
use crate::process::{self, Here, Open};
use crate::signers::{self, Callable};

/// A miner. Programs use the classes of `btlightning._server` and `btlightning._aio_server`.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Server {
    inner: Here<Inner>,
    _swept: SweptAfter,
}

struct Inner {
    core: Arc<LightningServer>,
    places: Arc<Places>,
    /// Held while the server is being started or stopped.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// What serves in the background.
    serving: Mutex<Option<AbortHandle>>,
    /// What of Python the core holds, for the garbage collector: a handler that refers to its server is a cycle.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    handlers: HashMap<String, Arc<Entry>>,
    observer: Option<Arc<Entry>>,
    permits: Option<Arc<Entry>>,
    sources: Option<Arc<Entry>>,
    signer: Option<Callable>,
}

#[pymethods]
impl Server {
    #[new]
    fn new(miner_hotkey: String, host: String, port: u16, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        process::check_here()?;
        let core = LightningServer::with_config(miner_hotkey, host, port, config(options)?)
            .map_err(|error| errors::published(&error))?;
        let core = Arc::new(core);
        process::closed_at_exit(Open::Server(Arc::downgrade(&core)));
        let inner = Inner {
            core,
            places: Arc::default(),
            changing: Arc::default(),
            serving: Mutex::default(),
            held: Mutex::default(),
        };
        Ok(Self { inner: Here::new(inner), _swept: SweptAfter })
    }

    /// Signs with a seed of 32 bytes, or a callable that makes signatures.
    fn sign_with(&self, signer: &Bound<'_, PyAny>) -> PyResult<()> {
        let inner = self.inner.get()?;
        let (signer, callable) = signers::from_python(signer)?;
        inner.core.sign_with(signer);
        // As below.
        let _callable = std::mem::replace(&mut inner.held().signer, callable);
        Ok(())
    }

    /// Answers requests of a name from now on: with a plain function, on a thread; with a coroutine function, in the loop.
    #[pyo3(signature = (name, function, *, wants_caller, in_loop, streams))]
    fn register(
        &self,
        name: String,
        function: Py<PyAny>,
        wants_caller: bool,
        in_loop: bool,
        streams: bool,
    ) -> PyResult<()> {
        let inner = self.inner.get()?;
        let entry = Arc::new(Entry { name: name.clone(), function: Kept::new(function), wants_caller });
        let handler = places::handler(entry.clone(), inner.places.clone(), place(in_loop), streams);
        // Both that are replaced are dropped when no lock is held: that may run Python.
        let _handler = inner.core.register(name.clone(), handler);
        let _entry = inner.held().handlers.insert(name, entry);
        Ok(())
    }

    /// Answers no more requests of a name; whether it did.
    fn unregister(&self, name: &str) -> PyResult<bool> {
        let inner = self.inner.get()?;
        let handler = inner.core.unregister(name);
        let _entry = inner.held().handlers.remove(name);
        Ok(handler.is_some())
    }

    /// Tells a callable of each validator that has authenticated.
    #[pyo3(signature = (function, *, in_loop))]
    fn observe_handshakes(&self, function: Py<PyAny>, in_loop: bool) -> PyResult<()> {
        let inner = self.inner.get()?;
        let entry = named("the handshake observer", function);
        inner.core.tell_handshakes_to(places::observer(entry.clone(), inner.places.clone(), place(in_loop)));
        let _observer = inner.held().observer.replace(entry);
        Ok(())
    }

    /// Asks a callable who holds a permit.
    #[pyo3(signature = (function, *, in_loop))]
    fn resolve_permits_with(&self, function: Py<PyAny>, in_loop: bool) -> PyResult<()> {
        let inner = self.inner.get()?;
        let entry = named("the permit resolver", function);
        inner.core.resolve_permits_with(Arc::new(inner.resolver(&entry, in_loop)));
        let _permits = inner.held().permits.replace(entry);
        Ok(())
    }

    /// Asks a callable which addresses may connect.
    #[pyo3(signature = (function, *, in_loop))]
    fn resolve_sources_with(&self, function: Py<PyAny>, in_loop: bool) -> PyResult<()> {
        let inner = self.inner.get()?;
        let entry = named("the source resolver", function);
        inner.core.resolve_sources_with(Arc::new(inner.resolver(&entry, in_loop)));
        let _sources = inner.held().sources.replace(entry);
        Ok(())
    }

    /// Binds the address.
    #[pyo3(signature = (*, on = None))]
    fn start(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let inner = self.inner.get()?;
        let (core, changing) = (inner.core.clone(), inner.changing.clone());
        let starting = async move {
            let _changing = changing.lock().await;
            core.listen().await
        };
        bridge::run(py, on, starting, nothing)
    }

    /// Runs plain functions on the threads that take their work from what this returns.
    fn open_threads(&self, threads_max: usize) -> PyResult<HandlerThreads> {
        let queue = threads::Queue::new(threads_max);
        self.inner.get()?.places.open_threads(queue.clone());
        Ok(HandlerThreads::new(queue))
    }

    /// Runs coroutines in the loop of a bridge: by calling `begin` with a number and a `Request`, and `cancel` with the
    /// number of a request that nobody waits for any more.
    fn open_tasks(&self, bridge: &Bridge, begin: Py<PyAny>, cancel: Py<PyAny>) -> PyResult<()> {
        self.inner.get()?.places.open_tasks(tasks::Queue::new(bridge.road()?, begin, cancel));
        Ok(())
    }

    /// Accepts connections until the server is stopped, and all that is to be done for that is done.
    #[pyo3(signature = (*, on = None))]
    fn serve(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let inner = self.inner.get()?;
        let (core, changing) = (inner.core.clone(), inner.changing.clone());
        // On a task of its own, so that it goes on, and lets go, while a signal handler stops the server.
        let serving = process::runtime()?.spawn(async move {
            core.serve_forever().await?;
            drop(changing.lock().await);
            Ok(())
        });
        let mut serving = AbortedWhenDropped(serving);
        let served = async move {
            match (&mut serving.0).await {
                Ok(served) => served,
                Err(error) => Err(LightningError::Config(error.to_string())),
            }
        };
        bridge::run(py, on, served, nothing)
    }

    /// The same without waiting.
    fn serve_in_background(&self) -> PyResult<()> {
        let runtime = process::runtime()?;
        let inner = self.inner.get()?;
        let core = inner.core.clone();
        let mut serving = Box::pin(async move { core.serve_forever().await });
        let _context = runtime.enter();
        // What cannot be served at all is said at once.
        match serving.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(served) => return served.map_err(|error| errors::published(&error)),
            Poll::Pending => {}
        }
        let task = runtime.spawn(async move {
            if let Err(error) = serving.await {
                error!("the server has ended: {error}");
            }
        });
        let before = inner.serving().replace(task.abort_handle());
        if let Some(before) = before {
            before.abort();
        }
        Ok(())
    }

    /// Stops. Goes on with it if whoever waits is cancelled.
    #[pyo3(signature = (*, on = None))]
    fn stop(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let inner = self.inner.get()?;
        let (core, places, changing) = (inner.core.clone(), inner.places.clone(), inner.changing.clone());
        let stopping = process::runtime()?.spawn(async move {
            let _changing = changing.lock().await;
            let stopped = core.stop().await;
            places.close();
            stopped
        });
        let stopped = async move {
            match stopping.await {
                Ok(stopped) => stopped,
                Err(error) => Err(LightningError::Config(error.to_string())),
            }
        };
        bridge::run(py, on, stopped, nothing)
    }

    /// Where the server listens.
    fn local_addr(&self) -> PyResult<(String, u16)> {
        let addr = self.core()?.local_addr().map_err(|error| errors::published(&error))?;
        Ok((addr.ip().to_string(), addr.port()))
    }

    fn connection_stats(&self, py: Python<'_>) -> PyResult<HashMap<String, String>> {
        let core = self.core()?;
        process::wait(py, core.get_connection_stats())?.map_err(|error| errors::published(&error))
    }

    fn cleanup_stale_connections(&self, py: Python<'_>, max_idle_seconds: u64) -> PyResult<()> {
        let core = self.core()?;
        process::wait(py, core.cleanup_stale_connections(max_idle_seconds))?
            .map_err(|error| errors::published(&error))
    }

    fn cleanup_expired_nonces(&self, py: Python<'_>) -> PyResult<()> {
        process::wait(py, self.core()?.cleanup_expired_nonces())
    }

    fn active_nonce_count(&self, py: Python<'_>) -> PyResult<usize> {
        process::wait(py, self.core()?.get_active_nonce_count())
    }

    fn permitted_validator_count(&self, py: Python<'_>) -> PyResult<usize> {
        process::wait(py, self.core()?.get_permitted_validator_count())
    }

    fn allowed_source_count(&self, py: Python<'_>) -> PyResult<usize> {
        process::wait(py, self.core()?.get_allowed_source_count())
    }

    fn is_source_enforcement_bypassed(&self, py: Python<'_>) -> PyResult<bool> {
        process::wait(py, self.core()?.is_source_enforcement_bypassed())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Who holds the lock is at work with the server, which is then not garbage.
        let Ok(held) = self.inner.held.try_lock() else { return Ok(()) };
        if let Some(signer) = &held.signer {
            visit.call(&***signer)?;
        }
        let others = held.observer.iter().chain(&held.permits).chain(&held.sources);
        others.chain(held.handlers.values()).try_for_each(|entry| entry.traverse(&visit))
    }
}

impl Server {
    pub(super) fn core(&self) -> PyResult<&LightningServer> {
        Ok(&self.inner.get()?.core)
    }

    pub(super) fn shared_core(&self) -> PyResult<Arc<LightningServer>> {
        Ok(self.inner.get()?.core.clone())
    }

    /// Lets go of a permit resolver of Python's that the core has no more.
    pub(super) fn holds_no_permit_resolver(&self) -> PyResult<()> {
        let _permits = self.inner.get()?.held().permits.take();
        Ok(())
    }
}

impl Inner {
    fn resolver(&self, entry: &Arc<Entry>, in_loop: bool) -> Resolver {
        Resolver { entry: entry.clone(), places: self.places.clone(), place: place(in_loop) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(serving) = self.serving().take() {
            serving.abort();
        }
        self.places.close();
    }
}

struct AbortedWhenDropped<T>(JoinHandle<T>);

impl<T> Drop for AbortedWhenDropped<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn named(name: &str, function: Py<PyAny>) -> Arc<Entry> {
    Arc::new(Entry { name: name.to_owned(), function: Kept::new(function), wants_caller: false })
}

fn place(in_loop: bool) -> Place {
    match in_loop {
        true => Place::Tasks,
        false => Place::Threads,
    }
}

fn nothing(py: Python<'_>, done: btlightning::Result<()>) -> PyResult<Py<PyAny>> {
    done.map(|()| py.None()).map_err(|error| errors::published(&error))
}
