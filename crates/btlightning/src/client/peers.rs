//! The state of every peer, to read and to subscribe to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning_proto::identity::Hotkey;
use btlightning_proto::peers::PeerAddr;
use tokio::sync::broadcast;

use super::dial_error::DialError;

/// How many changes a subscriber may fall behind before it is told that it [lagged](PeerChangesLagged).
pub const PEER_CHANGES_MAX: usize = 1024;

/// How things stand with one miner.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeerState {
    /// A dial is under way; queries wait for it.
    Connecting {
        /// The number of this dial since the last connection, from 1.
        attempt: u32,
    },
    /// The miner's hotkey is proven on a live connection.
    Connected {
        /// Since when.
        since: Instant,
        /// The path's round-trip time, as QUIC has measured it.
        path_rtt: Duration,
    },
    /// The last dial failed, or the connection was lost; the next dial is due.
    BackingOff {
        /// When the next dial begins. `None`: not before the registry names the miner again.
        until: Option<Instant>,
        /// How many dials have failed since the last connection.
        failures: u32,
        /// Why the last one failed.
        reason: Arc<DialError>,
    },
    /// The peer answered, and the answer was no: it refused this validator, or it is not who it should be.
    Refused {
        /// When it is asked again. `None`: not before the registry names the miner again.
        until: Option<Instant>,
        /// What it said, or what was wrong with it.
        reason: Arc<DialError>,
    },
    /// It is no longer wanted, or the client was closed.
    Closed,
}

impl PeerState {
    /// Whether a query to the peer would be sent at once.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// The state as one stable word, for metrics and logs: `connecting`, `connected`, `backing_off`, `refused`,
    /// `closed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting { .. } => "connecting",
            Self::Connected { .. } => "connected",
            Self::BackingOff { .. } => "backing_off",
            Self::Refused { .. } => "refused",
            Self::Closed => "closed",
        }
    }
}

/// One miner and how things stand with it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peer {
    /// The miner's hotkey.
    pub hotkey: Hotkey,
    /// Where it is said to be.
    pub addr: PeerAddr,
    /// How things stand with it.
    pub state: PeerState,
}

/// A subscription to the changes of every peer's state. Made by
/// [`LightningClient::peer_changes`](crate::LightningClient::peer_changes).
#[derive(Debug)]
pub struct PeerChanges {
    receiver: broadcast::Receiver<Peer>,
}

/// The subscriber was too slow: `missed` changes are gone. Read [`peers`](crate::LightningClient::peers) for how things
/// stand now, and go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{missed} changes of peer states were missed")]
pub struct PeerChangesLagged {
    /// How many changes were missed.
    pub missed: u64,
}

impl PeerChanges {
    /// The next change; `None` once the client is gone. Waits without a limit. Cancel-safe: no change is lost when the
    /// future is dropped.
    ///
    /// # Errors
    /// [`PeerChangesLagged`] when more than [`PEER_CHANGES_MAX`] changes were not read in time; the next call goes on
    /// with the oldest that is still there.
    pub async fn next(&mut self) -> Option<Result<Peer, PeerChangesLagged>> {
        match self.receiver.recv().await {
            Ok(peer) => Some(Ok(peer)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(PeerChangesLagged { missed })),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Where changes are announced.
#[derive(Debug)]
pub(crate) struct PeerFeed {
    sender: broadcast::Sender<Peer>,
}

impl PeerFeed {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(PEER_CHANGES_MAX) }
    }

    /// Announces a change. Nobody listening is fine.
    pub(crate) fn announce(&self, peer: Peer) {
        let _ = self.sender.send(peer);
    }

    pub(crate) fn subscribe(&self) -> PeerChanges {
        PeerChanges { receiver: self.sender.subscribe() }
    }
}
