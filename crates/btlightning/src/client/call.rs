//! The typed call: encode once into the frame, ask, decode from the frame, and say where the time went.

use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::identity::Hotkey;
use btlightning_proto::wire::{MessageType, ResponseEnvelope, ScanLimits, from_payload};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::config::LightningClientConfig;
use super::deadline::deadline_after;
use super::error::{CallError, Phase};
use super::exchange::{self, Bounds, Sent, SentMarks};
use super::link::Link;
use super::raw::{RawReply, RawRequest};
use super::route::{self, Route};

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

/// Where the time of a call went. `waited` and `sent` are this validator's own and the path's; `first_byte` and `last_byte`
/// are counted from the moment the request had gone out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// How long the call waited for a connection and for a stream on it, before anything was sent.
    pub waited: Duration,
    /// From then until QUIC had taken the whole request: next to nothing for a small one; for a large one as long as its
    /// turn on a busy connection and the peer's flow control took.
    pub sent: Duration,
    /// From then until the first byte of the answer was read.
    pub first_byte: Duration,
    /// From the same moment until the last byte of the answer was read; of a stream, of its last chunk so far. Score a
    /// miner by this figure. What is in it beside the miner's work: the path there and back (`path_rtt`), and, of a
    /// request larger than the path takes at once, its last bytes' way.
    pub last_byte: Duration,
    /// The path's round-trip time of late, as QUIC has measured and smoothed it. Includes what packets have to wait at
    /// either end.
    pub path_rtt: Duration,
    /// The shortest round trip that the path has made: its length, with nobody waiting.
    pub path_rtt_min: Duration,
}

impl Timings {
    pub(crate) fn new(marks: &SentMarks, first_byte: Instant, last_byte: Instant, link: &Link) -> Self {
        Self {
            waited: marks.opened.duration_since(marks.asked),
            sent: marks.sent.duration_since(marks.opened),
            first_byte: first_byte.duration_since(marks.sent),
            last_byte: last_byte.duration_since(marks.sent),
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

/// Sends `request` to the route's miner, on a link that has proven it. A link that is lost before the request could go
/// out is waited for again: nothing has been asked yet.
pub(crate) async fn send(
    route: &Route,
    request: &RawRequest,
    deadline: Instant,
    asked: Instant,
) -> Result<(Arc<Link>, Sent), CallError> {
    loop {
        let link = route::ready_link(route, deadline, asked).await?;
        match exchange::send(&route.slot, &link, request.frame(), deadline, asked).await {
            Err(CallError::ConnectionLost { phase: Phase::Connecting, .. }) => {}
            sent => return Ok((link, sent?)),
        }
    }
}

/// Asks and waits for the whole answer. The only unary exchange there is.
pub(crate) async fn unary(
    route: &Route,
    request: &RawRequest,
    bounds: &Bounds,
    asked: Instant,
) -> Result<RawReply, CallError> {
    let (link, mut sent) = send(route, request, bounds.deadline, asked).await?;
    let (frame, first_byte) = exchange::receive(&route.slot, &link, &mut sent, bounds).await?;
    let timings = Timings::new(&sent.marks, first_byte, Instant::now(), &link);
    if frame.kind != MessageType::SynapseResponse {
        return Err(CallError::UnexpectedMessage(frame.kind));
    }
    let limits = ScanLimits::for_payload(frame.payload.len());
    let envelope = ResponseEnvelope::parse(&frame.payload, &limits)?;
    Ok(RawReply { envelope, hotkey: route.hotkey, timings })
}

/// The answer, decoded straight from its frame.
pub(crate) fn decoded<A: DeserializeOwned>(reply: RawReply) -> Result<Reply<A>, CallError> {
    let Reply { value, hotkey, timings } = reply.into_reply()?;
    Ok(Reply { value: from_payload(value.as_scanned())?, hotkey, timings })
}
