//! The chain: its nodes, and what they say of a subnet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use btlightning::metagraph::{
    self, Chain as Nodes, ChainConfig, ChainStatus as Status, Metagraph, MetagraphWatch as Watch, Network,
    NeuronInfo as Neuron, Snapshot,
};
use pyo3::prelude::*;
use pyo3::types::PyList;
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::bridge::{self, On};
use crate::errors;
use crate::process::{self, Here};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Chain>()?;
    module.add_class::<ChainStatus>()?;
    module.add_class::<MetagraphWatch>()?;
    module.add_class::<MetagraphStatus>()?;
    module.add_class::<NeuronInfo>()?;
    module.add_function(wrap_pyfunction!(is_valid_ip, module)?)
}

/// A neuron of a subnet as the chain has it. Its axon is what its owner announced, true or not.
#[pyclass(frozen, get_all, eq, hash, module = "btlightning._native")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct NeuronInfo {
    /// Its number in the subnet. It passes to another hotkey when this one is deregistered.
    uid: u16,
    /// The hotkey, in SS58.
    hotkey: String,
    /// The hotkey's stake in the subnet, in rao of the subnet's alpha, not TAO.
    stake: u64,
    /// Whether it set weights lately. Miners that set none are not active, however well they serve.
    is_active: bool,
    /// The IP address it announced; `0.0.0.0` if none.
    axon_ip: String,
    /// The port it announced; 0 if none.
    axon_port: u16,
    /// The protocol number it announced. 4 is QUIC, and also what the official tools announce for plain HTTP.
    axon_protocol: u8,
    /// Whether it may validate.
    validator_permit: bool,
}

#[pymethods]
impl NeuronInfo {
    fn __repr__(&self) -> String {
        let Self { uid, hotkey, axon_ip, axon_port, .. } = self;
        format!("NeuronInfo(uid={uid}, hotkey={hotkey:?}, axon_ip={axon_ip:?}, axon_port={axon_port})")
    }
}

impl From<&Neuron> for NeuronInfo {
    fn from(neuron: &Neuron) -> Self {
        Self {
            uid: neuron.uid,
            hotkey: neuron.hotkey.clone(),
            stake: neuron.stake,
            is_active: neuron.is_active,
            axon_ip: neuron.axon_ip.clone(),
            axon_port: neuron.axon_port,
            axon_protocol: neuron.axon_protocol,
            validator_permit: neuron.validator_permit,
        }
    }
}

/// How things stood with a chain's nodes when this was made.
#[pyclass(frozen, get_all, module = "btlightning._native")]
pub(crate) struct ChainStatus {
    /// The node in use, without what may be a secret in its URL; `None` if none is connected.
    endpoint: Option<String>,
    /// For how many seconds it was in use.
    connected_for: Option<f64>,
    /// How many seconds ago something was last read.
    answered_ago: Option<f64>,
    /// How many times a node failed since.
    failures: u32,
    /// What the last failure was, in a sentence; kept when things go well again.
    last_error: Option<String>,
    /// Genesis hash of the chain, in hexadecimal, once a node has said it.
    genesis: Option<String>,
}

#[pymethods]
impl ChainStatus {
    fn __repr__(&self) -> String {
        let Self { endpoint, failures, last_error, .. } = self;
        format!("ChainStatus(endpoint={endpoint:?}, failures={failures}, last_error={last_error:?})")
    }
}

