//! Python objects straight into a frame, and out of one.
//! STAND-IN of the branch `server`: to be replaced at the merge.

use btlightning::raw::{EncodeError, Head, PayloadWriter, Reader, Scanned};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString};

pub(crate) fn add_to(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}

pub(crate) struct Refused(PyErr);

impl From<EncodeError> for Refused {
    fn from(error: EncodeError) -> Self {
        Self(crate::errors::encode(&error))
    }
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

impl Refused {
    pub(crate) fn into_pyerr(self) -> PyErr {
        self.0
    }
}

pub(crate) fn encode_map(object: &Bound<'_, PyAny>, out: &mut PayloadWriter) -> Result<(), Refused> {
    if !object.is_instance_of::<PyDict>() {
        return Err(PyTypeError::new_err(format!("not a map but {}", object.get_type())).into());
    }
    encode(object, out)
}

fn encode(object: &Bound<'_, PyAny>, out: &mut PayloadWriter) -> Result<(), Refused> {
    if object.is_none() {
        out.nil();
    } else if object.is_instance_of::<PyBool>() {
        out.boolean(object.extract()?);
    } else if object.is_instance_of::<PyInt>() {
        out.sint(object.extract()?);
    } else if object.is_instance_of::<PyFloat>() {
        out.f64(object.extract()?);
    } else if let Ok(text) = object.cast::<PyString>() {
        out.str(&text.extract::<String>()?)?;
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        out.bin(bytes.as_bytes())?;
    } else if let Ok(map) = object.cast::<PyDict>() {
        out.map_len(map.len())?;
        for (key, value) in map.iter() {
            encode(&key, out)?;
            encode(&value, out)?;
        }
    } else if let Ok(list) = object.cast::<PyList>() {
        out.array_len(list.len())?;
        for element in list.iter() {
            encode(&element, out)?;
        }
    } else {
        return Err(PyTypeError::new_err(format!("cannot encode {}", object.get_type())).into());
    }
    Ok(())
}

pub(crate) fn decode_map<'py>(py: Python<'py>, scanned: Scanned<'_>) -> PyResult<Bound<'py, PyDict>> {
    let mut reader = Reader::new(scanned.as_bytes());
    Ok(decode(py, &mut reader)?.cast_into::<PyDict>()?)
}

fn decode<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> PyResult<Bound<'py, PyAny>> {
    use pyo3::IntoPyObjectExt;
    match reader.head().map_err(|error| crate::errors::serialization(error.to_string()))? {
        Head::Nil => Ok(py.None().into_bound(py)),
        Head::Bool(value) => value.into_bound_py_any(py),
        Head::Uint(value) => value.into_bound_py_any(py),
        Head::Sint(value) => value.into_bound_py_any(py),
        Head::F32(value) => value.into_bound_py_any(py),
        Head::F64(value) => value.into_bound_py_any(py),
        Head::Str(text) => String::from_utf8_lossy(text).into_bound_py_any(py),
        Head::Bin(bytes) | Head::Ext(_, bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        Head::Array(length) => {
            let list = PyList::empty(py);
            for _ in 0..length {
                list.append(decode(py, reader)?)?;
            }
            Ok(list.into_any())
        }
        Head::Map(pairs) => {
            let map = PyDict::new(py);
            for _ in 0..pairs {
                let key = decode(py, reader)?;
                map.set_item(key, decode(py, reader)?)?;
            }
            Ok(map.into_any())
        }
    }
}
