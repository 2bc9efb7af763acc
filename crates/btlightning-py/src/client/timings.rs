//! Where the time of a query went.

use btlightning::Timings as Measured;
use pyo3::prelude::*;

/// Where the time of a query went, in seconds.
#[pyclass(frozen, get_all, module = "btlightning._native")]
#[derive(Clone, Copy)]
pub(crate) struct Timings {
    waited: f64,
    sent: f64,
    first_byte: f64,
    last_byte: f64,
    path_rtt: f64,
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
