//! The six messages. On the wire each is an array of its fields, in the order in which they stand here.
//!
//! The four small ones are encoded and decoded here. [`SynapsePacket`] and [`SynapseResponse`] are the published
//! forms of the two that carry a payload; those are read and written in place by
//! [`RequestEnvelope`](super::RequestEnvelope) and its sisters, without going through these structs.

use std::collections::HashMap;

use bytes::Bytes;
use rmpv::Value;
use serde::{Deserialize, Serialize};

use super::error::{DecodeError, EncodeError};
use super::frame::{FRAME_HEADER_BYTES, FrameWriter, MessageType, header_of};
use super::reader::{Head, Reader};
use super::writer;

/// A validator says who it is, on a fresh connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeRequest {
    /// The validator's hotkey, in SS58.
    pub validator_hotkey: String,
    /// When it was signed, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// 32 hexadecimal digits that are never used again.
    pub nonce: String,
    /// The signature, in base64.
    pub signature: String,
}

/// A miner accepts a handshake and says who it is; or refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeResponse {
    /// The miner's hotkey, in SS58.
    pub miner_hotkey: String,
    /// When it was signed, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// The signature, in base64. Empty in a refusal.
    pub signature: String,
    /// Whether the validator may use the connection.
    pub accepted: bool,
    /// A name for the connection. Empty in a refusal.
    pub connection_id: String,
    /// The fingerprint of the miner's certificate. None in a refusal and from old peers.
    #[serde(default)]
    pub cert_fingerprint: Option<String>,
}

/// A request for a handler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SynapsePacket {
    /// The name of the handler.
    pub synapse_type: String,
    /// What it is asked.
    pub data: HashMap<String, Value>,
    /// When it was sent, in seconds since the Unix epoch.
    pub timestamp: u64,
}

/// A handler's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SynapseResponse {
    /// Whether the handler succeeded.
    pub success: bool,
    /// What it answered. Empty in a failure.
    pub data: HashMap<String, Value>,
    /// When it was sent, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// A part of a streaming answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamChunk {
    /// The handler's bytes.
    #[serde(with = "bin")]
    pub data: Vec<u8>,
}

/// The end of a streaming answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Whether the answer is complete.
    pub success: bool,
    /// Why it is not.
    pub error: Option<String>,
}

/// A message that is small enough to be encoded from a struct.
pub trait Message: Serialize + sealed::Sealed {
    /// What its frame is marked as.
    const KIND: MessageType;
}

impl Message for HandshakeRequest {
    const KIND: MessageType = MessageType::HandshakeRequest;
}

impl Message for HandshakeResponse {
    const KIND: MessageType = MessageType::HandshakeResponse;
}

impl Message for StreamChunk {
    const KIND: MessageType = MessageType::StreamChunk;
}

impl Message for StreamEnd {
    const KIND: MessageType = MessageType::StreamEnd;
}

/// The frame of a message.
///
/// # Errors
/// [`EncodeError::Frame`] if the message takes more than `payload_bytes_max`.
pub fn encode_frame<M: Message>(message: &M, payload_bytes_max: usize) -> Result<Vec<u8>, EncodeError> {
    let mut frame = FrameWriter::begin(M::KIND);
    rmp_serde::encode::write(frame.payload_mut(), message)
        .map_err(|e| EncodeError::Refused(e.to_string()))?;
    Ok(frame.finish(payload_bytes_max)?)
}

impl HandshakeRequest {
    /// Reads a message that takes up the whole payload. Takes no more memory than the payload has bytes.
    ///
    /// # Errors
    /// A [`DecodeError`] for anything else.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        fields(&mut reader, 4..=4, "a handshake request")?;
        let message = Self {
            validator_hotkey: reader.text("the validator hotkey")?.to_owned(),
            timestamp: reader.uint("a timestamp")?,
            nonce: reader.text("a nonce")?.to_owned(),
            signature: reader.text("a signature")?.to_owned(),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl HandshakeResponse {
    /// Reads a message that takes up the whole payload; the fingerprint may be missing. Takes no more memory than the
    /// payload has bytes.
    ///
    /// # Errors
    /// A [`DecodeError`] for anything else.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let count = fields(&mut reader, 5..=6, "a handshake response")?;
        let message = Self {
            miner_hotkey: reader.text("the miner hotkey")?.to_owned(),
            timestamp: reader.uint("a timestamp")?,
            signature: reader.text("a signature")?.to_owned(),
            accepted: reader.boolean("whether the handshake is accepted")?,
            connection_id: reader.text("a connection id")?.to_owned(),
            cert_fingerprint: match count {
                6 => reader.text_or_nil("a certificate fingerprint")?.map(str::to_owned),
                _ => None,
            },
        };
        reader.finish()?;
        Ok(message)
    }
}

impl StreamEnd {
    /// Reads a message that takes up the whole payload. Takes no more memory than the payload has bytes.
    ///
    /// # Errors
    /// A [`DecodeError`] for anything else.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        fields(&mut reader, 2..=2, "the end of a stream")?;
        let message = Self {
            success: reader.boolean("whether the stream is complete")?,
            error: reader.text_or_nil("an error")?.map(str::to_owned),
        };
        reader.finish()?;
        Ok(message)
    }
}

