//! Python objects straight into a frame, and out of one.

use pyo3::prelude::*;

pub(crate) fn add_to(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
