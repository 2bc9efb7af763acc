//! [`CallError`]: what went wrong with a call, precisely enough to act on without reading its text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning_proto::identity::{Hotkey, HotkeyError};
use btlightning_proto::peers::{AddressError, PeerAddr};
use btlightning_proto::wire::{DecodeError, EncodeError, FrameError, MessageType};

use super::dial_error::DialError;
use crate::error::LightningError;
use crate::transport::close::printable;

/// Why a call got no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The client has no socket yet: call `create_endpoint` or `initialize_connections` first.
    #[error("QUIC endpoint not initialized")]
    NotStarted,
    /// The text that should name a miner is no hotkey.
    #[error("invalid hotkey: {0}")]
    Hotkey(#[from] HotkeyError),
    /// The miner's address cannot be dialled.
    #[error("invalid address: {0}")]
    Address(#[from] AddressError),
    /// The registry does not have this hotkey.
    #[error("{0} is not in the registry")]
    UnknownPeer(Hotkey),
    /// The miner was removed from the registry, or the client closed, while the call waited for a connection.
    #[error("{0} is no longer wanted")]
    Closed(PeerAddr),
    /// One address more would exceed `max_connections`.
    #[error("connection limit ({max}) reached")]
    ConnectionLimit {
        /// The limit.
        max: usize,
    },
    /// There is no connection, and none will be tried before the call's own deadline.
    #[error("no connection to {addr}: {source}{}", retry_words(*.retry_at))]
    Unavailable {
        /// Where the miner should be.
        addr: PeerAddr,
        /// When the next dial begins; `None`: not before the registry names the miner again.
        retry_at: Option<Instant>,
        /// Why the last dial failed, or whose the address is instead.
        source: Arc<DialError>,
    },
    /// The time was up.
    #[error("timed out after {after:?} {phase}")]
    TimedOut {
        /// What the call was waiting for.
        phase: Phase,
        /// How long the call had taken by then.
        after: Duration,
    },
    /// The connection ended before the answer was whole. The miner may or may not have done the work.
    #[error("connection lost {phase}: {why}")]
    ConnectionLost {
        /// What the call was waiting for.
        phase: Phase,
        /// How it ended.
        why: String,
    },
    /// The miner answered that it failed.
    #[error("{0}")]
    Rejected(PeerError),
    /// The request cannot be encoded, or is larger than `max_frame_payload_bytes`.
    #[error("request not sent: {0}")]
    Encode(#[from] EncodeError),
    /// The answer is not what the caller asked it to be, or not MessagePack.
    #[error("answer not understood: {0}")]
    Decode(#[from] DecodeError),
    /// The answer's frame is too large or of no known type.
    #[error("answer not acceptable: {0}")]
    Frame(#[from] FrameError),
    /// The answer is of another kind: a stream where one answer was expected, or the reverse.
    #[error("unexpected {0:?} in answer")]
    UnexpectedMessage(MessageType),
    /// The streaming answer has failed before; the error was handed out then.
    #[error("the streaming answer has failed before")]
    StreamOver,
    /// The chunks of a streaming answer exceed `max_stream_payload_bytes`, or the call's `answer_bytes_max`.
    #[error("streaming answer exceeds {max} bytes")]
    StreamTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
}

/// What a call was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// A connection, or a stream on it: the peer allows only so many at once.
    Connecting,
    /// Room to send the request.
    Sending,
    /// The first byte of the answer.
    FirstByte,
    /// The rest of the answer.
    Answer,
    /// The next chunk of a streaming answer.
    Chunk,
    /// The whole of a streaming answer.
    Stream,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "waiting for a connection",
            Self::Sending => "sending the request",
            Self::FirstByte => "waiting for the answer to begin",
            Self::Answer => "receiving the answer",
            Self::Chunk => "waiting for the next chunk",
            Self::Stream => "receiving the whole of the chunks",
        })
    }
}

/// What a miner says of a request that it did not serve. The protocol has these words and no others; a handler's own
/// error text never leaves the miner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerError {
    /// `authentication failed`: the miner does not, or no longer, take this connection for a validator's.
    AuthenticationFailed,
    /// `invalid request format`
    InvalidRequest,
    /// `unrecognized synapse type`: there is no handler of that name.
    UnrecognizedSynapse,
    /// `request processing failed`: the handler failed or panicked.
    ProcessingFailed,
    /// `handler timed out`
    HandlerTimedOut,
    /// `internal serialization error`: the handler's answer could not be encoded.
    SerializationFailed,
    /// `stream processing failed`: the handler failed in the middle of a stream.
    StreamFailed,
    /// `stream write failed`
    StreamWriteFailed,
    /// Words that the protocol does not have, escaped and cut short.
    Other(String),
}