impl From<Status> for ChainStatus {
    fn from(status: Status) -> Self {
        let ago = |at: SystemTime| at.elapsed().unwrap_or_default().as_secs_f64();
        Self {
            endpoint: status.endpoint,
            connected_for: status.connected_since.map(ago),
            answered_ago: status.answered_at.map(ago),
            failures: status.failures_in_a_row,
            last_error: status.last_error.map(|error| error.to_string()),
            genesis: status.genesis.map(|genesis| genesis.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

/// The nodes of one chain. Programs use the classes of `btlightning._chain`.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Chain {
    network: Network,
    inner: Here<Nodes>,
}

#[pymethods]
impl Chain {
    /// `network`: a name, URLs with commas between them, or `None` for what the environment says. Connects to nothing yet.
    #[new]
    fn new(
        network: Option<&str>,
        connect_timeout: Option<Duration>,
        call_timeout: Option<Duration>,
    ) -> PyResult<Self> {
        let network = network.map_or_else(Network::from_env, Network::parse);
        let network = network.map_err(|error| errors::config(error.to_string()))?;
        let defaults = ChainConfig::new(&network);
        let config = ChainConfig {
            connect_timeout: connect_timeout.unwrap_or(defaults.connect_timeout),
            call_timeout: call_timeout.unwrap_or(defaults.call_timeout),
            ..defaults
        };
        let inner = Nodes::new(config).map_err(|error| errors::chain(&error))?;
        Ok(Self { network, inner: Here::new(inner) })
    }

    #[getter]
    fn network(&self) -> &str {
        self.network.name()
    }

    #[getter]
    fn endpoints(&self) -> Vec<String> {
        self.network.endpoints().to_vec()
    }

    #[getter]
    fn is_local(&self) -> bool {
        self.network.is_local()
    }

    /// Whether it is known to be mainnet.
    fn is_mainnet(&self) -> PyResult<bool> {
        Ok(self.inner.get()?.is_mainnet())
    }

    fn status(&self) -> PyResult<ChainStatus> {
        Ok(self.inner.get()?.status().into())
    }

    /// The latest finalized block's number and its neurons.
    #[pyo3(signature = (netuid, on=None))]
    fn metagraph(&self, py: Python<'_>, netuid: u16, on: Option<On>) -> PyResult<Py<PyAny>> {
        let nodes = self.nodes()?;
        bridge::run(py, on, async move { nodes.metagraph(netuid).await }, |py, read| {
            let metagraph = read.map_err(|error| errors::chain(&error))?;
            read_from(py, metagraph.block, 0.0, &metagraph)
        })
    }

    /// The pins of TLS keys that hotkeys of a subnet have published.
    #[pyo3(signature = (netuid, on=None))]
    fn tls_key_pins(&self, py: Python<'_>, netuid: u16, on: Option<On>) -> PyResult<Py<PyAny>> {
        let nodes = self.nodes()?;
        bridge::run(py, on, async move { nodes.tls_key_pins(netuid).await }, |py, pins| {
            let pins = pins.map_err(|error| errors::chain(&error))?;
            let pins: HashMap<_, _> =
                pins.into_iter().map(|(hotkey, pin)| (hotkey.to_string(), pin.to_string())).collect();
            Ok(pins.into_pyobject(py)?.into_any().unbind())
        })
    }
}

impl Chain {
    pub(crate) fn nodes(&self) -> PyResult<Nodes> {
        Ok(self.inner.get()?.clone())
    }
}

/// `(block, age, neurons)`, the age in seconds.
fn read_from(py: Python<'_>, block: u64, age: f64, metagraph: &Metagraph) -> PyResult<Py<PyAny>> {
    let neurons = metagraph.neurons.iter().map(|neuron| Py::new(py, NeuronInfo::from(neuron)));
    let neurons = PyList::new(py, neurons.collect::<PyResult<Vec<_>>>()?)?;
    Ok((block, age, neurons).into_pyobject(py)?.into_any().unbind())
}

/// The metagraph of a subnet, kept in sync.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct MetagraphWatch {
    inner: Here<Watched>,
}

struct Watched {
    /// `None` once it is closed.
    live: Mutex<Option<Live>>,
    closed: watch::Sender<bool>,
}

#[derive(Clone)]
struct Live {
    watch: Watch,
    /// What of it has been told. One waits at a time.
    told: Arc<AsyncMutex<Watch>>,
}

impl Watched {
    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl MetagraphWatch {
    #[new]
    fn new(chain: &Chain, netuid: u16, interval: Duration) -> PyResult<Self> {
        let nodes = chain.nodes()?;
        let _context = process::runtime()?.enter();
        let watch = Watch::start(nodes, netuid, interval).map_err(|error| errors::chain(&error))?;
        let told = Arc::new(AsyncMutex::new(watch.clone()));
        let live = Mutex::new(Some(Live { watch, told }));
        Ok(Self { inner: Here::new(Watched { live, closed: watch::channel(false).0 }) })
    }

    /// The next one that was not handed out here: `(block, age, neurons)`; `None` once this is closed.
    #[pyo3(signature = (on=None))]
    fn next(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let inner = self.inner.get()?;
        let (live, mut closed) = (inner.live().clone(), inner.closed.subscribe());
        let next = async move {
            let told = live?.told;
            tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => None,
                snapshot = async { told.lock().await.changed().await } => snapshot.ok(),
            }
        };
        bridge::run(py, on, next, |py, snapshot| match snapshot {
            Some(snapshot) => told(py, &snapshot),
            None => Ok(py.None()),
        })
    }

    /// The last one that was read, if any.
    fn latest(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let latest = self.inner.get()?.live().as_ref().and_then(|live| live.watch.latest());
        latest.map_or_else(|| Ok(py.None()), |snapshot| told(py, &snapshot))
    }

    /// Has it read now.
    fn refresh(&self) -> PyResult<()> {
        if let Some(live) = &*self.inner.get()?.live() {
            live.watch.refresh_now();
        }
        Ok(())
    }

    /// Reads no more. Who waits for the next one finds the end.
    fn close(&self) -> PyResult<()> {
        let inner = self.inner.get()?;
        inner.closed.send_replace(true);
        let live = inner.live().take();
        drop(live);
        Ok(())
    }

    /// `None` once this is closed.
    fn status(&self) -> PyResult<Option<MetagraphStatus>> {
        let Some(status) = self.inner.get()?.live().as_ref().map(|live| live.watch.status()) else {
            return Ok(None);
        };
        Ok(Some(MetagraphStatus {
            age: status.age.map(|age| age.as_secs_f64()),
            block: status.block,
            neurons: status.neurons,
            failures: status.failures_in_a_row,
            last_error: status.last_error.map(|error| error.to_string()),
            endpoint: status.endpoint,
        }))
    }
}

impl MetagraphWatch {
    /// The watch itself, which then goes on without this.
    pub(crate) fn watch(&self) -> PyResult<Watch> {
        let live = self.inner.get()?.live().clone();
        live.map(|live| live.watch).ok_or_else(|| errors::config("the metagraph is no longer followed"))
    }
}

fn told(py: Python<'_>, snapshot: &Snapshot) -> PyResult<Py<PyAny>> {
    read_from(py, snapshot.metagraph.block, snapshot.age().as_secs_f64(), &snapshot.metagraph)
}

/// How old a metagraph that is followed was when this was made, and why there was no newer one.
#[pyclass(frozen, get_all, module = "btlightning._native")]
pub(crate) struct MetagraphStatus {
    /// How many seconds ago it was read; `None` before the first time.
    age: Option<f64>,
    /// The block that was read then.
    block: Option<u64>,
    /// How many neurons it had.
    neurons: usize,
    /// How many reads have failed since.
    failures: u32,
    /// Why the last one that failed did, in a sentence; kept when things go well again.
    last_error: Option<String>,
    /// The node in use, without what may be a secret in its URL; `None` if none is connected.
    endpoint: Option<String>,
}

#[pymethods]
impl MetagraphStatus {
    fn __repr__(&self) -> String {
        let Self { age, block, neurons, failures, last_error, .. } = self;
        format!(
            "MetagraphStatus(age={age:?}, block={block:?}, neurons={neurons}, failures={failures}, \
             last_error={last_error:?})"
        )
    }
}

/// Whether `ip` is an IP address, written as text, that the internet routes.
#[pyfunction]
fn is_valid_ip(ip: &str) -> bool {
    metagraph::is_valid_ip(ip)
}
