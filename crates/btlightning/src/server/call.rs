//! One request as its handler sees it, and the answer that the handler gives.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use rmpv::Value;
use serde::{Deserialize, Serialize};

use super::handler::HandlerError;
use crate::Hotkey;
use crate::util::unix_timestamp_secs;
use crate::wire::{
    EncodeError, FRAME_HEADER_BYTES, RequestEnvelope, decode_map, encode_map, encode_response_frame,
    from_payload, to_payload,
};

/// A number that tells this server's connections apart, as long as the server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asks, and until when an answer is of use.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Caller {
    /// The validator's hotkey, proven in the handshake of the connection that the request came on.
    pub hotkey: Hotkey,
    /// Where the connection comes from at the moment.
    pub remote_addr: SocketAddr,
    /// The connection.
    pub connection: ConnectionId,
    /// When the whole request was there.
    pub received_at: Instant,
    /// When the caller is told `handler timed out`, and the handler is dropped.
    pub deadline: Instant,
}

impl Caller {
    pub(super) fn new(
        hotkey: Hotkey,
        remote_addr: SocketAddr,
        connection: ConnectionId,
        received_at: Instant,
        deadline: Instant,
    ) -> Self {
        Self { hotkey, remote_addr, connection, received_at, deadline }
    }
}

/// A request. Its payload was checked to be well formed and within the limits of memory and nesting; it is decoded when
/// the handler asks for it, from the frame it arrived in.
#[derive(Debug)]
pub struct Call {
    caller: Caller,
    request: RequestEnvelope,
}

impl Call {
    pub(super) fn new(caller: Caller, request: RequestEnvelope) -> Self {
        Self { caller, request }
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The name that the handler was called by.
    pub fn synapse_type(&self) -> &str {
        self.request.synapse_type()
    }

    /// When the caller says that it sent the request, in seconds since the Unix epoch. Nobody has checked it.
    pub fn timestamp(&self) -> u64 {
        self.request.timestamp()
    }

    /// The payload as it stands on the wire: a MessagePack map.
    pub fn payload(&self) -> &[u8] {
        self.request.data().as_bytes()
    }

    /// The payload as a value of the handler's type, which may borrow from the call.
    ///
    /// # Errors
    /// When the payload does not fit the type. Returned from the handler, the caller reads `request processing failed`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, HandlerError> {
        from_payload(self.request.data()).map_err(HandlerError::from)
    }

    /// The payload as a map of dynamic values.
    ///
    /// # Errors
    /// When a key is not a string.
    pub fn to_map(&self) -> Result<HashMap<String, Value>, HandlerError> {
        decode_map(self.request.data()).map_err(HandlerError::from)
    }
}

/// The answer of a handler that succeeded, encoded in its frame.
#[derive(Debug)]
pub struct Response {
    frame: Vec<u8>,
}

impl Response {
    /// Answers with a struct, or anything else that serializes to a map with string keys.
    ///
    /// # Errors
    /// When `data` is not such a value, or refuses to be serialized. Returned from the handler, the caller reads
    /// `internal serialization error`.
    pub fn from_typed<T: Serialize + ?Sized>(data: &T) -> Result<Self, HandlerError> {
        Self::encode(|out| to_payload(data, out))
    }

    /// Answers with a map of dynamic values.
    ///
    /// # Errors
    /// When values are nested deeper than a peer would read. Returned from the handler, the caller reads
    /// `internal serialization error`.
    pub fn from_map(data: &HashMap<String, Value>) -> Result<Self, HandlerError> {
        Self::encode(|out| encode_map(data, out))
    }

    /// The server's frame limit is held against the answer when it is sent; a handler does not know that limit.
    fn encode(
        write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Self, HandlerError> {
        encode_response_frame(unix_timestamp_secs(), u32::MAX as usize, write_data)
            .map(|frame| Self { frame })
            .map_err(HandlerError::unsendable)
    }

    /// The frame, and how long its payload is.
    pub(super) fn into_frame(self) -> (Vec<u8>, usize) {
        let payload_bytes = self.frame.len() - FRAME_HEADER_BYTES;
        (self.frame, payload_bytes)
    }
}
