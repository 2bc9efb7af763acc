//! What is on the wire: frames, messages, payloads.
//!
//! A *frame* is a type byte, a length and a payload ([`FrameHeader`], [`FrameWriter`]). A payload is one MessagePack
//! value: a *message* ([`HandshakeRequest`], [`StreamEnd`], ...) written as the array of its fields. Two of the
//! messages, the request and its answer, are *envelopes* ([`RequestEnvelope`], [`ResponseEnvelope`]) around the data
//! that applications exchange: a map with string keys.
//!
//! Bytes from a peer are hostile until they were *scanned*: one pass without recursion or allocation that checks the
//! form, the nesting and the memory that decoding would take. Only a [`Scanned`] value can be decoded, either
//! dynamically ([`decode_map`], [`decode_value`]) or into a type of the user's ([`from_payload`]). In the other
//! direction [`encode_map`] and [`to_payload`] write straight into the frame. Whoever has another form of value reads
//! and writes heads ([`Reader`], [`PayloadWriter`]).
//!
//! Who knows what: only `reader` and `writer` know MessagePack's markers, only `frame` the frame's header, and only
//! `packet` the order of the fields in an envelope.

mod error;
mod frame;
mod message;
mod packet;
mod payload;
mod pieces;
mod reader;
mod scan;
mod typed;
mod value;
mod writer;

pub use error::{DecodeError, EncodeError};
pub use frame::{
    DEFAULT_MAX_FRAME_PAYLOAD, FRAME_HEADER_BYTES, FrameError, FrameHeader, FrameWriter, MessageType,
    parse_frame_header,
};
pub use message::{
    HandshakeRequest, HandshakeResponse, Message, StreamChunk, StreamChunkHeader, StreamEnd, SynapsePacket,
    SynapseResponse, encode_frame, parse_stream_chunk, write_stream_chunk_header,
};
pub use packet::{
    RequestEnvelope, ResponseEnvelope, SYNAPSE_TYPE_BYTES_MAX, encode_error_response_frame,
    encode_packet_frame, encode_response_frame,
};
pub use payload::{QuicRequest, QuicResponse, from_map};
pub use pieces::{
    PayloadWriter, SHARED_BYTES_MIN, encode_packet_pieces, encode_payload_pieces, encode_response_pieces,
};
pub use reader::{Head, Reader};
pub use scan::{
    Extent, MEMORY_BASE_BYTES, MEMORY_PER_PAYLOAD_BYTE, NESTING_MAX, ScanLimits, Scanned, ScannedBytes, scan,
};
pub use typed::{from_payload, to_payload};
pub use value::{decode_map, decode_map_from, decode_value, encode_map, encode_value};
