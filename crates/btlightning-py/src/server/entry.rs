//! A Python callable that answers requests, and how it wants to be called.

use btlightning::server::{Call, HandlerError, Response};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, intern};

use super::caller::Caller;
use super::job::Given;
use crate::values;

/// What a callable that is told of handshakes is called in the log.
pub(super) const OBSERVER: &str = "the handshake observer";

/// A callable of the program's.
pub(super) struct Entry {
    /// What it is called in the log.
    name: String,
    function: Py<PyAny>,
    /// Makes of a request's map what the callable is given. Without it, that is the map.
    convert: Option<Py<PyAny>>,
    caller: TellsCaller,
}

/// How a callable is told who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TellsCaller {
    Not,
    Second,
    Keyword,
}

impl<'py> FromPyObject<'_, 'py> for TellsCaller {
    type Error = PyErr;

    fn extract(word: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match word.extract::<&str>()? {
            "not" => Ok(Self::Not),
            "second" => Ok(Self::Second),
            "keyword" => Ok(Self::Keyword),
            other => Err(pyo3::exceptions::PyValueError::new_err(other.to_owned())),
        }
    }
}

impl Entry {
    pub(super) fn new(
        name: String,
        function: Py<PyAny>,
        convert: Option<Py<PyAny>>,
        caller: TellsCaller,
    ) -> Self {
        Self { name, function, convert, caller }
    }

    /// Calls the callable. Of a coroutine function or a generator, what it returns has not begun.
    pub(super) fn begin<'py>(&self, py: Python<'py>, given: Given) -> Result<Bound<'py, PyAny>, Failure> {
        let function = self.function.bind(py);
        match given {
            Given::Request(call) => self.answer(py, call),
            Given::Handshake { hotkey, ip } => {
                function.call1((hotkey, ip.to_string())).map_err(Failure::Raised)
            }
        }
    }

    fn answer<'py>(&self, py: Python<'py>, call: Call) -> Result<Bound<'py, PyAny>, Failure> {
        let data = values::decode_map(py, call.data()).map_err(Failure::Request)?;
        let caller = match self.caller {
            TellsCaller::Not => None,
            TellsCaller::Second | TellsCaller::Keyword => {
                Some(Caller::of(py, &call).map_err(Failure::Raised)?)
            }
        };
        // Its frame is not needed while the handler works.
        drop(call);
        let request = match &self.convert {
            None => data.into_any(),
            Some(convert) => convert.bind(py).call1((data,)).map_err(Failure::Request)?,
        };
        let function = self.function.bind(py);
        let answer = match caller {
            None => function.call1((request,)),
            Some(caller) if self.caller == TellsCaller::Second => function.call1((request, caller)),
            Some(caller) => {
                let keywords = PyDict::new(py);
                keywords
                    .set_item(intern!(py, "caller"), caller)
                    .and_then(|()| function.call((request,), Some(&keywords)))
            }
        };
        answer.map_err(Failure::Raised)
    }

    /// What the callable has answered, in its frame.
    pub(super) fn encode(&self, answer: &Bound<'_, PyAny>) -> Result<Response, Failure> {
        Response::encode_raw(|out| values::encode_map(answer, out))
            .map_err(|refused| Failure::Answer(not_awaited(answer).unwrap_or_else(|| refused.into_pyerr())))
    }

    /// Logs a failure, and makes of it what the server is told.
    pub(super) fn failed(&self, py: Python<'_>, failure: &Failure) -> HandlerError {
        let (stage, error) = match failure {
            Failure::Request(error) => ("request", error),
            Failure::Raised(error) => ("handler", error),
            Failure::Answer(error) => ("answer", error),
        };
        if let Err(unlogged) = log(py, &self.name, stage, error) {
            unlogged.write_unraisable(py, None);
        }
        // Whatever it was, the caller reads that its request failed, as with the published package.
        HandlerError::from("a Python handler failed").logged()
    }

    /// Lets the garbage collector see what this holds.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.convert)
    }
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The request is not what the handler takes.
    Request(PyErr),
    Raised(PyErr),
    /// What the handler gave cannot be sent.
    Answer(PyErr),
}

/// What to say of an answer that somebody should have awaited. Such a function does not show that it is a coroutine's.
fn not_awaited(answer: &Bound<'_, PyAny>) -> Option<PyErr> {
    let py = answer.py();
    if !answer.hasattr(intern!(py, "__await__")).unwrap_or(false) {
        return None;
    }
    // Or Python would warn that it was never awaited.
    let _ = answer.call_method0(intern!(py, "close"));
    Some(PyTypeError::new_err(
        "the handler is a plain function and returned an awaitable; make it an `async def`, or, if it wraps one, use \
         functools.wraps",
    ))
}

fn log(py: Python<'_>, name: &str, stage: &str, error: &PyErr) -> PyResult<()> {
    static LOG: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let log = LOG.get_or_try_init(py, || {
        let module = py.import("btlightning._handlers")?;
        PyResult::Ok(module.getattr("log_failure")?.unbind())
    })?;
    log.bind(py).call1((name, stage, error.value(py)))?;
    Ok(())
}
