//! Encoding into a frame, and decoding out of one, as client and server do it.

use std::collections::HashMap;
use std::hint::black_box;

use btlightning_proto::wire::{
    DEFAULT_MAX_FRAME_PAYLOAD, EncodeError, FRAME_HEADER_BYTES, RequestEnvelope, ScanLimits, decode_map,
    encode_map, encode_packet_frame, from_payload, to_payload,
};
use bytes::Bytes;
use rmpv::Value;
use serde::Serialize;

use crate::Failure;
use crate::payload::{Batch, Query, dynamic, in_many_orders};

pub(crate) fn encode_dynamic_1k(runs: u64) -> Result<(), Failure> {
    encode_dynamic(&in_many_orders(&Query::new())?, runs)
}

pub(crate) fn encode_dynamic_100k(runs: u64) -> Result<(), Failure> {
    // One entry, which has one order.
    encode_dynamic(&[dynamic(&Batch::new())?], runs)
}

pub(crate) fn encode_typed_1k(runs: u64) -> Result<(), Failure> {
    encode_typed(&Query::new(), runs)
}

pub(crate) fn encode_typed_100k(runs: u64) -> Result<(), Failure> {
    encode_typed(&Batch::new(), runs)
}

pub(crate) fn decode_dynamic_1k(runs: u64) -> Result<(), Failure> {
    let payload = request(&Query::new())?;
    for _ in 0..runs {
        black_box(decode_map(scan(&payload)?.data())?);
    }
    Ok(())
}

pub(crate) fn decode_typed_1k(runs: u64) -> Result<(), Failure> {
    let payload = request(&Query::new())?;
    for _ in 0..runs {
        black_box(from_payload::<Query>(scan(&payload)?.data())?);
    }
    Ok(())
}

pub(crate) fn scan_100k(runs: u64) -> Result<(), Failure> {
    let payload = request(&Batch::new())?;
    for _ in 0..runs {
        black_box(scan(&payload)?);
    }
    Ok(())
}

fn encode_dynamic(maps: &[HashMap<String, Value>], runs: u64) -> Result<(), Failure> {
    for (_, map) in (0..runs).zip(maps.iter().cycle()) {
        black_box(frame(|out| encode_map(black_box(map), out))?);
    }
    Ok(())
}

fn encode_typed<T: Serialize>(typed: &T, runs: u64) -> Result<(), Failure> {
    for _ in 0..runs {
        black_box(frame(|out| to_payload(black_box(typed), out))?);
    }
    Ok(())
}

fn frame(write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) -> Result<Vec<u8>, EncodeError> {
    encode_packet_frame("query", 1_700_000_000, DEFAULT_MAX_FRAME_PAYLOAD, write_data)
}

/// The payload of a request's frame.
fn request<T: Serialize>(typed: &T) -> Result<Bytes, Failure> {
    Ok(Bytes::from(frame(|out| to_payload(typed, out))?).slice(FRAME_HEADER_BYTES..))
}

fn scan(payload: &Bytes) -> Result<RequestEnvelope, Failure> {
    Ok(RequestEnvelope::parse(black_box(payload), &ScanLimits::for_payload(payload.len()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_is_what_was_encoded() {
        let payload = request(&Query::new()).unwrap();
        let envelope = scan(&payload).unwrap();
        assert_eq!(from_payload::<Query>(envelope.data()).unwrap(), Query::new());
        assert_eq!(decode_map(envelope.data()).unwrap(), dynamic(&Query::new()).unwrap());
    }
}
