//! What is wrong with a value, and what is asked of one to find out.

use btlightning::raw::EncodeError;
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// What is wrong with one value.
pub(super) enum Fault {
    /// MessagePack has no form for it.
    Unsupported(String),
    /// It has a type that MessagePack has, and cannot be encoded all the same.
    Invalid(String),
    Encode(EncodeError),
    Python(PyErr),
}

impl From<EncodeError> for Fault {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// The value, if it is of this type and of no subclass.
pub(super) fn exact<'a, 'py, T: PyTypeInfo>(value: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    // The failed cast would make an error.
    if value.is_exact_instance_of::<T>() { value.cast_exact().ok() } else { None }
}

pub(super) fn text<'a>(string: &'a Bound<'_, PyString>) -> Result<&'a str, Fault> {
    string.to_str().map_err(|error| {
        if error.is_instance_of::<PyUnicodeEncodeError>(string.py()) {
            Fault::Invalid("the string has a lone surrogate, for which UTF-8 has no form".into())
        } else {
            error.into()
        }
    })
}

pub(super) fn type_name(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().fully_qualified_name();
    name.map_or_else(|_| "the object".into(), |name| name.to_string_lossy().into_owned())
}
