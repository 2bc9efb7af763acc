//! What a Python thread or an event loop is given to do.

use std::net::IpAddr;
use std::sync::Arc;

use btlightning::server::{Call, ChunkSender, HandlerError, Response};
use pyo3::prelude::*;
use tokio::sync::oneshot;

use super::chunks;
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
}

impl Job {
    /// Does it, on a thread where it may block.
    pub(super) fn run(self, py: Python<'_>) {
        let Self { entry, given, reply } = self;
        if reply.is_unwanted() {
            return;
        }
        let outcome = match entry.begin(py, given) {
            Ok(outcome) => outcome,
            Err(failure) => return reply.fail(entry.failed(py, &failure)),
        };
        match reply {
            Reply::Once(reply) => {
                let answer = entry.encode(&outcome).map_err(|failure| entry.failed(py, &failure));
                // An error means that nobody waits any more.
                let _ = reply.send(answer);
            }
            Reply::Chunks { chunks, end } => {
                let ended = chunks::send_all(py, &outcome, &chunks, &end);
                drop(chunks);
                let _ = end.send(ended.map_err(|failure| entry.failed(py, &failure)));
            }
            Reply::Over(reply) => {
                let _ = reply.send(());
            }
        }
    }
}

impl Reply {
    /// Whether whoever asked has gone, or its time is up.
    pub(super) fn is_unwanted(&self) -> bool {
        match self {
            Self::Once(reply) => reply.is_closed(),
            Self::Chunks { end, .. } => end.is_closed(),
            Self::Over(reply) => reply.is_closed(),
        }
    }

    pub(super) fn fail(self, error: HandlerError) {
        // An error means that nobody waits any more.
        match self {
            Self::Once(reply) => drop(reply.send(Err(error))),
            Self::Chunks { end, .. } => drop(end.send(Err(error))),
            Self::Over(reply) => drop(reply.send(())),
        }
    }
}
