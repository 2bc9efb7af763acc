//! The envelopes of requests and answers, read and written in place around their payload.
//!
//! A request is `[synapse_type, data, timestamp]`, an answer `[success, data, timestamp, error]`. Nothing else knows.

use bytes::Bytes;

use super::error::{DecodeError, EncodeError};
use super::frame::{FrameWriter, MessageType};
use super::reader::{Head, Reader};
use super::scan::{ScanLimits, Scanned, ScannedBytes};
use super::writer;

/// The longest name of a handler, in bytes.
pub const SYNAPSE_TYPE_BYTES_MAX: usize = 64 * 1024;

/// A request whose data is scanned and not decoded. Shares the buffer it arrived in.
#[derive(Debug, Clone)]
pub struct RequestEnvelope {
    /// Checked to be UTF-8.
    synapse_type: Bytes,
    data: ScannedBytes,
    timestamp: u64,
}

impl RequestEnvelope {
    /// Reads a request that takes up the whole payload. Decodes and copies nothing.
    ///
    /// # Errors
    /// A [`DecodeError`] for anything else, and for data beyond the limits. That the keys of the data are strings is
    /// seen only when it is decoded.
    pub fn parse(payload: &Bytes, limits: &ScanLimits) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        if reader.array_head(REQUEST)? != 3 {
            return Err(DecodeError::Unexpected { expected: REQUEST });
        }
        let synapse_type = text_in(payload, reader.text("a synapse type")?)?;
        let data = map_in(payload, &mut reader, limits)?;
        let timestamp = reader.uint("a timestamp")?;
        reader.finish()?;
        Ok(Self { synapse_type, data, timestamp })
    }

    /// The name of the handler. At most [`SYNAPSE_TYPE_BYTES_MAX`] long.
    pub fn synapse_type(&self) -> &str {
        checked(&self.synapse_type)
    }

    /// What the handler is asked: a map.
    pub fn data(&self) -> Scanned<'_> {
        self.data.as_scanned()
    }

    /// The data for a task that outlives the envelope.
    pub fn into_data(self) -> ScannedBytes {
        self.data
    }

    /// When the peer says it sent the request, in seconds since the Unix epoch.
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }
}

/// An answer whose data is scanned and not decoded. Shares the buffer it arrived in.
#[derive(Debug, Clone)]
pub struct ResponseEnvelope {
    success: bool,
    data: ScannedBytes,
    timestamp: u64,
    /// Checked to be UTF-8.
    error: Option<Bytes>,
}

impl ResponseEnvelope {
    /// Reads an answer that takes up the whole payload. Decodes and copies nothing.
    ///
    /// # Errors
    /// As [`RequestEnvelope::parse`].
    pub fn parse(payload: &Bytes, limits: &ScanLimits) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        if reader.array_head(RESPONSE)? != 4 {
            return Err(DecodeError::Unexpected { expected: RESPONSE });
        }
        let success = reader.boolean("whether the request succeeded")?;
        let data = map_in(payload, &mut reader, limits)?;
        let timestamp = reader.uint("a timestamp")?;
        let error = reader.text_or_nil("an error")?.map(|error| slice_of(payload, error));
        reader.finish()?;
        Ok(Self { success, data, timestamp, error })
    }

    /// Whether the handler succeeded.
    pub fn success(&self) -> bool {
        self.success
    }

    /// What it answered: a map, empty in a failure.
    pub fn data(&self) -> Scanned<'_> {
        self.data.as_scanned()
    }

    /// The data for a task that outlives the envelope.
    pub fn into_data(self) -> ScannedBytes {
        self.data
    }

    /// When the peer says it sent the answer, in seconds since the Unix epoch.
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Why it failed, in the peer's words. As long as the peer liked, within the frame's limit.
    pub fn error(&self) -> Option<&str> {
        self.error.as_ref().map(checked)
    }
}

