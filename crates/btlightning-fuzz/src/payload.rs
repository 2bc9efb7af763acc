//! Hostile MessagePack: the scan, and what may be decoded after it, dynamically and into types.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use btlightning_proto::wire::{
    DecodeError, EncodeError, Head, NESTING_MAX, Reader, ScanLimits, Scanned, decode_map, decode_value,
    encode_map, encode_value, from_payload, scan as scan_value, to_payload,
};
use rmpv::Value;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::heap::{SLACK_BYTES, peak_of};

/// Arrays and maps that are open stand in a vector while a value is decoded; the scan does not charge it. It doubles from
/// four places on, and the old one is there while the new one is filled.
pub(crate) fn open_bytes(depth: usize) -> usize {
    const PLACE_BYTES: usize = 96;
    if depth == 0 { 0 } else { depth.next_power_of_two().max(4) * PLACE_BYTES * 3 / 2 }
}

const TRUSTED: ScanLimits = ScanLimits::trusted();

/// The limit of nesting, that of memory in units of 16 bytes (two; both zero for a peer's limits), and MessagePack.
pub fn scan(data: &[u8]) {
    let Some((&[nesting, low, high], bytes)) = data.split_first_chunk() else { return };
    let limits = match u16::from_le_bytes([low, high]) {
        0 => ScanLimits { nesting_max: nesting.into(), ..ScanLimits::for_payload(bytes.len()) },
        units => ScanLimits { nesting_max: nesting.into(), memory_bytes_max: 16 * usize::from(units) },
    };
    let (scanned, heap_bytes) = peak_of(|| scan_value(bytes, &limits));
    assert_eq!(heap_bytes, 0, "a scan takes no heap");

    let mut rest = bytes;
    // It counts an array twice: as a value, and for what is in it.
    let theirs = rmpv::decode::read_value_with_max_depth(&mut rest, 4 * NESTING_MAX);
    let extent = match scanned {
        Ok(extent) => extent,
        Err(DecodeError::Truncated) => {
            assert!(theirs.is_err(), "cut short, and read as {theirs:?}");
            return;
        }
        Err(DecodeError::TooDeep { nesting_max }) => {
            assert_eq!(nesting_max, limits.nesting_max.min(NESTING_MAX));
            assert!(theirs.is_err() || depth_of(&theirs.expect("it was")) > nesting_max);
            return;
        }
        Err(DecodeError::TooMuchMemory { memory_bytes_max }) => {
            assert_eq!(memory_bytes_max, limits.memory_bytes_max);
            let all = ScanLimits { nesting_max: limits.nesting_max, ..TRUSTED };
            assert!(scan_value(bytes, &all).map_or(true, |extent| extent.memory_bytes > memory_bytes_max));
            return;
        }
        Err(DecodeError::ReservedMarker) => return,
        Err(error) => panic!("a scan does not look for that: {error}"),
    };
    assert!(theirs.is_ok(), "scanned, and read as {theirs:?}");
    assert_eq!(extent.bytes, bytes.len() - rest.len());
    assert!(extent.memory_bytes <= limits.memory_bytes_max.max(size_of::<Value>()));

    let value = &bytes[..extent.bytes];
    assert_eq!(scan_value(value, &TRUSTED), Ok(extent), "what follows is not looked at");
    let cut = &value[..value.len() - 1];
    assert_eq!(scan_value(cut, &TRUSTED), Err(DecodeError::Truncated));
    decode(value, extent.memory_bytes, limits.nesting_max);
}

fn decode(bytes: &[u8], memory_bytes: usize, nesting_max: usize) {
    let scanned = Scanned::whole(bytes, &TRUSTED).expect("it was scanned");
    let (value, heap_bytes) = peak_of(|| decode_value(scanned).expect("it was scanned"));
    let depth = depth_of(&value);
    let bytes_max = memory_bytes + open_bytes(depth);
    assert!(heap_bytes <= bytes_max, "{heap_bytes} bytes, and the scan said {memory_bytes}");
    assert!(depth <= nesting_max);

    let (ignored, heap_bytes) = peak_of(|| from_payload::<IgnoredAny>(scanned));
    assert!(ignored.is_ok() && heap_bytes == 0);

    let mut again = Vec::new();
    encode_value(&value, &mut again).expect("no deeper than it was");
    let same = decode_value(Scanned::whole(&again, &TRUSTED).expect("ours")).expect("scanned");
    assert_eq!(value.to_string(), same.to_string());

    let (map, heap_bytes) = peak_of(|| decode_map(scanned));
    assert!(heap_bytes <= bytes_max, "{heap_bytes} bytes, and the scan said {memory_bytes}");
    let typed = from_payload::<BTreeMap<String, Value>>(scanned);
    assert_eq!(map.is_ok(), typed.is_ok(), "{map:?} {typed:?}");
    if let (Ok(map), Ok(typed)) = (map, typed) {
        assert_eq!(sorted(map), format!("{typed:?}"));
    }
}