impl PeerError {
    /// The error that the miner's words stand for.
    pub(crate) fn parse(words: &str) -> Self {
        match words {
            "authentication failed" => Self::AuthenticationFailed,
            "invalid request format" => Self::InvalidRequest,
            "unrecognized synapse type" => Self::UnrecognizedSynapse,
            "request processing failed" => Self::ProcessingFailed,
            "handler timed out" => Self::HandlerTimedOut,
            "internal serialization error" => Self::SerializationFailed,
            "stream processing failed" => Self::StreamFailed,
            "stream write failed" => Self::StreamWriteFailed,
            other => Self::Other(printable(other.as_bytes())),
        }
    }

    /// The words of the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::AuthenticationFailed => "authentication failed",
            Self::InvalidRequest => "invalid request format",
            Self::UnrecognizedSynapse => "unrecognized synapse type",
            Self::ProcessingFailed => "request processing failed",
            Self::HandlerTimedOut => "handler timed out",
            Self::SerializationFailed => "internal serialization error",
            Self::StreamFailed => "stream processing failed",
            Self::StreamWriteFailed => "stream write failed",
            Self::Other(words) => words,
        }
    }
}

impl std::fmt::Display for PeerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl CallError {
    /// The kind of failure as one stable word, for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Hotkey(_) => "invalid_hotkey",
            Self::Address(_) => "invalid_address",
            Self::UnknownPeer(_) => "unknown_peer",
            Self::Closed(_) => "closed",
            Self::ConnectionLimit { .. } => "connection_limit",
            Self::Unavailable { source, .. } => source.reason(),
            Self::TimedOut { phase: Phase::Connecting, .. } => "connect_timeout",
            Self::TimedOut { phase: Phase::Sending, .. } => "send_timeout",
            Self::TimedOut { phase: Phase::FirstByte, .. } => "first_byte_timeout",
            Self::TimedOut { phase: Phase::Stream, .. } => "stream_timeout",
            Self::TimedOut { .. } => "answer_timeout",
            Self::ConnectionLost { .. } => "connection_lost",
            Self::Rejected(PeerError::AuthenticationFailed) => "authentication_failed",
            Self::Rejected(PeerError::InvalidRequest) => "invalid_request",
            Self::Rejected(PeerError::UnrecognizedSynapse) => "unrecognized_synapse",
            Self::Rejected(PeerError::HandlerTimedOut) => "handler_timed_out",
            Self::Rejected(_) => "processing_failed",
            Self::Encode(_) => "encode",
            Self::Decode(_) => "decode",
            Self::Frame(_) | Self::UnexpectedMessage(_) => "protocol",
            Self::StreamOver => "stream_over",
            Self::StreamTooLarge { .. } => "stream_too_large",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything. After [`CallError::ConnectionLost`]
    /// and a timeout the miner may have done the work already, so retry only what may be done twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { source, retry_at, .. } => retry_at.is_some() && !source.is_refusal(),
            Self::ConnectionLimit { .. } | Self::TimedOut { .. } | Self::ConnectionLost { .. } => true,
            Self::Rejected(error) => matches!(
                error,
                PeerError::AuthenticationFailed
                    | PeerError::ProcessingFailed
                    | PeerError::HandlerTimedOut
                    | PeerError::StreamFailed
                    | PeerError::StreamWriteFailed
            ),
            Self::NotStarted
            | Self::Hotkey(_)
            | Self::Address(_)
            | Self::UnknownPeer(_)
            | Self::Closed(_)
            | Self::Encode(_)
            | Self::Decode(_)
            | Self::Frame(_)
            | Self::UnexpectedMessage(_)
            | Self::StreamOver
            | Self::StreamTooLarge { .. } => false,
        }
    }
}

fn retry_words(retry_at: Option<Instant>) -> String {
    let Some(at) = retry_at else { return String::new() };
    let pause = at.saturating_duration_since(tokio::time::Instant::now().into_std());
    format!("; next attempt in {:.1} s", pause.as_secs_f64())
}

/// The published calls know only a class and a sentence.
impl From<CallError> for LightningError {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::Unavailable { source, .. } => match &*source {
                refusal @ (DialError::Handshake(_)
                | DialError::WrongHotkey { .. }
                | DialError::WrongTlsKey { .. }
                | DialError::Signing(_)) => Self::from(refusal),
                _ => Self::Connection(text),
            },
            CallError::Hotkey(_) => Self::Handshake(text),
            CallError::NotStarted
            | CallError::Address(_)
            | CallError::UnknownPeer(_)
            | CallError::Closed(_)
            | CallError::ConnectionLimit { .. }
            | CallError::TimedOut { phase: Phase::Connecting, .. } => Self::Connection(text),
            CallError::Encode(_) | CallError::Decode(_) => Self::Serialization(text),
            CallError::Rejected(_) => Self::Handler(text),
            CallError::TimedOut { phase: Phase::Chunk | Phase::Stream, .. }
            | CallError::StreamOver
            | CallError::StreamTooLarge { .. } => Self::Stream(text),
            CallError::TimedOut { .. }
            | CallError::ConnectionLost { .. }
            | CallError::Frame(_)
            | CallError::UnexpectedMessage(_) => Self::Transport(text),
        }
    }
}
