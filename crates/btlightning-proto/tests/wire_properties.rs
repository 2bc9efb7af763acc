//! What holds for all values, and for all bytes.

use std::collections::HashMap;
use std::mem::size_of;

use btlightning_proto::wire::{
    self, FRAME_HEADER_BYTES, HandshakeRequest, HandshakeResponse, NESTING_MAX, RequestEnvelope,
    ResponseEnvelope, ScanLimits, Scanned, StreamEnd, SynapsePacket, SynapseResponse,
};
use bytes::Bytes;
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use rmpv::Value;

const TRUSTED: ScanLimits = ScanLimits::trusted();

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        (-1e30_f32..1e30).prop_map(Value::F32),
        (-1e300_f64..1e300).prop_map(Value::F64),
        "\\PC{0,9}".prop_map(Value::from),
        (30_usize..34).prop_map(|length| Value::from("x".repeat(length))),
        vec(any::<u8>(), 0..40).prop_map(Value::Binary),
        (250_usize..260).prop_map(|length| Value::Binary(vec![7; length])),
        (any::<i8>(), vec(any::<u8>(), 0..40)).prop_map(|(tag, bytes)| Value::Ext(tag, bytes)),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..18).prop_map(Value::Array),
            vec((inner.clone(), inner), 0..18).prop_map(Value::Map),
        ]
    })
}

fn map() -> impl Strategy<Value = HashMap<String, Value>> {
    hash_map("\\PC{0,6}", value(), 0..4)
}

/// Bytes that look like MessagePack more often than chance would have it.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let markers = prop_oneof![any::<u8>(), 0x80_u8..=0x9f, 0xc0_u8..=0xdf, Just(0)];
    prop_oneof![
        vec(markers, 0..60),
        (value(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(value, at, byte)| {
            let mut bytes = encoded(&value);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        })
    ]
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    wire::encode_value(value, &mut out).expect("not too deep");
    out
}

fn encoded_map(map: &HashMap<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    wire::encode_map(map, &mut out).expect("not too deep");
    out
}

