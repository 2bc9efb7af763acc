//! Python objects straight into a frame, and out of one.
//!
//! Both ways are one walk without recursion: what is open stands in a vector, so the depth costs no stack, and an error
//! finds the path to its value there; as long as all goes well the path costs nothing.
//!
//! - `encode`: the walk over Python objects; `objects`: those that have to be turned into plainer ones first.
//! - `decode`: the walk over a scanned payload.
//! - `arrays`: numpy and torch; `array_form`, `dtype`: what a peer says is an array, before numpy is told.
//! - `timestamp`, `ext`: MessagePack's extension types.
//! - `keys`: what the keys of a map may be.
//!
//! # Memory
//! A payload is scanned before it is decoded: as dynamic values of Rust it would take 64 MiB and 8 bytes for each of its
//! bytes, at most. As Python objects it takes at most twice that. The worst are maps with one entry that is no string,
//! which are charged 136 bytes in the scan and take 232; what honest payloads are made of (numbers, strings, byte strings,
//! arrays) takes no more than it is charged.

mod array_form;
mod arrays;
mod decode;
mod dtype;
mod encode;
mod ext;
mod fault;
mod keys;
mod objects;
mod open;
mod timestamp;

use btlightning::raw::{DecodeError, EncodeError, ScanLimits, Scanned, encode_payload_pieces};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::errors::{self, Class};

pub(crate) use self::decode::decode_map;
pub(crate) use self::encode::encode_map;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ext::Ext>()?;
    module.add_function(wrap_pyfunction!(encode_payload, module)?)?;
    module.add_function(wrap_pyfunction!(decode_payload, module)?)
}

/// Why a Python object was not encoded.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is too large for MessagePack or for a frame.
    Encode(EncodeError),
    /// All else, as the exception to raise: one of ours, or what the object's own code has raised.
    Python(PyErr),
}

impl Refused {
    pub(crate) fn into_pyerr(self) -> PyErr {
        match self {
            Self::Encode(error) => errors::encode(&error),
            Self::Python(error) => error,
        }
    }
}

impl From<EncodeError> for Refused {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// The exception for what a peer has sent.
fn undecodable(message: impl Into<String>) -> PyErr {
    errors::raise(Class::Serialization, message, "decode", false)
}

fn malformed(error: DecodeError) -> PyErr {
    undecodable(error.to_string())
}

/// Encodes one payload as a query or an answer would, without a frame around it: a mapping with string keys, a dataclass
/// instance or a pydantic model.
///
/// Raises UnsupportedTypeError (a TypeError) for a value that MessagePack has no form for, and SerializationError (a
/// ValueError) for one that cannot be encoded otherwise: text with surrogates, values nested deeper than 128 levels or in
/// themselves, too many keys that are no strings, as 8,193 numbers in one map. Both name the path to the value.
#[pyfunction]
fn encode_payload<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let pieces = encode_payload_pieces(|out| encode_map(data, out)).map_err(Refused::into_pyerr)?;
    let length = pieces.iter().map(|piece| piece.len()).sum();
    PyBytes::new_with(data.py(), length, |mut place| {
        for piece in &pieces {
            let (here, rest) = place.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            place = rest;
        }
        Ok(())
    })
}

/// From this size on, in bytes, a payload is scanned without the GIL; below, the scan takes less time than taking it back.
const SCANNED_DETACHED_MIN: usize = 64 * 1024;

/// Decodes one payload that anybody may have written; what is decoded takes at most twice 64 MiB and 8 bytes for each byte
/// of it.
///
/// Raises SerializationError (a ValueError) for anything but one well-formed map with string keys within that bound.
#[pyfunction]
fn decode_payload<'py>(py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let limits = ScanLimits::for_payload(payload.len());
    let scan = || Scanned::whole(payload, &limits);
    let scanned = if payload.len() < SCANNED_DETACHED_MIN { scan() } else { py.detach(scan) };
    decode_map(py, scanned.map_err(malformed)?)
}
