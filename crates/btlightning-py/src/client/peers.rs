//! How things stand with every miner.

use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning::{Hotkey, Peer as State, PeerChanges as Changes, PeerChangesLagged, PeerState};
use pyo3::prelude::*;
use tokio::sync::Mutex;

use super::Client;
use crate::bridge::{self, On};
use crate::process::Here;

/// One miner, and how things stood with it when this was made. Times are in seconds.
#[pyclass(frozen, get_all, module = "btlightning._native")]
pub(crate) struct Peer {
    /// The miner's hotkey, in SS58.
    hotkey: String,
    /// Where it is, as `ip:port`.
    address: String,
    /// `connecting`: a dial is under way, and queries wait for it. `connected`: the hotkey is proven on a live connection.
    /// `backing_off`: the last dial failed, or the connection was lost. `refused`: the peer refused this validator, or is not
    /// who it should be. `closed`: it is no longer wanted, or the client was closed.
    state: &'static str,
    /// How long it had been connected; `None` if it was not.
    connected_for: Option<f64>,
    /// The path's round-trip time, as QUIC has measured it; `None` if it was not connected.
    path_rtt: Option<f64>,
    /// How many dials have failed since the last connection.
    failures: u32,
    /// In how long the next dial was due. `None`: not before the miner is named again, or one was under way.
    retry_in: Option<f64>,
    /// Why there was no connection, as one stable word; `None` unless `backing_off` or `refused`.
    reason: Option<&'static str>,
    /// The same in a sentence, or `None`.
    detail: Option<String>,
}

#[pymethods]
impl Peer {
    /// Whether a query would be sent at once.
    #[getter]
    fn connected(&self) -> bool {
        self.state == "connected"
    }

    fn __repr__(&self) -> String {
        let Self { hotkey, address, state, .. } = self;
        let why = self.detail.as_deref().map(|detail| format!(", detail={detail:?}")).unwrap_or_default();
        format!("Peer(hotkey={hotkey:?}, address={address:?}, state={state:?}{why})")
    }
}

impl From<State> for Peer {
    fn from(peer: State) -> Self {
        let until = |until: &Option<Instant>| {
            until.map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64())
        };
        let mut seen = Self {
            hotkey: peer.hotkey.to_string(),
            address: peer.addr.to_string(),
            state: peer.state.as_str(),
            connected_for: None,
            path_rtt: None,
            failures: 0,
            retry_in: None,
            reason: None,
            detail: None,
        };
        match &peer.state {
            PeerState::Connected { since, path_rtt } => {
                seen.connected_for = Some(since.elapsed().as_secs_f64());
                seen.path_rtt = Some(path_rtt.as_secs_f64());
            }
            PeerState::Connecting { attempt } => seen.failures = attempt.saturating_sub(1),
            PeerState::BackingOff { until: retry, failures, reason } => {
                (seen.failures, seen.retry_in) = (*failures, until(retry));
                (seen.reason, seen.detail) = (Some(reason.reason()), Some(reason.to_string()));
            }
            PeerState::Refused { until: retry, reason } => {
                seen.retry_in = until(retry);
                (seen.reason, seen.detail) = (Some(reason.reason()), Some(reason.to_string()));
            }
            _ => {}
        }
        seen
    }
}

/// A subscription to the changes of every peer's state.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct PeerChanges {
    changes: Here<Arc<Mutex<Changes>>>,
}

#[pymethods]
impl PeerChanges {
    /// The next change; the number of changes that were missed; or `None`, once the client is gone or the time is up.
    #[pyo3(signature = (timeout=None, on=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let changes = self.changes.get()?.clone();
        let timeout = super::seconds("timeout", timeout)?.unwrap_or(Duration::MAX);
        let next = async move {
            let next = async { changes.lock().await.next().await };
            tokio::time::timeout(timeout, next).await.ok().flatten()
        };
        bridge::run(py, on, next, |py, next| match next {
            Some(Ok(peer)) => Ok(Py::new(py, Peer::from(peer))?.into_any()),
            Some(Err(PeerChangesLagged { missed })) => Ok(missed.into_pyobject(py)?.into_any().unbind()),
            None => Ok(py.None()),
        })
    }
}

#[pymethods]
impl Client {
    /// How things stand with every miner.
    fn peers(&self) -> PyResult<Vec<Peer>> {
        Ok(self.inner.get()?.peers().into_iter().map(Peer::from).collect())
    }

    /// How things stand with one miner; `None` if it is not wanted.
    fn peer(&self, hotkey: &str) -> PyResult<Option<Peer>> {
        // What is no hotkey is nobody's.
        let Ok(hotkey) = hotkey.parse::<Hotkey>() else { return Ok(None) };
        Ok(self.inner.get()?.peers().into_iter().find(|peer| peer.hotkey == hotkey).map(Peer::from))
    }

    /// Every change from now on.
    fn peer_changes(&self) -> PyResult<PeerChanges> {
        let changes = self.inner.get()?.peer_changes();
        Ok(PeerChanges { changes: Here::new(Arc::new(Mutex::new(changes))) })
    }
}
