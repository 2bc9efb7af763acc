//! The six messages, each out of a payload as it stands in its frame.

use std::collections::BTreeMap;
use std::fmt::Debug;

use btlightning_proto::wire::{
    DecodeError, FRAME_HEADER_BYTES, HandshakeRequest, HandshakeResponse, Message, QuicResponse,
    RequestEnvelope, ResponseEnvelope, SYNAPSE_TYPE_BYTES_MAX, ScanLimits, StreamChunk, StreamEnd,
    SynapsePacket, SynapseResponse, decode_map, encode_error_response_frame, encode_frame, encode_map,
    encode_packet_frame, encode_response_frame, parse_frame_header, parse_stream_chunk,
    write_stream_chunk_header,
};
use bytes::Bytes;
use rmpv::Value;
use serde::de::DeserializeOwned;

use crate::heap::{SLACK_BYTES, peak_of};
use crate::payload::sorted;

/// The kind of a message, as its frame says it, and its payload.
pub fn message(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else { return };
    match kind % 6 + 1 {
        1 => small(payload, HandshakeRequest::decode),
        2 => small(payload, HandshakeResponse::decode),
        3 => request(&Bytes::copy_from_slice(payload)),
        4 => response(&Bytes::copy_from_slice(payload)),
        5 => chunk(&Bytes::copy_from_slice(payload)),
        _ => small(payload, StreamEnd::decode),
    }
}

fn small<M>(payload: &[u8], decode: fn(&[u8]) -> Result<M, DecodeError>)
where
    M: Message + DeserializeOwned + PartialEq + Debug,
{
    let (decoded, heap_bytes) = peak_of(|| decode(payload));
    assert!(heap_bytes <= payload.len(), "{heap_bytes} bytes for {}", payload.len());
    let Ok(message) = decoded else { return };
    let theirs: M = rmp_serde::from_slice(payload).expect("rmp-serde reads whatever we read");
    assert_eq!(theirs, message);

    let frame = encode_frame(&message, usize::MAX).expect("no limit");
    let (kind, again) = parse_frame_header(&frame, usize::MAX).expect("ours");
    assert_eq!(kind, M::KIND);
    assert_eq!(decode(again).as_ref(), Ok(&message));
    assert!(encode_frame(&message, again.len() - 1).is_err(), "the limit is looked at");

    assert_eq!(decode(&[payload, &[0xc0]].concat()), Err(DecodeError::Trailing { bytes: 1 }));
    assert!(decode(&payload[..payload.len() - 1]).is_err(), "cut short");
}

fn request(payload: &Bytes) {
    let limits = ScanLimits::for_payload(payload.len());
    let (parsed, heap_bytes) = peak_of(|| RequestEnvelope::parse(payload, &limits));
    assert!(heap_bytes <= SLACK_BYTES, "{heap_bytes} bytes: nothing is copied");
    let Ok(envelope) = parsed else { return };
    let name = envelope.synapse_type();
    assert!(name.len() <= SYNAPSE_TYPE_BYTES_MAX);
    assert!(RequestEnvelope::parse(&payload.slice(..payload.len() - 1), &limits).is_err(), "cut short");
    let Ok(map) = decode_map(envelope.data()) else { return };

    let encode = |max| encode_packet_frame(name, envelope.timestamp(), max, |out| encode_map(&map, out));
    let frame = encode(usize::MAX).expect("no limit");
    let again = Bytes::from(frame).slice(FRAME_HEADER_BYTES..);
    assert!(encode(again.len() - 1).is_err(), "the limit is looked at");
    let same = RequestEnvelope::parse(&again, &ScanLimits::trusted()).expect("ours");
    assert_eq!((same.synapse_type(), same.timestamp()), (name, envelope.timestamp()));
    let original = sorted(map);
    assert_eq!(sorted(decode_map(same.data()).expect("ours")), original);

    let theirs: SynapsePacket = rmp_serde::from_slice(payload).expect("rmp-serde reads whatever we read");
    assert_eq!((&theirs.synapse_type[..], theirs.timestamp), (name, envelope.timestamp()));
    assert_eq!(sorted(theirs.data), original);
}

fn response(payload: &Bytes) {
    let limits = ScanLimits::for_payload(payload.len());
    let (parsed, heap_bytes) = peak_of(|| ResponseEnvelope::parse(payload, &limits));
    assert!(heap_bytes <= SLACK_BYTES, "{heap_bytes} bytes: nothing is copied");
    let Ok(envelope) = parsed else { return };
    assert!(ResponseEnvelope::parse(&payload.slice(..payload.len() - 1), &limits).is_err(), "cut short");
    let Ok(published) = QuicResponse::from_envelope(envelope.clone(), 1.5) else {
        assert!(decode_map(envelope.data()).is_err());
        return;
    };
    assert_eq!((published.success, published.error.as_deref()), (envelope.success(), envelope.error()));
    let original = sorted(published.data.clone());
    let typed: BTreeMap<String, Value> = published.deserialize_data().expect("any map is one of values");
    assert_eq!(format!("{typed:?}"), original);

    let theirs: SynapseResponse = rmp_serde::from_slice(payload).expect("rmp-serde reads whatever we read");
    assert_eq!((theirs.success, theirs.timestamp), (envelope.success(), envelope.timestamp()));
    assert_eq!((theirs.error.as_deref(), sorted(theirs.data)), (envelope.error(), original.clone()));

    let time = envelope.timestamp();
    let frame = match envelope.error() {
        Some(error) => encode_error_response_frame(error, time, usize::MAX),
        None => encode_response_frame(time, usize::MAX, |out| encode_map(&published.data, out)),
    };
    let again = Bytes::from(frame.expect("no limit")).slice(FRAME_HEADER_BYTES..);
    let same = ResponseEnvelope::parse(&again, &ScanLimits::trusted()).expect("ours");
    assert_eq!((same.error(), same.timestamp()), (envelope.error(), time));
    if same.error().is_none() {
        assert_eq!(sorted(decode_map(same.data()).expect("ours")), original);
    }
    let success = published.success;
    assert_eq!(published.into_result().is_ok(), success);
}

fn chunk(payload: &Bytes) {
    let (parsed, heap_bytes) = peak_of(|| parse_stream_chunk(payload));
    assert!(heap_bytes <= SLACK_BYTES, "{heap_bytes} bytes: nothing is copied");
    let Ok(data) = parsed else { return };
    assert!(data.is_empty() || payload.as_ptr_range().contains(&data.as_ptr()), "not a copy");
    let chunk = StreamChunk { data: data.to_vec() };
    assert_eq!(rmp_serde::from_slice::<StreamChunk>(payload).expect("theirs"), chunk);

    let frame = encode_frame(&chunk, usize::MAX).expect("no limit");
    let header = write_stream_chunk_header(data.len(), usize::MAX).expect("no limit");
    assert_eq!([header.as_ref(), &data].concat(), frame, "in two parts as whole");
    let again = Bytes::from(frame).slice(FRAME_HEADER_BYTES..);
    assert_eq!(parse_stream_chunk(&again), Ok(data.clone()));
    assert!(write_stream_chunk_header(data.len(), again.len() - 1).is_err(), "the limit is looked at");
    assert!(parse_stream_chunk(&payload.slice(..payload.len() - 1)).is_err(), "cut short");
}
