//! Points in time: MessagePack's extension type -1, and Python's aware `datetime`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::fault::Fault;

/// The extension's code.
pub(super) const CODE: i8 = -1;

const NANOS_PER_SECOND: u32 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// The years 1 to 9999, which are all that Python has.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

pub(super) fn is_datetime(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    value.is_instance(DATETIME.import(value.py(), "datetime", "datetime")?)
}

/// The body of the extension: the smallest of the three forms that holds the time.
pub(super) fn encode(datetime: &Bound<'_, PyAny>) -> Result<Body, Fault> {
    let py = datetime.py();
    if datetime.call_method0(intern!(py, "utcoffset"))?.is_none() {
        let what = "a datetime without a timezone is no point in time; give it one, as in datetime.now(timezone.utc)";
        return Err(Fault::Unsupported(what.into()));
    }
    let since = datetime.sub(epoch(py)?)?;
    let days: i64 = since.getattr(intern!(py, "days"))?.extract()?;
    let seconds: i64 = since.getattr(intern!(py, "seconds"))?.extract()?;
    let micros: u32 = since.getattr(intern!(py, "microseconds"))?.extract()?;
    // pandas' subclass has three digits more.
    let nanos = match datetime.getattr_opt(intern!(py, "nanosecond"))? {
        Some(nanos) => nanos.extract()?,
        None => 0_u32,
    };
    Ok(Body::new(days * SECONDS_PER_DAY + seconds, micros * 1000 + nanos))
}

/// The bytes of an extension, without a heap.
pub(super) struct Body {
    bytes: [u8; 12],
    length: usize,
}

impl Body {
    fn new(seconds: i64, nanos: u32) -> Self {
        let mut body = Self { bytes: [0; 12], length: 12 };
        match u64::try_from(seconds) {
            Ok(seconds) if seconds >> 34 == 0 => match (u32::try_from(seconds), nanos) {
                (Ok(seconds), 0) => body.put(&seconds.to_be_bytes()),
                _ => body.put(&(u64::from(nanos) << 34 | seconds).to_be_bytes()),
            },
            _ => {
                body.bytes[..4].copy_from_slice(&nanos.to_be_bytes());
                body.bytes[4..].copy_from_slice(&seconds.to_be_bytes());
            }
        }
        body
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.length = bytes.len();
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// An aware `datetime` in UTC; what it has beyond microseconds is cut off. `None` for a body of no known form, and for a
/// time that Python cannot say.
pub(super) fn decode<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    static TIMEDELTA: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let Some((seconds, nanos)) = seconds_and_nanos(body) else { return Ok(None) };
    if nanos >= NANOS_PER_SECOND || !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        return Ok(None);
    }
    let since = TIMEDELTA.import(py, "datetime", "timedelta")?.call1((0, seconds, nanos / 1000))?;
    epoch(py)?.add(since).map(Some)
}

fn seconds_and_nanos(body: &[u8]) -> Option<(i64, u32)> {
    if let Ok(seconds) = body.try_into().map(u32::from_be_bytes) {
        return Some((seconds.into(), 0));
    }
    if let Ok(both) = body.try_into().map(u64::from_be_bytes) {
        let seconds = both & ((1 << 34) - 1);
        return Some((i64::try_from(seconds).ok()?, u32::try_from(both >> 34).ok()?));
    }
    let (nanos, seconds) = body.split_first_chunk()?;
    Some((i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(*nanos)))
}

/// 1970-01-01 in UTC.
fn epoch(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static EPOCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = || -> PyResult<Py<PyAny>> {
        let module = py.import("datetime")?;
        let utc = module.getattr("timezone")?.getattr("utc")?;
        Ok(module.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, utc))?.unbind())
    };
    Ok(EPOCH.get_or_try_init(py, make)?.bind(py))
}
