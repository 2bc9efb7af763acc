//! Keys: a seed that Rust signs with, or something of Python's that is called.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};

use btlightning::{LightningError, Signer, Sr25519Signer};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::errors;
use crate::kept::{self, Kept};

/// How long an sr25519 signature is.
const SIGNATURE_BYTES: usize = 64;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SignerThread>()?;
    module.add_class::<Signature>()?;
    module.add_function(wrap_pyfunction!(hotkey_of_seed, module)?)?;
    module.add_function(wrap_pyfunction!(sign, module)?)
}

/// The callable that a client or server signs with. Whoever has one shows it to the garbage collector, to which the core
/// and the thread that calls it are hidden: a callable that refers to its client is a cycle.
pub(crate) type Callable = Arc<Kept<Py<PyAny>>>;

/// What `signer` signs with: `bytes` are a seed, and no signature needs Python; anything else is called with the message.
///
/// # Errors
/// `ConfigError` for a seed that is not 32 bytes, and for what cannot be called.
pub(crate) fn from_python(signer: &Bound<'_, PyAny>) -> PyResult<(Arc<dyn Signer>, Option<Callable>)> {
    if let Ok(seed) = signer.cast::<PyBytes>() {
        return Ok((Arc::new(Sr25519Signer::from_seed(seed_of(seed.as_bytes())?)), None));
    }
    if signer.is_callable() {
        let callable = Arc::new(Kept::new(signer.clone().unbind()));
        return Ok((Arc::new(Called::new(signer.py(), callable.clone())?), Some(callable)));
    }
    Err(errors::config(format!("a signer is a seed (bytes) or a callable, not {}", type_of(signer))))
}

fn seed_of(seed: &[u8]) -> PyResult<[u8; 32]> {
    seed.try_into()
        .map_err(|_| errors::config(format!("a seed: expected a sequence of length 32 (got {})", seed.len())))
}

/// The hotkey (SS58) that a 32-byte seed signs for.
#[pyfunction]
fn hotkey_of_seed(seed: &[u8]) -> PyResult<String> {
    Ok(Sr25519Signer::from_seed(seed_of(seed)?).hotkey().to_string())
}

/// The signature that a client or server with this signer makes of `message`. May be called from any thread.
#[pyfunction]
fn sign<'py>(signer: &Bound<'py, PyAny>, message: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let py = signer.py();
    let (signer, _) = from_python(signer)?;
    let signature = py.detach(|| signer.sign(message)).map_err(|error| errors::published(&error))?;
    Ok(PyBytes::new(py, &signature))
}

/// A Python callable, called by a Python thread of its own. Rust never calls it: before 3.14, a thread that is inside of
/// Python when the interpreter exits is ended by unwinding it, and Rust is not to be unwound by others.
struct Called {
    desk: Arc<Desk>,
    _callable: Callable,
}

impl Called {
    fn new(py: Python<'_>, callable: Callable) -> PyResult<Self> {
        let desk = Arc::<Desk>::default();
        let thread = SignerThread { desk: desk.clone(), callable: Arc::downgrade(&callable) };
        py.import(intern!(py, "btlightning._signers"))?
            .call_method1(intern!(py, "start_thread"), (thread,))?;
        Ok(Self { desk, _callable: callable })
    }
}

impl Signer for Called {
    fn sign(&self, message: &[u8]) -> btlightning::Result<Vec<u8>> {
        let (reply, signature) = mpsc::sync_channel(1);
        self.desk.slot().asked.push_back((message.to_vec(), reply));
        self.desk.bell.notify_one();
        signature
            .recv()
            .unwrap_or_else(|_| Err(LightningError::Signing("the signer's thread has ended".to_owned())))
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.desk.slot().is_closed = true;
        self.desk.bell.notify_one();
    }
}

/// Where what is to be signed lies until the Python thread takes it. No more lies there than threads wait for.
#[derive(Default)]
struct Desk {
    slot: Mutex<Slot>,
    bell: Condvar,
}

#[derive(Default)]
struct Slot {
    asked: VecDeque<(Vec<u8>, Reply)>,
    is_closed: bool,
}

type Reply = mpsc::SyncSender<btlightning::Result<Vec<u8>>>;

impl Desk {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<(Vec<u8>, Reply)> {
        let idle = |slot: &mut Slot| slot.asked.is_empty() && !slot.is_closed;
        let mut slot = self.bell.wait_while(self.slot(), idle).unwrap_or_else(PoisonError::into_inner);
        slot.asked.pop_front()
    }
}

/// The desk, as the Python thread has it. A thread that runs keeps all that it has, so it has the callable only while
/// somebody waits for a signature.
#[pyclass(frozen, module = "btlightning._native")]
struct SignerThread {
    desk: Arc<Desk>,
    callable: Weak<Kept<Py<PyAny>>>,
}

#[pymethods]
impl SignerThread {
    /// Waits for something to sign: who signs, the message, and where the signature goes. `None` once there will be no
    /// more.
    fn take(&self, py: Python<'_>) -> Option<(Py<PyAny>, Vec<u8>, Signature)> {
        let taken = py.detach(|| self.desk.take());
        kept::sweep(py);
        let (message, reply) = taken?;
        // It is there as long as anybody asks it to sign.
        let callable = self.callable.upgrade()?.clone_ref(py);
        Some((callable, message, Signature { reply }))
    }
}

/// Where a signature goes. Dropped without one, it says that there is none.
#[pyclass(frozen, module = "btlightning._native")]
struct Signature {
    reply: Reply,
}

#[pymethods]
impl Signature {
    /// What the signer returned.
    fn made(&self, returned: &Bound<'_, PyAny>) {
        self.give(checked(returned));
    }

    /// The signer raised something.
    fn failed(&self, words: &str) {
        self.give(Err(LightningError::Signing(format!("Python signer call failed: {words}"))));
    }
}

impl Signature {
    fn give(&self, signature: btlightning::Result<Vec<u8>>) {
        // An error means that it was given already, or that nobody waits any more.
        let _ = self.reply.try_send(signature);
    }
}

fn checked(returned: &Bound<'_, PyAny>) -> btlightning::Result<Vec<u8>> {
    // Programs written for btlightning 0.2 may return a list of integers.
    let signature = returned.extract::<PyBackedBytes>().map(|bytes| bytes.to_vec());
    let Ok(signature) = signature.or_else(|_| returned.extract::<Vec<u8>>()) else {
        return Err(LightningError::Signing(format!("the signer returned {}, not bytes", type_of(returned))));
    };
    if signature.len() != SIGNATURE_BYTES {
        let found = signature.len();
        return Err(LightningError::Signing(format!(
            "the signer returned {found} bytes; a signature is {SIGNATURE_BYTES}"
        )));
    }
    Ok(signature)
}

fn type_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string())
}
