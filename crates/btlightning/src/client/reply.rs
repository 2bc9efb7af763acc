//! What comes back of a call, and where its time went.

use std::time::Duration;

use btlightning_proto::identity::Hotkey;
use btlightning_proto::wire::{ResponseEnvelope, Scanned, ScannedBytes};
use tokio::time::Instant;

use super::error::{CallError, PeerError};
use super::exchange::SentMarks;
use super::link::Link;

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

/// A miner's answer, be it that it failed. Its data is checked for form, nesting and memory, and not decoded.
#[derive(Debug, Clone)]
pub struct RawReply {
    pub(super) envelope: ResponseEnvelope,
    pub(super) hotkey: Hotkey,
    pub(super) timings: Timings,
}

impl RawReply {
    /// Whether the handler succeeded.
    pub fn success(&self) -> bool {
        self.envelope.success()
    }

    /// Why it failed, in the miner's words: not escaped, and as long as it liked within the frame's limit.
    pub fn error(&self) -> Option<&str> {
        self.envelope.error()
    }

    /// What it answered: a map, empty in a failure.
    pub fn data(&self) -> Scanned<'_> {
        self.envelope.data()
    }

    /// Who answered.
    pub fn hotkey(&self) -> Hotkey {
        self.hotkey
    }

    /// Where the time went.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The answer if the handler succeeded.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if it failed.
    pub fn into_reply(self) -> Result<Reply<ScannedBytes>, CallError> {
        let Self { envelope, hotkey, timings } = self;
        if !envelope.success() {
            return Err(CallError::Rejected(PeerError::parse(envelope.error().unwrap_or("request failed"))));
        }
        Ok(Reply { value: envelope.into_data(), hotkey, timings })
    }
}