/// The memory that a value takes on the heap, by the capacity of its vectors.
fn heap_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.as_bytes().len(),
        Value::Binary(bytes) | Value::Ext(_, bytes) => bytes.capacity(),
        Value::Array(elements) => {
            elements.capacity() * size_of::<Value>() + elements.iter().map(heap_of).sum::<usize>()
        }
        Value::Map(pairs) => {
            pairs.capacity() * 2 * size_of::<Value>()
                + pairs.iter().map(|(key, value)| heap_of(key) + heap_of(value)).sum::<usize>()
        }
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_come_back(value in value()) {
        let bytes = encoded(&value);
        prop_assert_eq!(wire::decode_value(Scanned::whole(&bytes, &TRUSTED).expect("ours")), Ok(value.clone()));
        let mut theirs = Vec::new();
        rmpv::encode::write_value(&mut theirs, &value).expect("encodes");
        prop_assert_eq!(bytes, theirs);
    }

    #[test]
    fn maps_come_back_by_either_decoder(map in map()) {
        let bytes = encoded_map(&map);
        let scanned = Scanned::whole(&bytes, &TRUSTED).expect("ours");
        prop_assert_eq!(wire::decode_map(scanned), Ok(map.clone()));
        prop_assert_eq!(wire::from_payload::<HashMap<String, Value>>(scanned), Ok(map.clone()));
        let mut typed = Vec::new();
        wire::to_payload(&map, &mut typed).expect("a map");
        prop_assert_eq!(bytes, typed);
    }

    #[test]
    fn decoding_takes_no_more_memory_than_the_scan_said(map in map(), value in value()) {
        let bytes = encoded(&value);
        let memory = wire::scan(&bytes, &TRUSTED).expect("ours").memory_bytes;
        let decoded = wire::decode_value(Scanned::whole(&bytes, &TRUSTED).expect("ours")).expect("scanned");
        prop_assert!(size_of::<Value>() + heap_of(&decoded) <= memory);

        let bytes = encoded_map(&map);
        let memory = wire::scan(&bytes, &TRUSTED).expect("ours").memory_bytes;
        let decoded = wire::decode_map(Scanned::whole(&bytes, &TRUSTED).expect("ours")).expect("scanned");
        let places = if decoded.is_empty() { 0 } else { (decoded.len() * 8).div_ceil(7).next_power_of_two().max(4) };
        // Each place has a control byte, and the table one group of them more.
        let table = places * (size_of::<(String, Value)>() + 1) + 16;
        let heap: usize = decoded.iter().map(|(key, value)| key.len() + heap_of(value)).sum();
        prop_assert!(table + heap <= memory, "{table} + {heap} > {memory}");
    }

    #[test]
    fn the_memory_limit_is_the_memory_estimate(value in value()) {
        let bytes = encoded(&value);
        let memory_bytes_max = wire::scan(&bytes, &TRUSTED).expect("ours").memory_bytes;
        let within = |memory_bytes_max| wire::scan(&bytes, &ScanLimits { memory_bytes_max, ..TRUSTED }).is_ok();
        prop_assert!(within(memory_bytes_max));
        // A value without a heap is not worth a check.
        prop_assert!(memory_bytes_max == size_of::<Value>() || !within(memory_bytes_max - 1));
    }

    #[test]
    fn the_scan_agrees_with_rmpv(bytes in bytes()) {
        let scanned = wire::scan(&bytes, &TRUSTED);
        let mut rest = &bytes[..];
        let theirs = rmpv::decode::read_value_with_max_depth(&mut rest, 1_000);
        match scanned {
            Ok(extent) => {
                prop_assert!(theirs.is_ok());
                prop_assert_eq!(extent.bytes, bytes.len() - rest.len());
                let ours = wire::decode_value(Scanned::first(&bytes, &TRUSTED).expect("scanned").0);
                // The serde form, because a string that is not UTF-8 is a byte string in it, as it is in ours.
                let theirs: Value = rmp_serde::from_slice(&bytes).expect("well formed");
                prop_assert_eq!(ours.expect("scanned").to_string(), theirs.to_string());
            }
            // rmpv takes the marker without a meaning for nil.
            Err(wire::DecodeError::ReservedMarker) => {}
            Err(error) => prop_assert!(theirs.is_err(), "{}", error),
        }
    }

    #[test]
    fn no_bytes_panic(bytes in bytes()) {
        let limits = ScanLimits::for_payload(bytes.len());
        if let Ok((scanned, _)) = Scanned::first(&bytes, &limits) {
            let _ = wire::decode_value(scanned);
            let _ = wire::decode_map(scanned);
            let _ = wire::from_payload::<Anything>(scanned);
            let _ = wire::from_payload::<HashMap<String, Vec<Option<Shape>>>>(scanned);
            let _ = wire::from_payload::<Shape>(scanned);
        }
        let shared = Bytes::from(bytes.clone());
        let _ = RequestEnvelope::parse(&shared, &limits);
        let _ = ResponseEnvelope::parse(&shared, &limits);
        let _ = wire::parse_stream_chunk(&shared);
        let _ = HandshakeRequest::decode(&bytes);
        let _ = HandshakeResponse::decode(&bytes);
        let _ = StreamEnd::decode(&bytes);
        let _ = wire::parse_frame_header(&bytes, 40);
    }

    #[test]
    fn a_value_cut_short_is_never_whole(value in value()) {
        let bytes = encoded(&value);
        for cut in 0..bytes.len() {
            prop_assert_eq!(wire::scan(&bytes[..cut], &TRUSTED), Err(wire::DecodeError::Truncated));
        }
    }

    #[test]
    fn requests_come_back(name in "\\PC{0,40}", data in map(), timestamp: u64) {
        let frame = wire::encode_packet_frame(&name, timestamp, usize::MAX, |out| wire::encode_map(&data, out))
            .expect("no limit");
        let payload = Bytes::copy_from_slice(&frame[FRAME_HEADER_BYTES..]);
        let envelope = RequestEnvelope::parse(&payload, &TRUSTED).expect("ours");
        prop_assert_eq!((envelope.synapse_type(), envelope.timestamp()), (&name[..], timestamp));
        prop_assert_eq!(wire::decode_map(envelope.data()), Ok(data.clone()));
        prop_assert_eq!(&rmp_serde::from_slice::<SynapsePacket>(&payload).expect("ours").data, &data);
        if data.len() < 2 {
            let packet = SynapsePacket { synapse_type: name, data, timestamp };
            prop_assert_eq!(rmp_serde::to_vec(&packet).expect("encodes"), payload.to_vec());
        }
        for cut in 0..payload.len() {
            prop_assert!(RequestEnvelope::parse(&payload.slice(..cut), &TRUSTED).is_err());
        }
    }

    #[test]
    fn answers_come_back(data in map(), timestamp: u64, error in "\\PC{0,40}") {
        let frame = wire::encode_response_frame(timestamp, usize::MAX, |out| wire::encode_map(&data, out))
            .expect("no limit");
        let payload = Bytes::copy_from_slice(&frame[FRAME_HEADER_BYTES..]);
        let envelope = ResponseEnvelope::parse(&payload, &TRUSTED).expect("ours");
        prop_assert_eq!((envelope.success(), envelope.timestamp(), envelope.error()), (true, timestamp, None));
        prop_assert_eq!(wire::decode_map(envelope.data()), Ok(data.clone()));
        if data.len() < 2 {
            let response = SynapseResponse { success: true, data, timestamp, error: None };
            prop_assert_eq!(rmp_serde::to_vec(&response).expect("encodes"), payload.to_vec());
        }

        let frame = wire::encode_error_response_frame(&error, timestamp, usize::MAX).expect("no limit");
        let payload = Bytes::copy_from_slice(&frame[FRAME_HEADER_BYTES..]);
        let envelope = ResponseEnvelope::parse(&payload, &TRUSTED).expect("ours");
        prop_assert_eq!((envelope.success(), envelope.timestamp()), (false, timestamp));
        prop_assert_eq!(envelope.error(), Some(&error[..]));
        let response = SynapseResponse { success: false, data: HashMap::new(), timestamp, error: Some(error) };
        prop_assert_eq!(rmp_serde::to_vec(&response).expect("encodes"), payload.to_vec());
        for cut in 0..payload.len() {
            prop_assert!(ResponseEnvelope::parse(&payload.slice(..cut), &TRUSTED).is_err());
        }
    }

    #[test]
    fn handshakes_come_back(
        text in ("\\PC{0,40}", "\\PC{0,40}", "\\PC{0,40}"), timestamp: u64, accepted: bool, fingerprint: Option<u64>,
    ) {
        let request = HandshakeRequest {
            validator_hotkey: text.0.clone(), timestamp, nonce: text.1.clone(), signature: text.2.clone(),
        };
        let frame = wire::encode_frame(&request, usize::MAX).expect("no limit");
        prop_assert_eq!(HandshakeRequest::decode(&frame[FRAME_HEADER_BYTES..]), Ok(request));
        let response = HandshakeResponse {
            miner_hotkey: text.0, timestamp, signature: text.1, accepted, connection_id: text.2,
            cert_fingerprint: fingerprint.map(|n| n.to_string()),
        };
        let frame = wire::encode_frame(&response, usize::MAX).expect("no limit");
        prop_assert_eq!(HandshakeResponse::decode(&frame[FRAME_HEADER_BYTES..]), Ok(response));
    }
}

