//! What a Python thread or an event loop is given to do.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use btlightning::SourceAllowlist;
use btlightning::server::{Call, ChunkSender, HandlerError, Response};
use tokio::sync::oneshot;

use super::entry::Entry;

pub(super) struct Job {
    pub(super) entry: Arc<Entry>,
    pub(super) given: Given,
    pub(super) reply: Reply,
}

/// What the callable is given.
pub(super) enum Given {
    Request(Call),
    /// A validator has authenticated.
    Handshake {
        hotkey: String,
        ip: IpAddr,
    },
    Nothing,
}

/// Where the outcome goes. Dropped, it says that there is none.
pub(super) enum Reply {
    Once(oneshot::Sender<Result<Response, HandlerError>>),
    Chunks {
        chunks: ChunkSender,
        end: oneshot::Sender<Result<(), HandlerError>>,
    },
    /// Only that it is over.
    Over(oneshot::Sender<()>),
    Permits(oneshot::Sender<Result<HashSet<String>, String>>),
    Sources(oneshot::Sender<Result<SourceAllowlist, String>>),
}

impl Reply {
    /// Whether whoever asked still waits.
    pub(super) fn is_wanted(&self) -> bool {
        match self {
            Self::Once(reply) => !reply.is_closed(),
            Self::Chunks { end, .. } => !end.is_closed(),
            Self::Over(reply) => !reply.is_closed(),
            Self::Permits(reply) => !reply.is_closed(),
            Self::Sources(reply) => !reply.is_closed(),
        }
    }

    /// Says that there is no outcome. Python has logged what becomes of a request; a resolver's words are logged by the core.
    pub(super) fn fail(self, words: String) {
        // An error means that nobody waits any more.
        match self {
            Self::Once(reply) => drop(reply.send(Err(HandlerError::from(words).logged()))),
            Self::Chunks { end, .. } => drop(end.send(Err(HandlerError::from(words).logged()))),
            Self::Over(reply) => reply.send(()).unwrap_or_default(),
            Self::Permits(reply) => drop(reply.send(Err(words))),
            Self::Sources(reply) => drop(reply.send(Err(words))),
        }
    }
}
