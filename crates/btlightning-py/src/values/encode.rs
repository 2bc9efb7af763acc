//! The walk over a Python object that writes it into a frame.

use btlightning::raw::{EncodeError, NESTING_MAX, PayloadWriter, SHARED_BYTES_MIN};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple,
};

use super::ext::Ext;
use super::fault::{Fault, exact, text, type_name};
use super::keys::{Budget, Kind};
use super::open::{self, Next, Open};
use super::{Refused, objects, timestamp};
use crate::errors;
use crate::kept::Kept;

/// How often in a row one object may stand for another: an enum's member for its value, a tensor for an array, an array
/// for a map.
const STAND_INS_MAX: usize = 8;

/// Writes a payload: a mapping with string keys, a dataclass instance, or a pydantic model.
///
/// # Errors
/// `UnsupportedTypeError` for a value that MessagePack has no form for, and `SerializationError` for one that cannot be
/// encoded all the same; both name the path to it. What the code of the objects raises is passed on.
pub(crate) fn encode_map(py_data: &Bound<'_, PyAny>, out: &mut PayloadWriter) -> Result<(), Refused> {
    let mut walk = Walk { out, open: Vec::new(), budget: Budget::default() };
    let encoded = walk.run(py_data);
    encoded.map_err(|fault| match fault {
        Fault::Unsupported(what) => {
            errors::unsupported_type(format!("{}: {what}", open::path(&walk.open))).into()
        }
        Fault::Invalid(what) => errors::serialization(format!("{}: {what}", open::path(&walk.open))).into(),
        Fault::Encode(error) => Refused::Encode(error),
        Fault::Python(error) => Refused::Python(error),
    })
}

struct Walk<'out, 'py> {
    out: &'out mut PayloadWriter,
    /// The arrays and maps that are being written, the outermost first.
    open: Vec<Open<'py>>,
    /// For the keys of all maps.
    budget: Budget,
}

