//! The dynamic payload: [`rmpv::Value`]s out of a scanned value, and back onto the wire.

use std::collections::HashMap;

use bytes::Bytes;
use rmpv::Value;

use super::error::{DecodeError, EncodeError};
use super::reader::{Head, Reader};
use super::scan::{NESTING_MAX, Scanned, ScannedBytes};
use super::writer;

/// Decodes a payload: a map with string keys. Of a key that comes twice, the last value counts.
///
/// Takes no more stack for a deeply nested value than for a flat one. Strings that are not UTF-8 become
/// [`Value::Binary`]; as a key they are an error, whereas a byte string that is UTF-8 is taken as a key.
///
/// # Errors
/// [`DecodeError::Unexpected`] if the value is not a map or a key not a string, [`DecodeError::NotUtf8`] for a key.
pub fn decode_map(scanned: Scanned<'_>) -> Result<HashMap<String, Value>, DecodeError> {
    read_map(scanned.as_bytes(), |_, reader| read_value(reader))
}

/// Reads a payload whose values `read` reads, of the keys that it is told.
fn read_map<'a>(
    payload: &'a [u8],
    mut read: impl FnMut(&str, &mut Reader<'a>) -> Result<Value, DecodeError>,
) -> Result<HashMap<String, Value>, DecodeError> {
    let mut reader = Reader::new(payload);
    let Head::Map(pairs) = reader.head()? else {
        return Err(DecodeError::Unexpected { expected: "a map" });
    };
    // The scan has charged a table of this size.
    let mut map = HashMap::with_capacity(pairs);
    for _ in 0..pairs {
        let (Head::Str(key) | Head::Bin(key)) = reader.head()? else {
            return Err(DecodeError::Unexpected { expected: "a string as key" });
        };
        let key = std::str::from_utf8(key).map_err(|_| DecodeError::NotUtf8 { what: "a key" })?;
        map.insert(key.to_owned(), read(key, &mut reader)?);
    }
    Ok(map)
}

/// From this length on, in bytes, a byte string that is most of a payload stays in the buffer that the payload arrived in.
/// No packet is as large, so that buffer is the payload's alone.
const KEPT_BYTES_MIN: usize = 64 * 1024;

/// How much longer than its byte string that buffer may stay, in bytes.
const SPARE_BYTES_MAX: usize = 4096;

/// Decodes a payload as [`decode_map`] does, and gives it up: where a byte string is most of it, that is moved to the front
/// of the buffer it arrived in instead of being copied out of it, unless somebody else shares the buffer.
///
/// # Errors
/// As [`decode_map`].
pub fn decode_map_from(payload: ScannedBytes) -> Result<HashMap<String, Value>, DecodeError> {
    let bytes = payload.into_bytes();
    let least = KEPT_BYTES_MIN.max(bytes.len() / 2 + 1);
    let mut kept: Option<(String, Bytes)> = None;
    let mut map = read_map(&bytes, |key, reader| {
        let mut ahead = *reader;
        let value = match ahead.head()? {
            Head::Bin(body) if body.len() >= least => {
                *reader = ahead;
                kept = Some((key.to_owned(), bytes.slice_ref(body)));
                return Ok(Value::Nil);
            }
            _ => read_value(reader)?,
        };
        // The last of two equal keys counts.
        kept.take_if(|(kept, _)| kept == key);
        Ok(value)
    })?;
    drop(bytes);
    if let Some((key, body)) = kept {
        let mut body = Vec::from(body);
        if body.capacity() - body.len() > SPARE_BYTES_MAX {
            body.shrink_to_fit();
        }
        map.insert(key, Value::Binary(body));
    }
    Ok(map)
}

/// Decodes any value.
///
/// Takes no more stack for a deeply nested value than for a flat one. Strings that are not UTF-8 become
/// [`Value::Binary`].
///
/// # Errors
/// None that a scan has not found; the type is that of its sisters.
pub fn decode_value(scanned: Scanned<'_>) -> Result<Value, DecodeError> {
    read_value(&mut Reader::new(scanned.as_bytes()))
}

/// Appends a payload to `out`. On an error `out` is as it was.
///
/// # Errors
/// [`EncodeError::TooDeep`] for values in each other beyond [`NESTING_MAX`], which no peer would read;
/// [`EncodeError::TooLong`].
pub fn encode_map(map: &HashMap<String, Value>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    or_undo(out, |out| {
        writer::map_len(out, map.len())?;
        for (key, value) in map {
            writer::str(out, key)?;
            write_value(out, value, 1)?;
        }
        Ok(())
    })
}

/// Appends any value to `out`, in the smallest encoding. On an error `out` is as it was. A string that is not UTF-8
/// is written as a byte string.
///
/// # Errors
/// As [`encode_map`].
pub fn encode_value(value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    or_undo(out, |out| write_value(out, value, 0))
}

