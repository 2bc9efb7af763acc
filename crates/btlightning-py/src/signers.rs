//! Keys: a seed that Rust signs with, or something of Python's that is called.

use std::sync::Arc;

use btlightning::{LightningError, Signer, Sr25519Signer};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};

use crate::errors;

/// How long an sr25519 signature is.
const SIGNATURE_BYTES: usize = 64;

/// Where the traceback of a signer that raises is written. Its exception itself goes into the error of the handshake.
const LOGGER: &str = "btlightning.signing";

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(hotkey_of_seed, module)?)?;
    module.add_function(wrap_pyfunction!(sign, module)?)
}

/// What `signer` signs with: `bytes` are a seed, and no signature needs Python; anything else is called with the message.
///
/// # Errors
/// `ConfigError` for a seed that is not 32 bytes, and for what cannot be called.
pub(crate) fn from_python(signer: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Signer>> {
    if let Ok(seed) = signer.cast::<PyBytes>() {
        return Ok(Arc::new(Sr25519Signer::from_seed(seed_of(seed.as_bytes())?)));
    }
    if signer.is_callable() {
        return Ok(Arc::new(Called(signer.clone().unbind())));
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
    let signer = from_python(signer)?;
    let signature = py.detach(|| signer.sign(message)).map_err(|error| errors::published(&error))?;
    Ok(PyBytes::new(py, &signature))
}

/// A Python callable. It is called on the thread for signatures, which may wait for the GIL; no I/O thread does.
struct Called(Py<PyAny>);

impl Signer for Called {
    fn sign(&self, message: &[u8]) -> btlightning::Result<Vec<u8>> {
        Python::try_attach(|py| self.call(py, message))
            .unwrap_or_else(|| Err(LightningError::Signing("the interpreter exits".to_owned())))
    }
}

impl Called {
    fn call(&self, py: Python<'_>, message: &[u8]) -> btlightning::Result<Vec<u8>> {
        let answer = self.0.bind(py).call1((PyBytes::new(py, message),)).map_err(|error| {
            let words = words_of(py, &error);
            if let Err(failed) = log(py, &error) {
                failed.write_unraisable(py, None);
            }
            LightningError::Signing(format!("Python signer call failed: {words}"))
        })?;
        // Programs written for btlightning 0.2 may return a list of integers.
        let signature = answer.extract::<PyBackedBytes>().map(|bytes| bytes.to_vec());
        let Ok(signature) = signature.or_else(|_| answer.extract::<Vec<u8>>()) else {
            return Err(LightningError::Signing(format!(
                "the signer returned {}, not bytes",
                type_of(&answer)
            )));
        };
        if signature.len() != SIGNATURE_BYTES {
            let found = signature.len();
            return Err(LightningError::Signing(format!(
                "the signer returned {found} bytes; a signature is {SIGNATURE_BYTES}"
            )));
        }
        Ok(signature)
    }
}

/// The exception's type and text, as the last line of a traceback has them.
fn words_of(py: Python<'_>, error: &PyErr) -> String {
    let name = error.get_type(py).name().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    match error.value(py).str() {
        Ok(text) if !text.is_empty().unwrap_or(true) => format!("{name}: {text}"),
        _ => name,
    }
}

fn log(py: Python<'_>, error: &PyErr) -> PyResult<()> {
    let logger = py.import(intern!(py, "logging"))?.call_method1(intern!(py, "getLogger"), (LOGGER,))?;
    let how = PyDict::new(py);
    // With its traceback, which the exception itself need not have yet.
    how.set_item(intern!(py, "exc_info"), error.clone_ref(py).into_value(py))?;
    logger.call_method(intern!(py, "error"), ("the signer raised an exception",), Some(&how))?;
    Ok(())
}

fn type_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string())
}