impl<'py> Walk<'_, 'py> {
    fn run(&mut self, payload: &Bound<'py, PyAny>) -> Result<(), Fault> {
        self.payload(payload)?;
        while let Some(open) = self.open.last_mut() {
            let in_key = open.in_key;
            match open.next(self.out, &mut self.budget)? {
                Next::Value(value) => {
                    self.value(&value, in_key)?;
                }
                Next::Key(key) => self.key(&key)?,
                Next::End => {
                    self.open.pop();
                }
            }
        }
        Ok(())
    }

    fn payload(&mut self, payload: &Bound<'py, PyAny>) -> Result<(), Fault> {
        if let Some(dict) = exact::<PyDict>(payload) {
            return self.begin(Open::dict(dict));
        }
        if let Some(fields) = objects::fields(payload)? {
            return self.begin(Open::dict(&fields));
        }
        if let Ok(mapping) = payload.cast::<PyMapping>() {
            return self.begin(Open::mapping(mapping)?);
        }
        let found = type_name(payload);
        Err(Fault::Unsupported(format!(
            "a payload is a mapping, a dataclass instance or a pydantic model, not {found}"
        )))
    }

    /// Writes a key that is not simply a string.
    fn key(&mut self, key: &Bound<'py, PyAny>) -> Result<(), Fault> {
        let map = self.open.len() - 1;
        let kind = if map == 0 { self.payload_key(key)? } else { self.value(key, true)? };
        if let Some(map) = self.open.get_mut(map) {
            map.note_key(kind);
        }
        Ok(())
    }

    fn payload_key(&mut self, key: &Bound<'py, PyAny>) -> Result<Kind, Fault> {
        let plain = objects::enum_value(key)?;
        match plain.as_ref().unwrap_or(key).cast::<PyString>() {
            Ok(string) => self.string(string),
            Err(_) => {
                let found = type_name(key);
                Err(Fault::Unsupported(format!("a payload's keys are strings, not {found}")))
            }
        }
    }

    /// Writes a scalar, or begins an array or a map. Says what it would be as a key. The very types of MessagePack first:
    /// nearly all values have one of them.
    fn value(&mut self, value: &Bound<'py, PyAny>, in_key: bool) -> Result<Kind, Fault> {
        if let Some(string) = exact::<PyString>(value) {
            self.string(string)
        } else if let Some(int) = exact::<PyInt>(value) {
            self.int(int)
        } else if let Some(float) = exact::<PyFloat>(value) {
            self.float(float)
        } else if let Some(dict) = exact::<PyDict>(value) {
            if in_key {
                return Err(no_key(value));
            }
            self.begin(Open::dict(dict)).map(|()| Kind::Other)
        } else if let Some(list) = exact::<PyList>(value) {
            self.begin(Open::list(list, in_key)).map(|()| Kind::Other)
        } else if value.is_none() {
            self.out.nil();
            Ok(Kind::Number)
        } else if let Some(truth) = exact::<PyBool>(value) {
            self.out.boolean(truth.is_true());
            Ok(Kind::Number)
        } else if let Some(bytes) = exact::<PyBytes>(value) {
            self.bytes(bytes)
        } else if let Some(tuple) = exact::<PyTuple>(value) {
            self.begin(Open::tuple(tuple, in_key)).map(|()| Kind::Other)
        } else {
            self.other(value, in_key)
        }
    }

    /// Everything that is not of the very types of MessagePack.
    #[cold]
    fn other(&mut self, value: &Bound<'py, PyAny>, in_key: bool) -> Result<Kind, Fault> {
        let mut stand_in = value.clone();
        for _ in 0..STAND_INS_MAX {
            if let Some(plain) = objects::enum_value(&stand_in)? {
                stand_in = plain;
            } else if let Some(kind) = self.scalar(&stand_in)? {
                return Ok(kind);
            } else if let Ok(list) = stand_in.cast::<PyList>() {
                return self.begin(Open::list(list, in_key)).map(|()| Kind::Other);
            } else if let Ok(tuple) = stand_in.cast::<PyTuple>() {
                return self.begin(Open::tuple(tuple, in_key)).map(|()| Kind::Other);
            } else if let Some(dict) = exact::<PyDict>(&stand_in) {
                if in_key {
                    return Err(no_key(value));
                }
                return self.begin(Open::dict(dict)).map(|()| Kind::Other);
            } else if let Some(plain) = objects::plain(&stand_in)? {
                stand_in = plain;
            } else if let Ok(mapping) = stand_in.cast::<PyMapping>() {
                if in_key {
                    return Err(no_key(value));
                }
                return self.begin(Open::mapping(mapping)?).map(|()| Kind::Other);
            } else {
                break;
            }
        }
        Err(Fault::Unsupported(format!("{} has no MessagePack form", type_name(&stand_in))))
    }

    /// Writes what is neither an array nor a map, if it is known here.
    fn scalar(&mut self, value: &Bound<'py, PyAny>) -> Result<Option<Kind>, Fault> {
        let kind = if let Ok(string) = value.cast::<PyString>() {
            self.string(string)?
        } else if let Ok(truth) = value.cast::<PyBool>() {
            self.out.boolean(truth.is_true());
            Kind::Number
        } else if let Ok(int) = value.cast::<PyInt>() {
            self.int(int)?
        } else if let Ok(float) = value.cast::<PyFloat>() {
            self.float(float)?
        } else if value.is_none() {
            self.out.nil();
            Kind::Number
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            self.bytes(bytes)?
        } else if let Ok(bytes) = value.cast::<PyByteArray>() {
            self.out.bin_shared(bytes.to_vec().into())?;
            Kind::Text
        } else if let Ok(ext) = value.cast::<Ext>() {
            let ext = ext.get();
            self.out.ext(ext.code, ext.data.as_bytes(value.py()))?;
            Kind::Other
        } else if timestamp::is_datetime(value)? {
            self.out.ext(timestamp::CODE, timestamp::encode(value)?.as_bytes())?;
            Kind::Other
        } else {
            return Ok(None);
        };
        Ok(Some(kind))
    }

    fn string(&mut self, string: &Bound<'py, PyString>) -> Result<Kind, Fault> {
        self.out.str(text(string)?)?;
        Ok(Kind::Text)
    }

    fn int(&mut self, int: &Bound<'py, PyInt>) -> Result<Kind, Fault> {
        if let Ok(n) = int.extract::<i64>() {
            self.out.sint(n);
        } else if let Ok(n) = int.extract::<u64>() {
            self.out.uint(n);
        } else {
            return Err(Fault::Unsupported(
                "the int does not fit into the 64 bits that MessagePack has".into(),
            ));
        }
        Ok(Kind::Number)
    }

    fn float(&mut self, float: &Bound<'py, PyFloat>) -> Result<Kind, Fault> {
        self.out.f64(float.value());
        Ok(Kind::Number)
    }

    fn bytes(&mut self, bytes: &Bound<'py, PyBytes>) -> Result<Kind, Fault> {
        let slice = bytes.as_bytes();
        if slice.len() < SHARED_BYTES_MIN {
            self.out.bin(slice)?;
        } else {
            self.out.bin_shared(Bytes::from_owner(Kept::bytes(bytes)))?;
        }
        Ok(Kind::Text)
    }

    fn begin(&mut self, open: Open<'py>) -> Result<(), Fault> {
        if self.open.len() >= NESTING_MAX {
            let what = format!("values are nested deeper than {NESTING_MAX} levels, or contain themselves");
            return Err(Fault::Invalid(what));
        }
        // No frame is longer. Lists that hold one another more than once would go on beyond all memory.
        let length = self.out.frame_bytes();
        if u32::try_from(length).is_err() {
            return Err(EncodeError::TooLong { length }.into());
        }
        open.announce(self.out)?;
        self.open.push(open);
        Ok(())
    }
}

fn no_key(value: &Bound<'_, PyAny>) -> Fault {
    Fault::Unsupported(format!("{} is a map in MessagePack, and cannot be a key", type_name(value)))
}
