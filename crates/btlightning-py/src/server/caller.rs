//! Who asks, as a handler is told.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use btlightning::server::Call;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Who asks, and until when an answer is of use. What a handler gets as its second argument, if it takes one.
///
/// Programs make one themselves only to test their handlers.
#[pyclass(frozen, module = "btlightning")]
pub(crate) struct Caller {
    /// The validator's hotkey, in SS58. It has proven to hold it.
    #[pyo3(get)]
    hotkey: String,
    address: (IpAddr, u16),
    /// A number that tells this server's connections apart.
    #[pyo3(get)]
    connection: u64,
    /// The name that the handler was called by.
    #[pyo3(get)]
    synapse_type: String,
    /// When the whole request was there, on the clock of `time.monotonic()`, in seconds.
    #[pyo3(get)]
    received_at: f64,
    /// When the caller is told `handler timed out`, on the clock of `time.monotonic()`, in seconds.
    #[pyo3(get)]
    deadline: f64,
}

#[pymethods]
impl Caller {
    #[new]
    #[pyo3(signature = (hotkey, address = ("127.0.0.1".to_owned(), 0), *, connection = 0, synapse_type = String::new(),
                        received_at = None, deadline = None))]
    fn new(
        py: Python<'_>,
        hotkey: String,
        address: (String, u16),
        connection: u64,
        synapse_type: String,
        received_at: Option<f64>,
        deadline: Option<f64>,
    ) -> PyResult<Self> {
        let ip = address.0.parse::<IpAddr>().map_err(|error| {
            pyo3::exceptions::PyValueError::new_err(format!("{:?} is no IP address: {error}", address.0))
        })?;
        let received_at = match received_at {
            Some(received_at) => received_at,
            None => monotonic_now(py)?,
        };
        let deadline = deadline.unwrap_or(f64::INFINITY);
        Ok(Self { hotkey, address: (ip, address.1), connection, synapse_type, received_at, deadline })
    }

    /// The IP address and port that the connection comes from at the moment.
    #[getter]
    fn address(&self) -> (String, u16) {
        (self.address.0.to_string(), self.address.1)
    }

    /// How many seconds are left until the deadline; 0.0 once it has passed.
    #[getter]
    fn remaining(&self, py: Python<'_>) -> PyResult<f64> {
        Ok((self.deadline - monotonic_now(py)?).max(0.0))
    }

    fn __repr__(&self) -> String {
        let Self { hotkey, address: (ip, port), connection, .. } = self;
        format!("Caller(hotkey={hotkey:?}, address=({:?}, {port}), connection={connection})", ip.to_string())
    }
}

impl Caller {
    pub(super) fn of(py: Python<'_>, call: &Call) -> PyResult<Self> {
        let caller = call.caller();
        let SocketAddrParts(ip, port) = caller.remote_addr.into();
        let clock = clock(py)?;
        Ok(Self {
            hotkey: caller.hotkey.to_string(),
            address: (ip, port),
            connection: caller.connection.0,
            synapse_type: call.synapse_type().to_owned(),
            received_at: clock.reading_at(caller.received_at),
            deadline: clock.reading_at(caller.deadline),
        })
    }
}

/// An address with IPv4 as IPv4, also where the socket is one of IPv6 that serves both.
struct SocketAddrParts(IpAddr, u16);

impl From<SocketAddr> for SocketAddrParts {
    fn from(addr: SocketAddr) -> Self {
        Self(addr.ip().to_canonical(), addr.port())
    }
}

/// What `time.monotonic()` read at one moment. Both clocks are the same one of the system.
struct Clock {
    instant: Instant,
    reading: f64,
}

impl Clock {
    fn reading_at(&self, instant: Instant) -> f64 {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.reading + after.as_secs_f64(),
            None => self.reading - self.instant.duration_since(instant).as_secs_f64(),
        }
    }
}

fn clock(py: Python<'_>) -> PyResult<&'static Clock> {
    static CLOCK: PyOnceLock<Clock> = PyOnceLock::new();
    CLOCK.get_or_try_init(py, || Ok(Clock { reading: monotonic_now(py)?, instant: Instant::now() }))
}

fn monotonic_now(py: Python<'_>) -> PyResult<f64> {
    py.import(intern!(py, "time"))?.call_method0(intern!(py, "monotonic"))?.extract()
}
