//! Keys that Python holds.
use pyo3::prelude::*;
use std::sync::Arc;
pub(crate) fn from_python(s: &Bound<'_, PyAny>) -> PyResult<Arc<dyn btlightning::Signer>> {
    let seed: [u8; 32] = s.extract()?;
    Ok(Arc::new(btlightning::Sr25519Signer::from_seed(seed)))
}