/// MessagePack, which some peer says is of our types.
pub fn typed(data: &[u8]) {
    // An envelope lets nothing else through.
    let Ok(Head::Map(_)) = Reader::new(data).head() else { return };
    let Ok(scanned) = Scanned::whole(data, &ScanLimits::for_payload(data.len())) else { return };
    comes_back_by_either::<Request>(scanned);
    comes_back_by_either::<BTreeMap<String, Shape>>(scanned);
    comes_back_by_either::<Tagged>(scanned);
    comes_back_by_either::<Shape>(scanned);
    // `1` and `+1` are one key to the type, and two to the dynamic decoder.
    comes_back::<BTreeMap<i16, Option<Vec<(u8, char)>>>>(scanned);
    // Not decoded twice: a unit variant in an untagged type comes back as a number.
    let _ = from_payload::<Untagged>(scanned);

    let (numbers, heap_bytes) = peak_of(|| from_payload::<Numbers<'_>>(scanned));
    assert!(
        heap_bytes <= 24 * data.len() + SLACK_BYTES,
        "{heap_bytes} bytes for {}: {numbers:?}",
        data.len()
    );
}

/// Whatever a type takes out of a payload, it takes again out of what it writes.
fn comes_back<T: DeserializeOwned + Serialize + Debug>(scanned: Scanned<'_>) -> Option<T> {
    let value = from_payload::<T>(scanned).ok()?;
    let mut written = Vec::new();
    match to_payload(&value, &mut written) {
        // A variant without content, which was read out of a map, is written as a number.
        Err(EncodeError::NotAMap) => return Some(value),
        done => done.expect("no deeper than it was"),
    }
    let again = from_payload::<T>(Scanned::whole(&written, &TRUSTED).expect("ours")).expect("ours");
    assert_eq!(format!("{value:?}"), format!("{again:?}"));
    Some(value)
}

/// The same, and what it takes out of what the dynamic decoder makes of the payload.
fn comes_back_by_either<T: DeserializeOwned + Serialize + Debug>(scanned: Scanned<'_>) {
    let Some(value) = comes_back::<T>(scanned) else { return };
    let Ok(map) = decode_map(scanned) else { return };
    let mut written = Vec::new();
    encode_map(&map, &mut written).expect("no deeper than it was");
    let again = from_payload::<T>(Scanned::whole(&written, &TRUSTED).expect("ours"));
    assert_eq!(format!("{value:?}"), format!("{:?}", again.expect("the same for either decoder")));
}

/// How many arrays and maps are in each other.
pub(crate) fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth_of).max().unwrap_or(0),
        Value::Map(pairs) => {
            1 + pairs.iter().map(|(key, value)| depth_of(key).max(depth_of(value))).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// The map as a text that tells apart what is different, and takes one NaN for another.
pub(crate) fn sorted(map: HashMap<String, Value>) -> String {
    format!("{:?}", map.into_iter().collect::<BTreeMap<_, _>>())
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    count: u64,
    #[serde(default)]
    offset: i32,
    #[serde(default)]
    blob: ByteBuf,
    #[serde(default)]
    weights: Vec<f32>,
    #[serde(default)]
    scale: Option<f64>,
    #[serde(default)]
    shapes: BTreeMap<String, Shape>,
    #[serde(default)]
    pair: (bool, i8),
    #[serde(default)]
    more: Option<Box<Request>>,
    #[serde(default = "nil")]
    any: Value,
}

fn nil() -> Value {
    Value::Nil
}

#[derive(Debug, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(Box<Shape>),
    Tuple(i8, Option<String>),
    Struct { bytes: Vec<u8>, value: Value },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Empty,
    Words { words: Vec<String> },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "decoded for the sake of it")]
enum Untagged {
    Shape(Shape),
    Map(BTreeMap<u32, Shape>),
    Rest(Value),
}

/// A type of which no value takes more than a number on the wire does, eight times over.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "decoded for the sake of it")]
struct Numbers<'a> {
    #[serde(default)]
    numbers: Vec<u64>,
    #[serde(default, borrow)]
    name: &'a str,
    #[serde(default)]
    texts: String,
}
