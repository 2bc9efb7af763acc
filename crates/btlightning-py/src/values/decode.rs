//! The walk over a scanned payload that makes Python objects of it.

use btlightning::raw::{Head, Reader, Scanned};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};

use super::array_form::Form;
use super::ext::Ext;
use super::keys::{Budget, Keys, Kind};
use super::{arrays, malformed, timestamp, undecodable};

/// Decodes a payload: a map with string keys. Of a key that comes twice, the last value counts. A byte string that is
/// UTF-8 is taken as a key.
///
/// Inside it, arrays become lists, and tuples where they are keys; byte strings become `bytes`, and so do strings that are
/// not UTF-8; timestamps become aware `datetime`s in UTC, other extensions `Ext`; what has msgpack-numpy's form becomes an
/// array that can be written to, a numpy scalar, or a complex number.
///
/// # Errors
/// `SerializationError` for anything but a map with string keys, for a map as a key, and for more or longer keys than
/// [`Keys`] allows.
pub(crate) fn decode_map<'py>(py: Python<'py>, scanned: Scanned<'_>) -> PyResult<Bound<'py, PyDict>> {
    let mut walk = Walk::new(py, scanned);
    let Head::Map(pairs) = walk.head()? else { return Err(undecodable("expected a map")) };
    let map = PyDict::new(py);
    for _ in 0..pairs {
        let (Head::Str(key) | Head::Bin(key)) = walk.head()? else {
            return Err(undecodable("expected a string as key"));
        };
        let key = std::str::from_utf8(key).map_err(|_| undecodable("a key is not UTF-8"))?;
        map.set_item(PyString::new(py, key), walk.value()?)?;
    }
    Ok(map)
}

struct Walk<'a, 'py> {
    py: Python<'py>,
    reader: Reader<'a>,
    /// The arrays and maps of which elements are still to come, the outermost first. The scan has counted them.
    open: Vec<Open<'py>>,
    /// The elements of all open arrays, those of the outermost first.
    elements: Vec<Bound<'py, PyAny>>,
    /// For the keys of all maps.
    budget: Budget,
}

enum Open<'py> {
    Array { first: usize, length: usize, in_key: bool },
    Map { map: Bound<'py, PyDict>, left: usize, key: Key<'py>, keys: Keys },
}

/// How far the next pair of a map has come.
enum Key<'py> {
    Awaited,
    /// Its first byte is read, when so many were left.
    Begun {
        kind: Kind,
        rest: usize,
    },
    Complete(Bound<'py, PyAny>),
}

impl<'a, 'py> Walk<'a, 'py> {
    fn new(py: Python<'py>, scanned: Scanned<'a>) -> Self {
        Self {
            py,
            reader: Reader::new(scanned.as_bytes()),
            open: Vec::new(),
            elements: Vec::new(),
            budget: Budget::default(),
        }
    }

    fn head(&mut self) -> PyResult<Head<'a>> {
        self.reader.head().map_err(malformed)
    }

    /// Reads one value with all that is in it.
    fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        loop {
            let rest = self.reader.rest().len();
            let head = self.head()?;
            let in_key = self.is_key_part(&head, rest);
            let complete = match head {
                Head::Array(length) if length > 0 => {
                    self.open.push(Open::Array { first: self.elements.len(), length, in_key });
                    continue;
                }
                Head::Array(_) if in_key => PyTuple::empty(self.py).into_any(),
                Head::Array(_) => PyList::empty(self.py).into_any(),
                Head::Map(_) if in_key => return Err(undecodable("a map is the key of another")),
                Head::Map(0) => PyDict::new(self.py).into_any(),
                Head::Map(pairs) => match self.array(pairs)? {
                    Some(array) => array,
                    None => {
                        let map = PyDict::new(self.py);
                        self.open.push(Open::Map {
                            map,
                            left: pairs,
                            key: Key::Awaited,
                            keys: Keys::default(),
                        });
                        continue;
                    }
                },
                scalar => self.scalar(scalar)?,
            };
            if let Some(value) = self.put(complete)? {
                return Ok(value);
            }
        }
    }

    /// Whether what begins with this head is a key or a part of one; before it, so many bytes were left.
    fn is_key_part(&mut self, head: &Head<'_>, rest: usize) -> bool {
        let key = match self.open.last_mut() {
            Some(Open::Map { key: key @ Key::Awaited, .. }) => key,
            Some(Open::Array { in_key, .. }) => return *in_key,
            _ => return false,
        };
        let kind = match head {
            Head::Str(_) | Head::Bin(_) => Kind::Text,
            Head::Array(_) | Head::Map(_) | Head::Ext(..) => Kind::Other,
            _ => Kind::Number,
        };
        *key = Key::Begun { kind, rest };
        true
    }

    /// What a map of so many pairs is if it is no map to Python.
    fn array(&mut self, pairs: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut ahead = self.reader;
        let Some(form) = Form::read(&mut ahead, pairs) else { return Ok(None) };
        let array = arrays::decode(self.py, &form)?;
        if array.is_some() {
            self.reader = ahead;
        }
        Ok(array)
    }

    fn scalar(&self, head: Head<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match head {
            Head::Nil => py.None().into_bound(py),
            Head::Bool(truth) => truth.into_pyobject(py)?.to_owned().into_any(),
            Head::Uint(n) => n.into_pyobject(py)?.into_any(),
            Head::Sint(n) => n.into_pyobject(py)?.into_any(),
            Head::F32(n) => PyFloat::new(py, n.into()).into_any(),
            Head::F64(n) => PyFloat::new(py, n).into_any(),
            Head::Str(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => PyString::new(py, text).into_any(),
                Err(_) => PyBytes::new(py, bytes).into_any(),
            },
            Head::Bin(bytes) => PyBytes::new(py, bytes).into_any(),
            Head::Ext(code, body) => {
                if code == timestamp::CODE
                    && let Some(datetime) = timestamp::decode(py, body)?
                {
                    return Ok(datetime);
                }
                Bound::new(py, Ext { code, data: PyBytes::new(py, body).unbind() })?.into_any()
            }
            Head::Array(_) | Head::Map(_) => return Err(undecodable("expected a scalar")),
        })
    }

    /// Puts a complete value where it belongs, and what becomes complete by it. Hands out the outermost.
    fn put(&mut self, mut complete: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            match self.open.last_mut() {
                None => return Ok(Some(complete)),
                Some(&mut Open::Array { first, length, in_key }) => {
                    self.elements.push(complete);
                    if self.elements.len() - first < length {
                        return Ok(None);
                    }
                    let elements = self.elements.drain(first..);
                    complete = if in_key {
                        PyTuple::new(self.py, elements)?.into_any()
                    } else {
                        PyList::new(self.py, elements)?.into_any()
                    };
                }
                Some(Open::Map { map, left, key, keys }) => {
                    let name = match std::mem::replace(key, Key::Awaited) {
                        Key::Complete(name) => name,
                        begun => {
                            if let Key::Begun { kind, rest } = begun {
                                let bytes = rest - self.reader.rest().len();
                                keys.count(kind, bytes, &mut self.budget).map_err(undecodable)?;
                            }
                            *key = Key::Complete(complete);
                            return Ok(None);
                        }
                    };
                    map.set_item(name, complete)?;
                    *left -= 1;
                    if *left > 0 {
                        return Ok(None);
                    }
                    complete = map.clone().into_any();
                }
            }
            self.open.pop();
        }
    }
}
