//! Frames: the header, and frames taken off a stream as it arrives.

use std::task::Poll;

use btlightning::fuzzing::{Arrival, FrameReadError, Frames};
use btlightning_proto::wire::{
    FRAME_HEADER_BYTES, FrameError, FrameHeader, FrameWriter, MessageType, parse_frame_header,
};
use bytes::Bytes;

use crate::heap::peak_of;

/// A limit (four bytes, little endian), then what should be a frame.
pub fn frame(data: &[u8]) {
    let Some((limit, bytes)) = data.split_first_chunk() else { return };
    let payload_bytes_max = u32::from_le_bytes(*limit) as usize;
    let parsed = parse_frame_header(bytes, payload_bytes_max);
    match expected(bytes, payload_bytes_max) {
        Expected::Frame { kind, payload } => {
            assert_eq!(parsed.expect("a frame within the limit"), (kind, payload));
            let frame = &bytes[..FRAME_HEADER_BYTES + payload.len()];
            let header =
                FrameHeader { kind, payload_bytes: payload.len().try_into().expect("it was 32 bits") };
            assert_eq!(header.to_bytes(), frame[..FRAME_HEADER_BYTES]);
            let mut writer = FrameWriter::begin(kind);
            writer.payload_mut().extend_from_slice(payload);
            assert_eq!(writer.finish(payload_bytes_max).as_deref(), Ok(frame));
            if let Some(less) = payload.len().checked_sub(1) {
                assert!(parse_frame_header(frame, less).is_err(), "over the limit by one byte");
                assert!(
                    parse_frame_header(&frame[..frame.len() - 1], payload_bytes_max).is_err(),
                    "cut short"
                );
            }
        }
        Expected::Refused(_) | Expected::Truncated => assert!(parsed.is_err()),
    }
}

/// A limit (three bytes), how it is read (one), how it arrives (a count, and so many bytes), and what arrives.
pub fn frame_reader(data: &[u8]) {
    let Some((&[a, b, c, how, pieces], rest)) = data.split_first_chunk() else { return };
    let payload_bytes_max = u32::from_le_bytes([a, b, c, 0]) as usize;
    let Some((cuts, wire)) = rest.split_at_checked(pieces.into()) else { return };
    let is_reset = how & 1 != 0;
    let in_two_steps = how & 2 != 0;

    let arrivals = arrivals(wire, cuts, is_reset);
    let waits = arrivals.iter().filter(|arrival| matches!(arrival, Arrival::NothingYet)).count();
    let (read, peak) = peak_of(|| {
        let mut frames = Frames::new(arrivals);
        let mut read = Vec::new();
        let mut waited = 0;
        let end = loop {
            // What waits is dropped and asked again: every read is cancel-safe.
            match frames.poll_next(payload_bytes_max, in_two_steps) {
                Poll::Ready(Ok(Some(frame))) => read.push(frame),
                Poll::Ready(Ok(None)) => break Ok(()),
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => waited += 1,
            }
            assert!(waited <= waits, "it waits for what has arrived");
        };
        (read, end)
    });
    assert!(
        peak <= FIRST_RESERVATION_BYTES + 32 * wire.len() + OTHER_BYTES,
        "{peak} bytes for {}",
        wire.len()
    );
    check(wire, payload_bytes_max, is_reset, read);
}

/// What a reader sets aside for a payload before more of it has arrived.
const FIRST_RESERVATION_BYTES: usize = (1024 + 64) * 1024;

/// The list of frames that were read, the pieces that wait.
const OTHER_BYTES: usize = 16 * 1024;

type Read = (Vec<(MessageType, Bytes)>, Result<(), FrameReadError>);

/// What was read must be what the bytes say, however they arrived.
fn check(mut wire: &[u8], payload_bytes_max: usize, is_reset: bool, (frames, end): Read) {
    for (kind, payload) in frames {
        match expected(wire, payload_bytes_max) {
            Expected::Frame { kind: same, payload: bytes } => {
                assert_eq!((kind, &payload[..]), (same, bytes));
                wire = &wire[FRAME_HEADER_BYTES + bytes.len()..];
            }
            _ => panic!("a frame that is not there"),
        }
    }
    match (end, expected(wire, payload_bytes_max)) {
        (Err(FrameReadError::Frame(error)), Expected::Refused(same)) => assert_eq!(error, same),
        (Err(FrameReadError::Read(_)), Expected::Truncated) if is_reset => {}
        (Err(FrameReadError::Truncated), Expected::Truncated) if !is_reset && !wire.is_empty() => {}
        (Ok(()), Expected::Truncated) if !is_reset && wire.is_empty() => {}
        (end, _) => panic!("the stream ended with {end:?}"),
    }
}

enum Expected<'a> {
    Frame { kind: MessageType, payload: &'a [u8] },
    Refused(FrameError),
    Truncated,
}

/// What the bytes begin with, read the simplest way.
fn expected(bytes: &[u8], payload_bytes_max: usize) -> Expected<'_> {
    let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk() else { return Expected::Truncated };
    let kind = match kind {
        1 => MessageType::HandshakeRequest,
        2 => MessageType::HandshakeResponse,
        3 => MessageType::SynapsePacket,
        4 => MessageType::SynapseResponse,
        5 => MessageType::StreamChunk,
        6 => MessageType::StreamEnd,
        unknown => return Expected::Refused(FrameError::UnknownType(unknown)),
    };
    let payload_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    if payload_bytes > payload_bytes_max {
        return Expected::Refused(FrameError::TooLarge { payload_bytes, payload_bytes_max });
    }
    match rest.get(..payload_bytes) {
        Some(payload) => Expected::Frame { kind, payload },
        None => Expected::Truncated,
    }
}

/// Cuts the wire up: a zero is a time when nothing is there, any other number the length of a piece. What is left after
/// the last cut arrives as one piece.
fn arrivals(wire: &[u8], cuts: &[u8], is_reset: bool) -> Vec<Arrival> {
    let mut rest = Bytes::copy_from_slice(wire);
    let mut arrivals = Vec::new();
    for &cut in cuts {
        match cut {
            0 => arrivals.push(Arrival::NothingYet),
            _ if rest.is_empty() => {}
            length => arrivals.push(Arrival::Piece(rest.split_to(rest.len().min(length.into())))),
        }
    }
    if !rest.is_empty() {
        arrivals.push(Arrival::Piece(rest));
    }
    if is_reset {
        arrivals.push(Arrival::Reset);
    }
    arrivals
}
