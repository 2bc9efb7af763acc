//! Values of our own, encoded by every way that leads to the wire.

use std::collections::HashMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use btlightning_proto::wire::{
    EncodeError, FRAME_HEADER_BYTES, NESTING_MAX, PayloadWriter, RequestEnvelope, ScanLimits, Scanned,
    ScannedBytes, decode_map, decode_map_from, encode_map, encode_packet_frame, encode_packet_pieces,
    from_payload, scan, to_payload,
};
use bytes::Bytes;
use rmpv::Value;

use crate::heap::peak_of;
use crate::payload::{depth_of, open_bytes, sorted};

const TRUSTED: ScanLimits = ScanLimits::trusted();

/// A map of values, in the form that `arbitrary` reads.
pub fn value(data: &[u8]) {
    let Ok(map) = map(&mut Unstructured::new(data)) else { return };
    let mut bytes = vec![7];
    let encoded = encode_map(&map, &mut bytes);
    if map.values().map(depth_of).max().is_some_and(|depth| depth >= NESTING_MAX) {
        assert_eq!(encoded, Err(EncodeError::TooDeep { nesting_max: NESTING_MAX }));
        assert_eq!(bytes, [7], "an error leaves the vector as it was");
        assert!(to_payload(&map, &mut bytes).is_err());
        return;
    }
    encoded.expect("not too deep");
    let bytes = &bytes[1..];
    comes_back(&map, bytes);
    every_way_is_the_same(&map, bytes);
}

fn comes_back(map: &HashMap<String, Value>, bytes: &[u8]) {
    let extent = scan(bytes, &TRUSTED).expect("ours");
    let scanned = Scanned::whole(bytes, &TRUSTED).expect("ours");
    let (decoded, heap_bytes) = peak_of(|| decode_map(scanned).expect("ours"));
    let depth = map.values().map(depth_of).max().unwrap_or(0);
    assert!(heap_bytes <= extent.memory_bytes + open_bytes(depth), "{heap_bytes} bytes, {extent:?}");
    let original = sorted(map.clone());
    assert_eq!(sorted(decoded), original);
    let arrived = ScannedBytes::whole(Bytes::copy_from_slice(bytes), &TRUSTED).expect("ours");
    let (decoded, heap_bytes) = peak_of(|| decode_map_from(arrived).expect("ours"));
    assert!(heap_bytes <= extent.memory_bytes + open_bytes(depth), "{heap_bytes} bytes, {extent:?}");
    assert_eq!(sorted(decoded), original);
    let typed: HashMap<String, Value> = from_payload(scanned).expect("ours");
    assert_eq!(sorted(typed), original);
}

fn every_way_is_the_same(map: &HashMap<String, Value>, bytes: &[u8]) {
    let mut typed = Vec::new();
    to_payload(map, &mut typed).expect("a map");
    assert_eq!(typed, bytes);
    let theirs = rmp_serde::to_vec(map).expect("a map");
    let mut reread = &theirs[..];
    assert!(rmpv::decode::read_value(&mut reread).is_ok() && reread.is_empty());

    let frame = encode_packet_frame("name", 7, usize::MAX, |out| encode_map(map, out)).expect("no limit");
    let pieces = encode_packet_pieces("name", 7, usize::MAX, |out| {
        out.map_len(map.len())?;
        for (key, value) in map {
            out.str(key)?;
            write(out, value)?;
        }
        Ok::<_, EncodeError>(())
    });
    assert_eq!(pieces.expect("no limit").concat(), frame);
    let moved = encode_packet_pieces("name", 7, usize::MAX, |out| out.map(map.clone()));
    let moved = Bytes::from(moved.expect("no limit").concat()).slice(FRAME_HEADER_BYTES..);
    let moved = RequestEnvelope::parse(&moved, &TRUSTED).expect("ours").into_data();
    assert_eq!(sorted(decode_map_from(moved).expect("ours")), sorted(map.clone()));
    let exactly = frame.len() - FRAME_HEADER_BYTES;
    assert!(encode_packet_frame("name", 7, exactly, |out| encode_map(map, out)).is_ok());
    assert!(encode_packet_frame("name", 7, exactly - 1, |out| encode_map(map, out)).is_err());

    let payload = Bytes::from(frame).slice(FRAME_HEADER_BYTES..);
    let envelope = RequestEnvelope::parse(&payload, &TRUSTED).expect("ours");
    assert_eq!((envelope.synapse_type(), envelope.timestamp()), ("name", 7));
    assert_eq!(envelope.data().as_bytes(), bytes);
}

fn write(out: &mut PayloadWriter, value: &Value) -> std::result::Result<(), EncodeError> {
    match value {
        Value::Nil => out.nil(),
        Value::Boolean(b) => out.boolean(*b),
        Value::Integer(n) => match n.as_u64() {
            Some(n) => out.uint(n),
            None => out.sint(n.as_i64().expect("it is negative")),
        },
        Value::F32(n) => out.f32(*n),
        Value::F64(n) => out.f64(*n),
        Value::String(text) => out.str(text.as_str().expect("made of a string"))?,
        Value::Binary(bytes) => out.bin_shared(bytes.clone().into())?,
        Value::Ext(tag, bytes) => out.ext(*tag, bytes)?,
        Value::Array(elements) => {
            out.array_len(elements.len())?;
            elements.iter().try_for_each(|element| write(out, element))?;
        }
        Value::Map(pairs) => {
            out.map_len(pairs.len())?;
            pairs.iter().try_for_each(|(key, value)| write(out, key).and_then(|()| write(out, value)))?;
        }
    }
    Ok(())
}

fn map(input: &mut Unstructured<'_>) -> Result<HashMap<String, Value>> {
    let mut map = HashMap::new();
    for _ in 0..input.int_in_range(0..=20)? {
        map.insert(String::arbitrary(input)?, any_value(input, 0)?);
    }
    Ok(map)
}

fn any_value(input: &mut Unstructured<'_>, nesting: usize) -> Result<Value> {
    Ok(match input.int_in_range(0..=13)? {
        0 => Value::Nil,
        1 => bool::arbitrary(input)?.into(),
        2 => u64::arbitrary(input)?.into(),
        3 => i64::arbitrary(input)?.into(),
        4 => i8::arbitrary(input)?.into(),
        5 => Value::F32(f32::arbitrary(input)?),
        6 => Value::F64(f64::arbitrary(input)?),
        7 => String::arbitrary(input)?.into(),
        8 => Value::Binary(Vec::arbitrary(input)?),
        // As long as a marker's range, or as what is not copied any more.
        9 => Value::Binary(vec![7; input.int_in_range(0..=70_000)?]),
        10 => Value::Ext(i8::arbitrary(input)?, Vec::arbitrary(input)?),
        // Deep, with few bytes.
        11 => (0..input.int_in_range(0..=NESTING_MAX + 2)?)
            .fold(Value::Nil, |inner, _| Value::Array(vec![inner])),
        _ if nesting > 6 => Value::Nil,
        12 => {
            let length = input.int_in_range(0..=20)?;
            Value::Array((0..length).map(|_| any_value(input, nesting + 1)).collect::<Result<_>>()?)
        }
        _ => {
            let length = input.int_in_range(0..=20)?;
            let pair = |_| Ok((any_value(input, nesting + 1)?, any_value(input, nesting + 1)?));
            Value::Map((0..length).map(pair).collect::<Result<_>>()?)
        }
    })
}