/// The frame of a request. `write_data` appends the data: one map with string keys.
///
/// # Errors
/// What `write_data` returns; [`EncodeError::NotAMap`] if it did not append a map;
/// [`EncodeError::SynapseTypeTooLong`]; [`EncodeError::Frame`] if the request takes more than `payload_bytes_max`.
pub fn encode_packet_frame(
    synapse_type: &str,
    timestamp: u64,
    payload_bytes_max: usize,
    write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<Vec<u8>, EncodeError> {
    if synapse_type.len() > SYNAPSE_TYPE_BYTES_MAX {
        return Err(EncodeError::SynapseTypeTooLong { bytes: synapse_type.len() });
    }
    let mut frame = FrameWriter::begin(MessageType::SynapsePacket);
    let out = frame.payload_mut();
    writer::array_len(out, 3)?;
    writer::str(out, synapse_type)?;
    write_map(out, write_data)?;
    writer::uint(out, timestamp);
    Ok(frame.finish(payload_bytes_max)?)
}

/// The frame of an answer that succeeded. `write_data` appends the data: one map with string keys.
///
/// # Errors
/// As [`encode_packet_frame`].
pub fn encode_response_frame(
    timestamp: u64,
    payload_bytes_max: usize,
    write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<Vec<u8>, EncodeError> {
    let mut frame = FrameWriter::begin(MessageType::SynapseResponse);
    let out = frame.payload_mut();
    writer::array_len(out, 4)?;
    writer::boolean(out, true);
    write_map(out, write_data)?;
    writer::uint(out, timestamp);
    writer::nil(out);
    Ok(frame.finish(payload_bytes_max)?)
}

/// The frame of an answer that failed. Its data is an empty map.
///
/// # Errors
/// [`EncodeError::Frame`] if the answer takes more than `payload_bytes_max`.
pub fn encode_error_response_frame(
    error: &str,
    timestamp: u64,
    payload_bytes_max: usize,
) -> Result<Vec<u8>, EncodeError> {
    let mut frame = FrameWriter::begin(MessageType::SynapseResponse);
    let out = frame.payload_mut();
    writer::array_len(out, 4)?;
    writer::boolean(out, false);
    writer::map_len(out, 0)?;
    writer::uint(out, timestamp);
    writer::str(out, error)?;
    Ok(frame.finish(payload_bytes_max)?)
}

const REQUEST: &str = "a request of three fields";
const RESPONSE: &str = "an answer of four fields";

fn write_map(
    out: &mut Vec<u8>,
    write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    write_data(out)?;
    match out.get(start..).map(|data| Reader::new(data).head()) {
        Some(Ok(Head::Map(_))) => Ok(()),
        _ => Err(EncodeError::NotAMap),
    }
}

/// Scans the map that the reader stands before, and passes over it.
fn map_in(
    payload: &Bytes,
    reader: &mut Reader<'_>,
    limits: &ScanLimits,
) -> Result<ScannedBytes, DecodeError> {
    let from = payload.len() - reader.rest().len();
    if !matches!(Reader::new(reader.rest()).head()?, Head::Map(_)) {
        return Err(DecodeError::Unexpected { expected: "a map as data" });
    }
    let data = ScannedBytes::first_at(payload, from, limits)?;
    reader.pass(data.as_bytes().len())?;
    Ok(data)
}

fn text_in(payload: &Bytes, text: &str) -> Result<Bytes, DecodeError> {
    if text.len() > SYNAPSE_TYPE_BYTES_MAX {
        return Err(DecodeError::Unexpected { expected: "a shorter synapse type" });
    }
    Ok(slice_of(payload, text))
}

/// The part of the payload that `text` was read from, sharing its buffer.
fn slice_of(payload: &Bytes, text: &str) -> Bytes {
    payload.slice_ref(text.as_bytes())
}

fn checked(text: &Bytes) -> &str {
    std::str::from_utf8(text).expect("parse has checked it")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: ScanLimits = ScanLimits::trusted();

    fn request(payload: &[u8]) -> Result<RequestEnvelope, DecodeError> {
        RequestEnvelope::parse(&Bytes::copy_from_slice(payload), &ANY)
    }

    fn response(payload: &[u8]) -> Result<ResponseEnvelope, DecodeError> {
        ResponseEnvelope::parse(&Bytes::copy_from_slice(payload), &ANY)
    }

    #[test]
    fn a_request_is_a_name_a_map_and_a_time() {
        let envelope = request(&[0x93, 0xa1, b'e', 0x81, 0xa1, b'k', 7, 9]).expect("a request");
        assert_eq!((envelope.synapse_type(), envelope.timestamp()), ("e", 9));
        assert_eq!(envelope.data().as_bytes(), [0x81, 0xa1, b'k', 7]);
    }

    #[test]
    fn an_answer_may_have_an_error() {
        let envelope = response(&[0x94, 0xc2, 0x80, 9, 0xa1, b'x']).expect("an answer");
        assert_eq!((envelope.success(), envelope.timestamp(), envelope.error()), (false, 9, Some("x")));
        let envelope = response(&[0x94, 0xc3, 0x80, 9, 0xc0]).expect("an answer");
        assert_eq!((envelope.success(), envelope.error()), (true, None));
    }

    #[test]
    fn anything_else_is_refused() {
        for payload in [
            &[0x93, 0xa1, b'e', 0xc0, 9][..],
            &[0x93, 0xa1, b'e', 0x80, 0xff],
            &[0x93, 0xa1, b'e', 0x80, 9, 9],
            &[0x94, 0xa1, b'e', 0x80, 9, 9],
            &[0x93, 0xa1, 0xff, 0x80, 9],
            &[0x93, 0xc4, 1, b'e', 0x80, 9],
            &[0x80],
            &[],
        ] {
            assert!(request(payload).is_err(), "{payload:02x?}");
        }
        for payload in [&[0x93, 0xc3, 0x80, 9][..], &[0x94, 0xc3, 0x80, 9, 9], &[0x94, 1, 0x80, 9, 0xc0]] {
            assert!(response(payload).is_err(), "{payload:02x?}");
        }
    }

    #[test]
    fn names_are_bounded_in_both_directions() {
        let longest = "n".repeat(SYNAPSE_TYPE_BYTES_MAX);
        let longer = "n".repeat(SYNAPSE_TYPE_BYTES_MAX + 1);
        let empty = |out: &mut Vec<u8>| writer::map_len(out, 0);
        assert!(encode_packet_frame(&longest, 1, usize::MAX, empty).is_ok());
        assert!(matches!(
            encode_packet_frame(&longer, 1, usize::MAX, empty),
            Err(EncodeError::SynapseTypeTooLong { .. })
        ));
        let mut payload = vec![0x93];
        writer::str(&mut payload, &longer).expect("short enough for MessagePack");
        payload.extend([0x80, 1]);
        assert!(request(&payload).is_err());
    }

    #[test]
    fn data_that_is_not_a_map_is_not_sent() {
        for not_a_map in [&[][..], &[0x90], &[0xc0]] {
            let frame = encode_response_frame(1, usize::MAX, |out| {
                out.extend_from_slice(not_a_map);
                Ok(())
            });
            assert_eq!(frame, Err(EncodeError::NotAMap));
        }
    }
}
