//! Objects that stand for plainer ones.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyComplex, PyDict, PyMemoryView, PyType};

use super::arrays;
use super::fault::Fault;

/// The value of an enum's member.
pub(super) fn enum_value<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static ENUM: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = value.py();
    if !value.is_instance(ENUM.import(py, "enum", "Enum")?)? {
        return Ok(None);
    }
    value.getattr(intern!(py, "value")).map(Some)
}

/// What is encoded in place of an object that MessagePack has no type for: bytes, or a dict.
pub(super) fn plain<'py>(value: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyAny>>, Fault> {
    let py = value.py();
    if value.is_instance_of::<PyMemoryView>() {
        return Ok(Some(value.call_method0(intern!(py, "tobytes"))?));
    }
    if let Some(plain) = arrays::plain(value)? {
        return Ok(Some(plain));
    }
    if let Ok(complex) = value.cast::<PyComplex>() {
        return Ok(Some(arrays::complex(complex)?.into_any()));
    }
    Ok(fields(value)?.map(Bound::into_any))
}

/// The fields of a dataclass instance or of a pydantic model. Neither package is imported for it.
pub(super) fn fields<'py>(value: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyDict>>, Fault> {
    let py = value.py();
    let class = value.get_type();
    if class.getattr_opt(intern!(py, "__pydantic_serializer__"))?.is_some()
        && let Some(dump) = class.getattr_opt(intern!(py, "model_dump"))?
    {
        let arguments = PyDict::new(py);
        arguments.set_item(intern!(py, "mode"), intern!(py, "python"))?;
        // By the names that a model of the other side validates.
        arguments.set_item(intern!(py, "by_alias"), true)?;
        let dumped = dump.call((value,), Some(&arguments))?;
        return match dumped.cast_into::<PyDict>() {
            Ok(fields) => Ok(Some(fields)),
            Err(_) => Err(Fault::Unsupported("a root model is sent as its `.root`".into())),
        };
    }
    if class.getattr_opt(intern!(py, "__dataclass_fields__"))?.is_some() {
        static FIELDS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let fields = PyDict::new(py);
        for field in FIELDS.import(py, "dataclasses", "fields")?.call1((value,))?.try_iter()? {
            let name = field?.getattr(intern!(py, "name"))?.cast_into().map_err(PyErr::from)?;
            fields.set_item(&name, value.getattr(&name)?)?;
        }
        return Ok(Some(fields));
    }
    Ok(None)
}
