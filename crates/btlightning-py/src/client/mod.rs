//! The validator's half.

mod config;
mod fan_out;
mod miners;
mod peers;
mod published;
mod query;
mod stream;
mod timings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use btlightning::raw::RawRequest;
use btlightning::{CallOptions, Hotkey, LightningClient, LightningError, TlsKeyPin};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyKeyError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::Mutex as AsyncMutex;

use crate::bridge::{self, On};
use crate::kept::SweptAfter;
use crate::process::{self, Here, Open};
use crate::signers::{self, Callable};
use crate::{errors, values};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Client>()?;
    module.add_class::<miners::QuicAxonInfo>()?;
    module.add_class::<timings::Timings>()?;
    module.add_class::<stream::ChunkStream>()?;
    module.add_class::<fan_out::FanOut>()?;
    module.add_class::<peers::Peer>()?;
    module.add_class::<peers::PeerChanges>()
}

/// A validator's connections to its miners.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Client {
    inner: Here<Arc<LightningClient>>,
    /// What signs, for the garbage collector.
    signer: Here<Mutex<Option<Callable>>>,
    _swept: SweptAfter,
}

#[pymethods]
impl Client {
    #[new]
    fn new(py: Python<'_>, wallet_hotkey: String, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        process::runtime()?;
        let config = config::read(options)?;
        let inner = py.detach(|| LightningClient::with_config(wallet_hotkey, config));
        let inner = Arc::new(inner.map_err(|error| errors::published(&error))?);
        process::closed_at_exit(Open::Client(Arc::downgrade(&inner)));
        Ok(Self { inner: Here::new(inner), signer: Here::new(Mutex::default()), _swept: SweptAfter })
    }

    /// Who signs: a seed of 32 bytes, or what is called with the bytes to sign.
    fn set_signer(&self, signer: &Bound<'_, PyAny>) -> PyResult<()> {
        let (client, held) = (self.inner.get()?, self.signer.get()?);
        let (signer, callable) = signers::from_python(signer)?;
        client.sign_with(signer);
        let _before = std::mem::replace(&mut *held.lock().unwrap_or_else(PoisonError::into_inner), callable);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Who holds the lock is at work with the client, which is then not garbage.
        let Ok(signer) = self.signer.try_lock() else { return Ok(()) };
        signer.as_ref().map_or(Ok(()), |signer| visit.call(&***signer))
    }

    /// Binds the sockets.
    fn open(&self) -> PyResult<()> {
        let _runtime = process::runtime()?.enter();
        self.inner.get()?.open().map_err(|error| errors::published(&error))
    }

    /// Wants these miners, too, and waits for their first dials.
    #[pyo3(signature = (miners, on=None))]
    fn connect(&self, py: Python<'_>, miners: &Bound<'_, PyAny>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let (client, miners) = (self.inner.get()?.clone(), miners::axons(miners)?);
        bridge::run(py, on, async move { client.connect(miners).await }, nothing)
    }

    /// Wants exactly these miners, and waits for the first dials of those that are new.
    #[pyo3(signature = (miners, on=None))]
    fn update(&self, py: Python<'_>, miners: &Bound<'_, PyAny>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let (client, miners) = (self.inner.get()?.clone(), miners::axons(miners)?);
        bridge::run(py, on, async move { client.update_miner_registry(miners).await }, nothing)
    }

    /// Wants exactly these miners, but waits for no dial, and leaves those that are down to their back-off.
    fn follow(&self, py: Python<'_>, miners: &Bound<'_, PyAny>) -> PyResult<()> {
        let (client, miners) = (self.inner.get()?, miners::axons(miners)?);
        let runtime = process::runtime()?;
        let followed = py.detach(|| {
            let _context = runtime.enter();
            client.follow_miners(miners)
        });
        followed.map_err(|error| errors::published(&error))
    }

    /// Connects to these hotkeys only where the server has the TLS key with this pin.
    fn pin_tls_keys(&self, pins: HashMap<String, String>) -> PyResult<()> {
        let pins = pins.into_iter().map(|(hotkey, pin)| {
            let hotkey: Hotkey =
                hotkey.parse().map_err(|error| errors::config(format!("{hotkey:?}: {error}")))?;
            let pin: TlsKeyPin = pin.parse().map_err(|error| errors::config(format!("{pin:?}: {error}")))?;
            Ok((hotkey, pin))
        });
        let pins = pins.collect::<PyResult<_>>()?;
        self.inner.get()?.pin_tls_keys(pins).map_err(|error| errors::published(&error))
    }