/// The data of a [`StreamChunk`] that takes up the whole payload: a slice of the payload, not a copy.
///
/// # Errors
/// A [`DecodeError`] for anything that is not an array of one byte string.
pub fn parse_stream_chunk(payload: &Bytes) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new(payload);
    fields(&mut reader, 1..=1, "a chunk of a stream")?;
    let Head::Bin(data) = reader.head()? else {
        return Err(DecodeError::Unexpected { expected: "a byte string" });
    };
    reader.finish()?;
    // What was read last ends the payload.
    Ok(payload.slice(payload.len() - data.len()..))
}

/// What stands before a chunk's data in its frame. Written in front of the data it makes the frame of a
/// [`StreamChunk`], without the data being copied.
///
/// # Errors
/// [`EncodeError::Frame`] if the message takes more than `payload_bytes_max`; it takes up to six bytes more than its
/// data.
pub fn write_stream_chunk_header(
    data_bytes: usize,
    payload_bytes_max: usize,
) -> Result<StreamChunkHeader, EncodeError> {
    let mut head = Vec::with_capacity(CHUNK_HEAD_BYTES_MAX);
    writer::array_len(&mut head, 1)?;
    writer::bin_len(&mut head, data_bytes)?;
    let payload_bytes = head.len().saturating_add(data_bytes);
    let frame_header = header_of(MessageType::StreamChunk, payload_bytes, payload_bytes_max)?.to_bytes();

    let mut header = StreamChunkHeader { bytes: [0; _], length: FRAME_HEADER_BYTES + head.len() };
    header.bytes[..FRAME_HEADER_BYTES].copy_from_slice(&frame_header);
    header.bytes[FRAME_HEADER_BYTES..header.length].copy_from_slice(&head);
    Ok(header)
}

/// An array of one, and the marker and length of a byte string.
const CHUNK_HEAD_BYTES_MAX: usize = 1 + 5;

/// The bytes before a chunk's data; see [`write_stream_chunk_header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamChunkHeader {
    bytes: [u8; FRAME_HEADER_BYTES + CHUNK_HEAD_BYTES_MAX],
    length: usize,
}

impl AsRef<[u8]> for StreamChunkHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Reads the head of the array that a message is.
fn fields(
    reader: &mut Reader<'_>,
    counts: std::ops::RangeInclusive<usize>,
    message: &'static str,
) -> Result<usize, DecodeError> {
    let count = reader.array_head(message)?;
    if counts.contains(&count) { Ok(count) } else { Err(DecodeError::Unexpected { expected: message }) }
}

/// A byte string for serde, which would write `Vec<u8>` as an array of numbers.
mod bin {
    use std::fmt;

    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(data)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(ByteString)
    }

    struct ByteString;

    impl<'de> Visitor<'de> for ByteString {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        // Formats without byte strings, such as JSON.
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::HandshakeRequest {}
    impl Sealed for super::HandshakeResponse {}
    impl Sealed for super::StreamChunk {}
    impl Sealed for super::StreamEnd {}
}

#[cfg(test)]
mod tests {
    use super::super::frame::{FrameError, parse_frame_header};
    use super::*;

    fn payload_of(frame: &[u8]) -> &[u8] {
        parse_frame_header(frame, usize::MAX).expect("a frame").1
    }

    #[test]
    fn an_old_peer_sends_no_fingerprint() {
        let payload = [0x95, 0xa1, b'm', 1, 0xa1, b's', 0xc3, 0xa1, b'c'];
        let response = HandshakeResponse::decode(&payload).expect("an old response");
        assert_eq!((response.accepted, response.cert_fingerprint), (true, None));
    }

    #[test]
    fn a_message_has_its_fields_and_nothing_more() {
        let request = [0x94, 0xa1, b'v', 1, 0xa1, b'n', 0xa1, b's'];
        HandshakeRequest::decode(&request).expect("four fields");
        let mut longer = request.to_vec();
        longer.push(0);
        assert_eq!(HandshakeRequest::decode(&longer), Err(DecodeError::Trailing { bytes: 1 }));
        longer[0] = 0x95;
        assert_eq!(
            HandshakeRequest::decode(&longer),
            Err(DecodeError::Unexpected { expected: "a handshake request" })
        );
        for cut in 0..request.len() {
            assert!(HandshakeRequest::decode(&request[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_chunk_written_in_two_parts_is_the_chunk_written_whole() {
        for length in [0, 1, 255, 256, 65_535, 65_536] {
            let data = vec![7; length];
            let header = write_stream_chunk_header(length, usize::MAX).expect("no limit");
            let frame = [header.as_ref(), &data].concat();
            let chunk = StreamChunk { data };
            assert_eq!(frame, encode_frame(&chunk, usize::MAX).expect("no limit"), "{length}");

            let payload = Bytes::copy_from_slice(payload_of(&frame));
            let parsed = parse_stream_chunk(&payload).expect("a chunk");
            assert_eq!(parsed, chunk.data);
            if length > 0 {
                assert_eq!(parsed.as_ptr(), payload[payload.len() - length..].as_ptr(), "not a copy");
            }
        }
    }

    #[test]
    fn a_chunks_limit_counts_its_head() {
        assert!(write_stream_chunk_header(97, 100).is_ok());
        assert_eq!(
            write_stream_chunk_header(98, 100),
            Err(EncodeError::Frame(FrameError::TooLarge { payload_bytes: 101, payload_bytes_max: 100 }))
        );
    }
}
