//! Where the time of a query went.

use btlightning::Timings as Measured;
use pyo3::prelude::*;

/// Where the time of a call went, in seconds. `waited` and `sent` are this validator's own and the path's; `first_byte` and
/// `last_byte` are counted from the moment the request had gone out.
#[pyclass(frozen, get_all, module = "btlightning._native")]
#[derive(Clone, Copy)]
pub(crate) struct Timings {
    /// How long the call waited for a connection and for a stream on it, before anything was sent.
    waited: f64,
    /// From then until QUIC had taken the whole request: next to nothing for a small one; for a large one as long as its
    /// turn on a busy connection and the peer's flow control took.
    sent: f64,
    /// From then until the first byte of the answer was read.
    first_byte: f64,
    /// From the same moment until the last byte of the answer was read; of a stream, of its last chunk so far. Score a miner
    /// by this figure. What is in it beside the miner's work: the path there and back (`path_rtt`), and, of a request larger
    /// than the path takes at once, its last bytes' way.
    last_byte: f64,
    /// The path's round-trip time of late, as QUIC has measured and smoothed it. Includes what packets have to wait at either
    /// end.
    path_rtt: f64,
    /// The shortest round trip that the path has made: its length, with nobody waiting.
    path_rtt_min: f64,
}

impl From<Measured> for Timings {
    fn from(measured: Measured) -> Self {
        Self {
            waited: measured.waited.as_secs_f64(),
            sent: measured.sent.as_secs_f64(),
            first_byte: measured.first_byte.as_secs_f64(),
            last_byte: measured.last_byte.as_secs_f64(),
            path_rtt: measured.path_rtt.as_secs_f64(),
            path_rtt_min: measured.path_rtt_min.as_secs_f64(),
        }
    }
}

#[pymethods]
impl Timings {
    fn __repr__(&self) -> String {
        let Self { waited, sent, first_byte, last_byte, path_rtt, path_rtt_min } = self;
        format!(
            "Timings(waited={waited:.6}, sent={sent:.6}, first_byte={first_byte:.6}, last_byte={last_byte:.6}, \
             path_rtt={path_rtt:.6}, path_rtt_min={path_rtt_min:.6})"
        )
    }
}
