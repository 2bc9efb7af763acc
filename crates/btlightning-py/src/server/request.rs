//! A job in Python's hands.
//!
//! Python calls the callable, not this: when the interpreter exits, CPython before 3.14 unwinds a thread that is in the
//! middle of Python code, and must not meet a frame of Rust's on the way.

use std::sync::{Arc, Mutex, PoisonError};

use btlightning::server::{ChunkError, ChunkSender, Response};
use bytes::Bytes;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::caller::Caller;
use super::entry::Entry;
use super::job::{Given, Job, Reply};
use super::{chunks, resolvers};
use crate::bridge::{self, On};
use crate::kept;
use crate::process::{self, Here};
use crate::{errors, values};

/// One call of a callable, for a request of a peer's or a question of the server's. Dropped without an answer, whoever
/// asked is told that it failed.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Request {
    /// `once`, `chunks`, `observe` or `resolve`.
    #[pyo3(get)]
    kind: &'static str,
    entry: Arc<Entry>,
    /// What is left to do. The lock is never held while Python runs.
    open: Here<Mutex<Open>>,
}

struct Open {
    given: Option<Given>,
    reply: Option<Reply>,
}

impl Request {
    pub(super) fn new(job: Job) -> Self {
        let Job { entry, given, reply } = job;
        let kind = match &reply {
            Reply::Once(_) => "once",
            Reply::Chunks { .. } => "chunks",
            Reply::Over(_) => "observe",
            Reply::Permits(_) | Reply::Sources(_) => "resolve",
        };
        let open = Open { given: Some(given), reply: Some(reply) };
        Self { kind, entry, open: Here::new(Mutex::new(open)) }
    }

    fn open<T>(&self, look: impl FnOnce(&mut Open) -> T) -> PyResult<T> {
        Ok(look(&mut self.open.get()?.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn chunks(&self) -> PyResult<ChunkSender> {
        let chunks = self.open(|open| match &open.reply {
            Some(Reply::Chunks { chunks, .. }) => Some(chunks.clone()),
            _ => None,
        })?;
        chunks.ok_or_else(over)
    }
}

#[pymethods]
impl Request {
    /// What the callable is called in the log.
    #[getter]
    fn name(&self) -> &str {
        &self.entry.name
    }

    /// The callable.
    #[getter]
    fn function(&self, py: Python<'_>) -> Py<PyAny> {
        self.entry.function.clone_ref(py)
    }

    /// Whether whoever asked still waits.
    #[getter]
    fn is_wanted(&self) -> bool {
        self.open(|open| open.reply.as_ref().is_some_and(Reply::is_wanted)).unwrap_or(false)
    }

    /// What the callable is given.
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let _inside = process::Waiting::begin();
        match self.open(|open| open.given.take())?.ok_or_else(over)? {
            Given::Request(call) => {
                let data = values::decode_map(py, call.data())?;
                match self.entry.wants_caller {
                    false => (data,).into_pyobject(py),
                    true => (data, Caller::of(py, &call)?).into_pyobject(py),
                }
            }
            Given::Handshake { hotkey, ip } => (hotkey, ip.to_string()).into_pyobject(py),
            Given::Nothing => Ok(PyTuple::empty(py)),
        }
    }

    /// Answers; of what streams, ends the stream. Raises if the answer is none that can be sent; then it is not answered.
    fn answer(&self, answer: &Bound<'_, PyAny>) -> PyResult<()> {
        let _inside = process::Waiting::begin();
        // While the interpreter exits nobody hears it any more.
        let Ok(reply) = self.open(|open| open.reply.take()) else { return Ok(()) };
        let refused = match reply.ok_or_else(over)? {
            // An error of any `send` means that nobody waits any more.
            Reply::Once(reply) => match Response::encode_raw(|out| values::encode_map(answer, out)) {
                Ok(response) => {
                    let _ = reply.send(Ok(response));
                    None
                }
                Err(refused) => Some((Reply::Once(reply), refused.into_pyerr())),
            },
            Reply::Chunks { end, .. } => {
                let _ = end.send(Ok(()));
                None
            }
            Reply::Over(reply) => {
                let _ = reply.send(());
                None
            }
            Reply::Permits(reply) => match resolvers::hotkeys(answer) {
                Ok(hotkeys) => {
                    let _ = reply.send(Ok(hotkeys));
                    None
                }
                Err(error) => Some((Reply::Permits(reply), error)),
            },
            Reply::Sources(reply) => match resolvers::sources(answer) {
                Ok(sources) => {
                    let _ = reply.send(Ok(sources));
                    None
                }
                Err(error) => Some((Reply::Sources(reply), error)),
            },
        };
        let Some((reply, error)) = refused else { return Ok(()) };
        self.open(|open| open.reply = Some(reply))?;
        Err(error)
    }

    /// Sends a chunk if there is room for it at once; whether it did.
    fn try_send(&self, chunk: &Bound<'_, PyAny>) -> PyResult<bool> {
        kept::sweep(chunk.py());
        match chunks::try_send(&self.chunks()?, bytes_of(chunk)?) {
            None | Some(Err(ChunkError::CallerGone)) => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(too_large(error)),
        }
    }

    /// Sends a chunk as soon as there is room for it; false if nobody reads any more.
    #[pyo3(signature = (chunk, on = None))]
    fn send(&self, py: Python<'_>, chunk: &Bound<'_, PyAny>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let bytes = bytes_of(chunk)?;
        let chunks = self.chunks()?;
        let sending = async move { chunks.send(bytes).await };
        let sent = bridge::run(py, on, sending, |py, sent| match sent {
            Ok(()) => true.into_py_any(py),
            Err(ChunkError::CallerGone) => false.into_py_any(py),
            Err(error) => Err(too_large(error)),
        });
        // While the interpreter exits nobody reads any more.
        if process::check_here().is_err() {
            return false.into_py_any(py);
        }
        sent
    }

    /// Says that there is no answer, and that the log knows why.
    fn fail(&self, words: String) {
        if let Ok(Some(reply)) = self.open(|open| open.reply.take()) {
            reply.fail(words);
        }
    }
}

fn bytes_of(chunk: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let _inside = process::Waiting::begin();
    chunks::bytes_of(chunk)
}

fn too_large(error: ChunkError) -> PyErr {
    errors::serialization(error.to_string())
}

fn over() -> PyErr {
    PyRuntimeError::new_err("the request is answered already")
}
