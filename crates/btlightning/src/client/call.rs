//! The typed call: encode once into the frame, ask, decode from the frame, and say where the time went.

use std::time::Duration;

use btlightning_proto::identity::Hotkey;
use btlightning_proto::wire::{
    EncodeError, MessageType, ResponseEnvelope, ScanLimits, encode_packet_frame, from_payload, to_payload,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::config::LightningClientConfig;
use super::error::{CallError, PeerError};
use super::exchange::{self, Bounds, Marks};
use super::link::Link;
use super::route::{self, Route};
use crate::util::unix_timestamp_secs;

/// The bounds of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) first_byte_timeout: Option<Duration>,
}

impl CallOptions {
    /// The client's `query_timeout` for the whole, and no other bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most that the whole call may take, from being asked to the last byte of the answer, the wait for a connection
    /// included. Default: the client's `query_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The most that may pass from the request having gone out to the first byte of the answer. Default: no bound of
    /// its own.
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.first_byte_timeout = Some(timeout);
        self
    }

    pub(crate) fn bounds(self, config: &LightningClientConfig, asked: Instant) -> Bounds {
        Bounds {
            deadline: deadline_after(asked, self.timeout.unwrap_or(config.query_timeout)),
            first_byte: self.first_byte_timeout,
            payload_bytes_max: config.max_frame_payload_bytes,
        }
    }
}

/// `start + timeout`, or a day later where that cannot be said.
pub(crate) fn deadline_after(start: Instant, timeout: Duration) -> Instant {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    start.checked_add(timeout).unwrap_or_else(|| start + DAY)
}

/// Where the time of a call went. `waited` is this validator's own; what follows is the miner's and the path's, counted
/// from the moment the request began to go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// How long the call waited for a connection and for a stream on it, before anything was sent.
    pub waited: Duration,
    /// Until QUIC had taken the whole request; it may still have been on its way.
    pub sent: Duration,
    /// Until the first byte of the answer was read.
    pub first_byte: Duration,
    /// Until the last byte of the answer was read. Score a miner by this figure: no queue of the validator's is in it.
    pub last_byte: Duration,
    /// The path's round-trip time of late, as QUIC has measured and smoothed it: the part of `first_byte` that is
    /// nobody's work. Includes what packets have to wait at either end.
    pub path_rtt: Duration,
    /// The shortest round trip that the path has made: its length, with nobody waiting.
    pub path_rtt_min: Duration,
}

impl Timings {
    pub(crate) fn new(marks: &Marks, link: &Link) -> Self {
        let since = |mark: Instant| mark.duration_since(marks.opened);
        Self {
            waited: marks.opened.duration_since(marks.asked),
            sent: since(marks.sent),
            first_byte: since(marks.first_byte),
            last_byte: since(Instant::now()),
            path_rtt: link.connection.rtt(),
            path_rtt_min: link.connection.min_rtt(),
        }
    }
}

/// A miner's answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reply<T> {
    /// What the handler answered.
    pub value: T,
    /// Who answered.
    pub hotkey: Hotkey,
    /// Where the time went.
    pub timings: Timings,
}

/// A request, encoded once, good for any number of miners.
#[derive(Debug, Clone)]
pub(crate) struct EncodedRequest {
    frame: Bytes,
}

impl EncodedRequest {
    pub(crate) fn typed<Q: Serialize + ?Sized>(
        synapse_type: &str,
        request: &Q,
        payload_bytes_max: usize,
    ) -> Result<Self, EncodeError> {
        Self::with(synapse_type, payload_bytes_max, |out| to_payload(request, out))
    }

    pub(crate) fn with(
        synapse_type: &str,
        payload_bytes_max: usize,
        write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Self, EncodeError> {
        let frame = encode_packet_frame(synapse_type, unix_timestamp_secs(), payload_bytes_max, write_data)?;
        Ok(Self { frame: frame.into() })
    }

    /// The frame, sharing its bytes.
    pub(crate) fn frame(&self) -> Bytes {
        self.frame.clone()
    }
}

/// An answer whose envelope is read and whose data is scanned, not decoded.
pub(crate) struct RawReply {
    pub(crate) envelope: ResponseEnvelope,
    pub(crate) timings: Timings,
}

/// Asks and waits for the whole answer. The only unary exchange there is.
pub(crate) async fn unary(
    route: &Route,
    request: &EncodedRequest,
    bounds: &Bounds,
    asked: Instant,
) -> Result<RawReply, CallError> {
    let link = route::ready_link(route, bounds.deadline, asked).await?;
    let answering = exchange::ask(&route.slot, &link, request.frame(), bounds, asked).await?;
    let (frame, _reader, marks) = answering.first_frame(&route.slot, &link, bounds.deadline).await?;
    let timings = Timings::new(&marks, &link);
    if frame.kind != MessageType::SynapseResponse {
        return Err(CallError::UnexpectedMessage(frame.kind));
    }
    let limits = ScanLimits::for_payload(frame.payload.len());
    let envelope = ResponseEnvelope::parse(&frame.payload, &limits)?;
    Ok(RawReply { envelope, timings })
}

/// [`unary`], with the answer decoded straight from its frame.
pub(crate) async fn typed<A: DeserializeOwned>(
    route: &Route,
    request: &EncodedRequest,
    bounds: &Bounds,
    asked: Instant,
) -> Result<Reply<A>, CallError> {
    let RawReply { envelope, timings } = unary(route, request, bounds, asked).await?;
    if !envelope.success() {
        return Err(CallError::Rejected(PeerError::parse(envelope.error().unwrap_or("request failed"))));
    }
    let value = from_payload(envelope.data())?;
    Ok(Reply { value, hotkey: route.hotkey, timings })
}