/// A type that uses most of what a deserializer can be asked.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum Anything {
    Shape(Shape),
    Map(HashMap<u32, Shape>),
    Rest(Value),
}

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code)]
enum Shape {
    Unit,
    Newtype(Box<Shape>),
    Tuple(i8, Option<String>),
    Struct { bytes: Vec<u8>, value: Value },
}

#[test]
fn no_depth_reaches_the_stack() {
    std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(|| {
            for marker in [&[0x91][..], &[0x81, 0xc0], &[0x81], &[0xdc, 0, 1], &[0xdd, 0, 0, 0, 1]] {
                for levels in [NESTING_MAX, NESTING_MAX + 1, 1_000_000] {
                    let bytes = [marker.repeat(levels), vec![0xc0; levels + 1]].concat();
                    let limits = ScanLimits::for_payload(bytes.len());
                    match Scanned::first(&bytes, &limits) {
                        Ok((scanned, _)) => {
                            assert_eq!(levels, NESTING_MAX);
                            wire::decode_value(scanned).expect("scanned");
                        }
                        Err(error) => {
                            assert_eq!(error, wire::DecodeError::TooDeep { nesting_max: NESTING_MAX });
                        }
                    }
                }
            }
        })
        .expect("a thread")
        .join()
        .expect("no overflow");
}
