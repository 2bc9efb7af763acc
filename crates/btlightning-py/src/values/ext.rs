//! Extension values that have no other form in Python.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyMemoryView, PyTuple};

use crate::errors;

/// A MessagePack extension value. Immutable; equal to another with the same code and data.
#[pyclass(frozen, module = "btlightning._native")]
pub(super) struct Ext {
    pub(super) code: i8,
    pub(super) data: Py<PyBytes>,
}

#[pymethods]
impl Ext {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("code", "data");

    #[new]
    fn new(code: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let wide: i64 = code.extract()?;
        let code = i8::try_from(wide).map_err(|_| {
            errors::serialization(format!("an extension's code is from -128 to 127, not {wide}"))
        })?;
        let data = if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            bytes.clone()
        } else if data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>()
        {
            data.py().get_type::<PyBytes>().call1((data,))?.cast_into::<PyBytes>()?
        } else {
            let found = data.get_type().fully_qualified_name()?;
            return Err(errors::unsupported_type(format!("an extension's data is bytes, not {found}")));
        };
        Ok(Self { code, data: data.unbind() })
    }

    /// The application's number for the type, from -128 to 127; MessagePack has taken the negative ones for itself.
    #[getter]
    fn code(&self) -> i8 {
        self.code
    }

    /// What the application has put into it.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.data.bind(py).clone()
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> bool {
        let same =
            |other: &Self| self.code == other.code && self.data.as_bytes(py) == other.data.as_bytes(py);
        other.cast::<Self>().is_ok_and(|other| same(other.get()))
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.fields(py)?.hash()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Ext(code={}, data={})", self.code, self.data.bind(py).repr()?))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.fields(py)?.try_iter()
    }

    /// For `pickle` and `copy`.
    fn __getnewargs__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.fields(py)
    }
}

impl Ext {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (self.code, self.data.bind(py)).into_pyobject(py)
    }
}