    /// The published figures.
    #[pyo3(signature = (on=None))]
    fn stats(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let client = self.inner.get()?.clone();
        bridge::run(py, on, async move { client.get_connection_stats().await }, |py, stats| {
            let stats = stats.map_err(|error| errors::published(&error))?;
            Ok(stats.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Closes every connection and forgets all miners.
    #[pyo3(signature = (on=None))]
    fn close(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let client = self.inner.get()?.clone();
        bridge::run(py, on, async move { client.close_all_connections().await }, nothing)
    }
}

impl Client {
    /// A request, encoded straight from Python's objects.
    fn encode(&self, synapse_type: &str, data: &Bound<'_, PyAny>) -> PyResult<RawRequest> {
        let client = self.inner.get()?;
        let request = client.encode_raw(synapse_type, |out| values::encode_map(data, out));
        request.map_err(values::Refused::into_pyerr)
    }

    /// A call of one miner, of which everything is checked that can be before it is made.
    fn prepare(
        &self,
        miner: &Bound<'_, PyAny>,
        synapse_type: &str,
        data: &Bound<'_, PyAny>,
        options: CallOptions,
    ) -> PyResult<Prepared> {
        let miner = miners::Named::extract_from(miner)?;
        let request = self.encode(synapse_type, data)?;
        Ok(Prepared { client: self.inner.get()?.clone(), miner, request, options })
    }
}

/// A call that is ready to be made.
struct Prepared {
    client: Arc<LightningClient>,
    miner: miners::Named,
    request: RawRequest,
    options: CallOptions,
}

/// What a dict has under a name, in the published words where it has nothing.
fn required<'py>(dict: &Bound<'py, PyDict>, name: &'static str) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(name)?.ok_or_else(|| PyKeyError::new_err(format!("Missing '{name}' field")))
}

/// Seconds as Python counts them. Anything that is no duration is a `ValueError`.
fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<std::time::Duration>> {
    let Some(value) = value else { return Ok(None) };
    match std::time::Duration::try_from_secs_f64(value) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => {
            let message = format!("{name} must be a finite positive number, got {value}");
            Err(errors::published(&LightningError::Config(message)))
        }
    }
}

/// The bounds of a call, by the names that Python programs use; `stream_timeout` is for answers in chunks.
fn call_options(
    timeout: Option<f64>,
    first_byte_timeout: Option<f64>,
    answer_bytes_max: Option<i64>,
    stream_timeout: Option<f64>,
) -> PyResult<CallOptions> {
    let mut options = CallOptions::new();
    if let Some(timeout) = seconds("timeout", timeout)? {
        options = options.timeout(timeout);
    }
    if let Some(timeout) = seconds("first_byte_timeout", first_byte_timeout)? {
        options = options.first_byte_timeout(timeout);
    }
    if let Some(timeout) = seconds("stream_timeout", stream_timeout)? {
        options = options.stream_timeout(timeout);
    }
    if let Some(bytes) = answer_bytes_max {
        let positive = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        let refused = || errors::config(format!("answer_bytes_max must be a positive number, got {bytes}"));
        options = options.answer_bytes_max(positive.ok_or_else(refused)?);
    }
    Ok(options)
}

/// Drops what is held there: at once, or as soon as whoever holds the lock lets it go. That may be a task that was aborted
/// just now and has not noticed, so that nobody else would come back for it.
fn drop_held<T: Send + 'static>(held: &Arc<AsyncMutex<Option<T>>>) -> PyResult<()> {
    if let Ok(mut held) = held.try_lock() {
        *held = None;
        return Ok(());
    }
    let held = held.clone();
    process::runtime()?.spawn(async move { *held.lock().await = None });
    Ok(())
}

fn nothing(py: Python<'_>, outcome: btlightning::Result<()>) -> PyResult<Py<PyAny>> {
    outcome.map_err(|error| errors::published(&error))?;
    Ok(py.None())
}