/// Runs `write`, and cuts off what it has written if it fails.
pub(super) fn or_undo(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write(out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Reads one value with all that is in it. Recursion would cost a stack frame a level, which a debug build cannot
/// afford on a small thread; so the arrays and maps that are open stand in a vector of at most [`NESTING_MAX`].
fn read_value(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let mut open: Vec<Container> = Vec::new();
    loop {
        let mut complete = match reader.head()? {
            Head::Array(0) => Value::Array(Vec::new()),
            Head::Map(0) => Value::Map(Vec::new()),
            Head::Array(length) => {
                open.push(Container::Array { length, elements: Vec::with_capacity(length) });
                continue;
            }
            Head::Map(length) => {
                open.push(Container::Map { length, pairs: Vec::with_capacity(length), key: None });
                continue;
            }
            leaf => leaf_value(leaf),
        };
        loop {
            match open.pop() {
                None => return Ok(complete),
                Some(container) => match container.with(complete) {
                    Filled::Complete(value) => complete = value,
                    Filled::Open(container) => {
                        open.push(container);
                        break;
                    }
                },
            }
        }
    }
}

/// An array or map of which some elements are still to come. Its capacity is its length, which the scan has charged.
enum Container {
    Array { length: usize, elements: Vec<Value> },
    Map { length: usize, pairs: Vec<(Value, Value)>, key: Option<Value> },
}

enum Filled {
    Complete(Value),
    Open(Container),
}

impl Container {
    fn with(self, value: Value) -> Filled {
        match self {
            Self::Array { length, mut elements } => {
                elements.push(value);
                if elements.len() == length {
                    Filled::Complete(Value::Array(elements))
                } else {
                    Filled::Open(Self::Array { length, elements })
                }
            }
            Self::Map { length, pairs, key: None } => {
                Filled::Open(Self::Map { length, pairs, key: Some(value) })
            }
            Self::Map { length, mut pairs, key: Some(key) } => {
                pairs.push((key, value));
                if pairs.len() == length {
                    Filled::Complete(Value::Map(pairs))
                } else {
                    Filled::Open(Self::Map { length, pairs, key: None })
                }
            }
        }
    }
}

fn leaf_value(head: Head<'_>) -> Value {
    match head {
        Head::Nil => Value::Nil,
        Head::Bool(b) => Value::Boolean(b),
        Head::Uint(n) => Value::from(n),
        Head::Sint(n) => Value::from(n),
        Head::F32(n) => Value::F32(n),
        Head::F64(n) => Value::F64(n),
        Head::Str(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => Value::Binary(bytes.to_vec()),
        },
        Head::Bin(bytes) => Value::Binary(bytes.to_vec()),
        Head::Ext(tag, bytes) => Value::Ext(tag, bytes.to_vec()),
        Head::Array(_) => Value::Array(Vec::new()),
        Head::Map(_) => Value::Map(Vec::new()),
    }
}

/// Writes one value that lies in `nesting` arrays and maps.
pub(super) fn write_value(out: &mut Vec<u8>, value: &Value, nesting: usize) -> Result<(), EncodeError> {
    match value {
        Value::Nil => writer::nil(out),
        Value::Boolean(b) => writer::boolean(out, *b),
        Value::Integer(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => writer::uint(out, n),
            (None, n) => writer::sint(out, n.unwrap_or_default()),
        },
        Value::F32(n) => writer::f32(out, *n),
        Value::F64(n) => writer::f64(out, *n),
        Value::String(text) => match text.as_str() {
            Some(text) => writer::str(out, text)?,
            None => writer::bin(out, text.as_bytes())?,
        },
        Value::Binary(bytes) => writer::bin(out, bytes)?,
        Value::Ext(tag, bytes) => writer::ext(out, *tag, bytes)?,
        Value::Array(elements) => {
            let nesting = one_deeper(nesting)?;
            writer::array_len(out, elements.len())?;
            for element in elements {
                write_value(out, element, nesting)?;
            }
        }
        Value::Map(pairs) => {
            let nesting = one_deeper(nesting)?;
            writer::map_len(out, pairs.len())?;
            for (key, value) in pairs {
                write_value(out, key, nesting)?;
                write_value(out, value, nesting)?;
            }
        }
    }
    Ok(())
}

/// The nesting of what is in an array or map that itself has `nesting`.
pub(super) fn one_deeper(nesting: usize) -> Result<usize, EncodeError> {
    if nesting < NESTING_MAX {
        Ok(nesting + 1)
    } else {
        Err(EncodeError::TooDeep { nesting_max: NESTING_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::ScanLimits;
    use super::*;

    fn nested_arrays(levels: usize) -> Vec<u8> {
        let mut bytes = vec![0x91; levels];
        bytes.push(0xc0);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<Value, DecodeError> {
        decode_value(Scanned::whole(bytes, &ScanLimits::for_payload(bytes.len()))?)
    }

    fn payload(bytes: &[u8]) -> Result<HashMap<String, Value>, DecodeError> {
        decode_map(Scanned::whole(bytes, &ScanLimits::for_payload(bytes.len()))?)
    }

    #[test]
    fn the_deepest_value_decodes_and_encodes_on_a_small_stack() {
        std::thread::Builder::new()
            .stack_size(512 * 1024)
            .spawn(|| {
                let bytes = nested_arrays(NESTING_MAX);
                let value = decoded(&bytes).expect("at the limit");
                let mut again = Vec::new();
                encode_value(&value, &mut again).expect("at the limit");
                assert_eq!(again, bytes);
                let deeper = Value::Array(vec![value]);
                assert_eq!(
                    encode_value(&deeper, &mut again),
                    Err(EncodeError::TooDeep { nesting_max: NESTING_MAX })
                );
                assert_eq!(again, bytes, "an error leaves the vector as it was");
            })
            .expect("a thread")
            .join()
            .expect("no overflow");
        assert_eq!(
            decoded(&nested_arrays(NESTING_MAX + 1)),
            Err(DecodeError::TooDeep { nesting_max: NESTING_MAX })
        );
    }

    #[test]
    fn a_string_that_is_not_utf8_is_a_byte_string() {
        assert_eq!(decoded(&[0xa2, 0xff, 0xfe]), Ok(Value::Binary(vec![0xff, 0xfe])));
    }

    #[test]
    fn keys_are_text() {
        assert_eq!(payload(&[0x81, 0xa1, b'k', 1]), Ok(HashMap::from([("k".into(), 1.into())])));
        assert_eq!(payload(&[0x81, 0xc4, 1, b'k', 1]), Ok(HashMap::from([("k".into(), 1.into())])));
        assert_eq!(payload(&[0x81, 1, 1]), Err(DecodeError::Unexpected { expected: "a string as key" }));
        assert_eq!(payload(&[0x81, 0xa1, 0xff, 1]), Err(DecodeError::NotUtf8 { what: "a key" }));
        assert_eq!(payload(&[0x91, 1]), Err(DecodeError::Unexpected { expected: "a map" }));
    }

    /// What arrived: a map with these pairs, in a buffer with `spare` bytes more than it needs, and something behind it.
    fn arrived(pairs: &[(&str, Value)], spare: usize) -> ScannedBytes {
        let mut bytes = Vec::new();
        writer::map_len(&mut bytes, pairs.len()).unwrap();
        for (key, value) in pairs {
            writer::str(&mut bytes, key).unwrap();
            write_value(&mut bytes, value, 1).unwrap();
        }
        let map_bytes = bytes.len();
        bytes.push(0xc0);
        bytes.reserve_exact(spare);
        let mut bytes = Bytes::from(bytes);
        bytes.truncate(map_bytes);
        ScannedBytes::whole(bytes, &ScanLimits::trusted()).unwrap()
    }

    fn large(byte: u8, length: usize) -> Value {
        Value::Binary((0..length).map(|n| byte ^ n as u8).collect())
    }

    #[test]
    fn a_byte_string_that_is_most_of_a_payload_keeps_its_buffer() {
        for spare in [0, 1 << 20] {
            let pairs = [("a", 1.into()), ("large", large(7, 300_000)), ("b", "text".into())];
            let payload = arrived(&pairs, spare);
            let (buffer, shared) = (payload.as_bytes().as_ptr(), payload.clone());
            let copied = decode_map_from(shared).unwrap();
            assert_ne!(copied["large"].as_slice().unwrap().as_ptr(), buffer, "somebody else had it, too");
            let moved = decode_map_from(payload).unwrap();
            assert_eq!(moved["large"].as_slice().unwrap().as_ptr(), buffer);
            let Value::Binary(body) = &moved["large"] else { panic!("no byte string") };
            assert!(body.capacity() <= body.len() + SPARE_BYTES_MAX, "{} bytes", body.capacity());
            let pairs = pairs.map(|(key, value)| (key.to_owned(), value));
            assert_eq!(moved, pairs.into());
            assert_eq!(copied, moved);
        }
    }

    #[test]
    fn whatever_the_order_and_the_sizes_it_is_the_same_map() {
        let (small, less, most) = (large(1, 50_000), large(2, 65_536), large(3, 100_000));
        let values = [Value::Nil, small, less, most];
        for first in &values {
            for second in &values {
                for keys in [["k", "l"], ["k", "k"]] {
                    let pairs = [(keys[0], first.clone()), (keys[1], second.clone())];
                    let payload = arrived(&pairs, 0);
                    assert_eq!(decode_map(payload.as_scanned()), decode_map_from(payload.clone()));
                    assert_eq!(decode_map_from(payload).unwrap()[keys[1]], *second);
                }
            }
        }
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(
            payload(&[0x82, 0xa1, b'k', 1, 0xa1, b'k', 2]),
            Ok(HashMap::from([("k".into(), 2.into())]))
        );
    }
}
