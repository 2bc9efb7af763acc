//! Python objects straight into a frame, and out of one.

use btlightning::raw::{EncodeError, PayloadWriter, Scanned};
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub(crate) fn add_to(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
pub(crate) struct Refused(PyErr);
impl Refused {
    pub(crate) fn into_pyerr(self) -> PyErr {
        self.0
    }
}
impl From<EncodeError> for Refused {
    fn from(e: EncodeError) -> Self {
        Self(crate::errors::encode(&e))
    }
}
pub(crate) fn encode_map(_d: &Bound<'_, PyAny>, out: &mut PayloadWriter) -> Result<(), Refused> {
    out.map_len(0)?;
    Ok(())
}
pub(crate) fn decode_map<'py>(py: Python<'py>, _s: Scanned<'_>) -> PyResult<Bound<'py, PyDict>> {
    Ok(PyDict::new(py))
}
