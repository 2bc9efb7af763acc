//! One call: ask, and decode the answer from its frame.

use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::identity::Hotkey;
use btlightning_proto::wire::{MessageType, ResponseEnvelope, ScanLimits, from_payload};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::config::LightningClientConfig;
use super::deadline::deadline_after;
use super::error::{CallError, Phase};
use super::exchange::{self, Answer, Bounds, Sent};
use super::link::Link;
use super::reply::{RawReply, Reply};
use super::request::RawRequest;
use super::route::{self, Route};

/// The least that [`CallOptions::answer_bytes_max`] can be, in bytes: what a miner's refusal takes, and some.
const ANSWER_BYTES_LEAST: usize = 1024;

/// What a chunk's frame may have beside the chunk, in bytes.
const CHUNK_HEAD_BYTES_MAX: usize = 16;

/// The bounds of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) first_byte_timeout: Option<Duration>,
    pub(crate) stream_timeout: Option<Duration>,
    pub(crate) answer_bytes_max: Option<usize>,
}

impl CallOptions {
    /// The client's `query_timeout` for the whole, and no other bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most that the whole call may take, from being asked to the last byte of the answer, the wait for a connection
    /// included; of an answer in chunks, until the request has gone out. Default: the client's `query_timeout`.
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

    /// The most that a whole answer in chunks may take, from being asked to its end, chunks that nobody has taken included.
    /// Default: the client's `stream_timeout`.
    pub fn stream_timeout(mut self, timeout: Duration) -> Self {
        self.stream_timeout = Some(timeout);
        self
    }

    /// The largest answer that is taken, in bytes: of an answer in chunks, all of them together, each counted for at least
    /// 256. The client's own limits hold besides: `max_frame_payload_bytes`, and of chunks `max_stream_payload_bytes`.
    /// Less than 1,024 counts as that. Default: no limit of its own.
    pub fn answer_bytes_max(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = Some(bytes.max(ANSWER_BYTES_LEAST));
        self
    }

    pub(crate) fn bounds(self, config: &LightningClientConfig, asked: Instant) -> Bounds {
        Bounds {
            deadline: deadline_after(asked, self.timeout.unwrap_or(config.query_timeout)),
            first_byte: self.first_byte_timeout,
            payload_bytes_max: within_limit(config.max_frame_payload_bytes, self.answer_bytes_max),
        }
    }

    /// When the whole of an answer in chunks must be here.
    pub(crate) fn stream_deadline(self, config: &LightningClientConfig, asked: Instant) -> Instant {
        deadline_after(asked, self.stream_timeout.unwrap_or(config.stream_timeout))
    }

    /// The largest frame of an answer in chunks, and the most of all chunks, in bytes.
    pub(crate) fn stream_bytes_max(self, config: &LightningClientConfig) -> (usize, usize) {
        let frame = self.answer_bytes_max.map(|bytes| bytes.saturating_add(CHUNK_HEAD_BYTES_MAX));
        (
            within_limit(config.max_frame_payload_bytes, frame),
            within_limit(config.max_stream_payload_bytes, self.answer_bytes_max),
        )
    }
}

fn within_limit(limit: usize, wanted: Option<usize>) -> usize {
    wanted.map_or(limit, |wanted| wanted.min(limit))
}

/// Sends `request` to the route's miner, on a link that has proven it. A link that is lost before the request could go
/// out is waited for again: nothing has been asked yet.
pub(crate) async fn send(
    route: &Route,
    request: &RawRequest,
    deadline: Instant,
    asked: Instant,
) -> Result<Sent<Arc<Link>>, CallError> {
    loop {
        let link = route::ready_link(route, deadline, asked).await?;
        match exchange::send(&route.slot, link, request.frame(), deadline, asked).await {
            Err(CallError::ConnectionLost { phase: Phase::Connecting, .. }) => {}
            sent => return sent,
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
    read(route.hotkey, answer(route, request, bounds, asked).await?)
}

/// Asks and waits for the whole answer, which nobody has looked at. As for [`send`], a link that is lost before the request
/// could go out is waited for again.
pub(crate) async fn answer(
    route: &Route,
    request: &RawRequest,
    bounds: &Bounds,
    asked: Instant,
) -> Result<Answer, CallError> {
    loop {
        let link = route::ready_link(route, bounds.deadline, asked).await?;
        match exchange::ask(&route.slot, &link, request.frame(), bounds, asked).await {
            Err(CallError::ConnectionLost { phase: Phase::Connecting, .. }) => {}
            answer => return answer,
        }
    }
}

/// Checks an answer of `hotkey`. Takes as long as the miner likes, within the frame's limit: not for threads of others.
pub(crate) fn read(hotkey: Hotkey, answer: Answer) -> Result<RawReply, CallError> {
    let Answer { frame, timings } = answer;
    if frame.kind != MessageType::SynapseResponse {
        return Err(CallError::UnexpectedMessage(frame.kind));
    }
    let limits = ScanLimits::for_payload(frame.payload.len());
    let envelope = ResponseEnvelope::parse(&frame.payload, &limits)?;
    Ok(RawReply { envelope, hotkey, timings })
}

/// The answer, decoded straight from its frame.
pub(crate) fn decoded<A: DeserializeOwned>(reply: RawReply) -> Result<Reply<A>, CallError> {
    let Reply { value, hotkey, timings } = reply.into_reply()?;
    Ok(Reply { value: from_payload(value.as_scanned())?, hotkey, timings })
}
