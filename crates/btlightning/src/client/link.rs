//! A connection that has proven whose it is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use btlightning_proto::identity::Hotkey;
use quinn::Connection;

use super::ends::Ends;
use crate::transport::io::Lane;

/// A live connection and whose it is.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// Where the connection lives.
    pub(crate) lane: Lane,
    /// The only hotkey that this connection is good for.
    pub(crate) proven: Hotkey,
    pub(crate) since: Instant,
    /// The streams that the miner did not end.
    pub(crate) ends: Ends,
    is_lost: AtomicBool,
    /// Calls that wait for its thread.
    waiting: AtomicUsize,
}

impl Link {
    pub(crate) fn new(connection: Connection, lane: Lane, proven: Hotkey) -> Self {
        Self {
            connection,
            lane,
            proven,
            since: Instant::now(),
            ends: Ends::default(),
            is_lost: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Notes that a call waits for the link's thread. True if it is the only one.
    pub(crate) fn note_asked(&self) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Notes that a call waits no longer.
    pub(crate) fn note_answered(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that the connection has ended.
    pub(crate) fn note_lost(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is known to have ended.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}
