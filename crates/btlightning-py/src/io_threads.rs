//! Which threads move packets, as Python programs say it.

use btlightning::IoThreads;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::errors;

/// What `"auto"` means, and what nobody says anything else about: calls come from Python's threads, and the runtime that
/// they wait on is this package's own, so there is no thread of the program's to keep connections on.
pub(crate) const AUTO: IoThreads = IoThreads::Shared;

/// Reads the value of `io_threads`: `None`, `"auto"`, `"shared"`, or a number of threads of one's own, whose bounds the
/// configuration checks.
///
/// # Errors
/// `ConfigError` for another text, and for a number that is no `usize`; `TypeError` for anything else.
pub(crate) fn read(value: &Bound<'_, PyAny>) -> PyResult<IoThreads> {
    if value.is_none() {
        return Ok(AUTO);
    }
    if let Ok(word) = value.cast::<PyString>() {
        return match &*word.to_string_lossy() {
            "auto" => Ok(AUTO),
            "shared" => Ok(IoThreads::Shared),
            _ => Err(unfit(value)),
        };
    }
    if value.is_instance_of::<PyBool>() {
        return Err(unread(value));
    }
    let py = value.py();
    match value.extract() {
        Ok(count) => Ok(IoThreads::Own(count)),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => Err(unfit(value)),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Err(unread(value)),
        Err(error) => Err(error),
    }
}

fn unfit(value: &Bound<'_, PyAny>) -> PyErr {
    // Python does not write out every number.
    let said =
        value.repr().map_or_else(|_| "too long".to_owned(), |repr| repr.to_string_lossy().into_owned());
    errors::config(format!(
        r#"io_threads ({said}) must be "auto", "shared" or a number of threads from 1 to 64"#
    ))
}

fn unread(value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(r#"io_threads is "auto", "shared" or an int, not {}"#, value.get_type()))
}
