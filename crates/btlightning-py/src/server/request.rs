//! A job in an event loop's hands.

use std::sync::{Arc, Mutex, PoisonError};

use btlightning::server::{ChunkError, ChunkSender};
use bytes::Bytes;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::chunks;
use super::entry::{Entry, Failure};
use super::job::{Given, Job, Reply};
use crate::bridge::{self, On};
use crate::process::Here;

/// One request that a task answers. Dropped without an answer, its caller is told that the handler failed.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct Request {
    /// Whether it is answered in chunks.
    #[pyo3(get)]
    streams: bool,
    entry: Arc<Entry>,
    /// What is left to do. The lock is never held while Python runs.
    open: Here<Mutex<Open>>,
}

struct Open {
    given: Option<Given>,
    reply: Option<Reply>,
    stage: Stage,
}

/// Where it is that something goes wrong.
#[derive(Clone, Copy)]
enum Stage {
    Request,
    Handler,
    Answer,
}

impl Request {
    pub(super) fn new(job: Job) -> Self {
        let Job { entry, given, reply } = job;
        let streams = matches!(reply, Reply::Chunks { .. });
        let open = Open { given: Some(given), reply: Some(reply), stage: Stage::Handler };
        Self { streams, entry, open: Here::new(Mutex::new(open)) }
    }

    fn open<T>(&self, look: impl FnOnce(&mut Open) -> T) -> PyResult<T> {
        Ok(look(&mut self.open.get()?.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What is to be sent, and where.
    fn chunk(&self, chunk: &Bound<'_, PyAny>) -> PyResult<(Bytes, ChunkSender)> {
        let bytes = chunks::bytes_of(chunk).inspect_err(|_| self.blame_answer())?;
        let chunks = self.open(|open| match &open.reply {
            Some(Reply::Chunks { chunks, .. }) => Some(chunks.clone()),
            _ => None,
        })?;
        Ok((bytes, chunks.ok_or_else(over)?))
    }

    /// An answer that cannot be sent is why the request is about to fail.
    fn blame_answer(&self) {
        // In a forked child nothing is left to be blamed.
        let _ = self.open(|open| open.stage = Stage::Answer);
    }
}

#[pymethods]
impl Request {
    /// Calls the handler. What it returns is to be awaited or iterated, if it can be.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let given = self.open(|open| open.given.take())?.ok_or_else(over)?;
        match self.entry.begin(py, given) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Request(error)) => {
                self.open(|open| open.stage = Stage::Request)?;
                Err(error)
            }
            Err(Failure::Raised(error) | Failure::Answer(error)) => Err(error),
        }
    }

    /// Answers; of a streaming handler, ends the stream.
    fn answer(&self, answer: &Bound<'_, PyAny>) -> PyResult<()> {
        // An error of any of these means that nobody waits any more.
        match self.open(|open| open.reply.take())?.ok_or_else(over)? {
            Reply::Once(reply) => {
                let encoded = self.entry.encode(answer);
                let _ = reply.send(encoded.map_err(|failure| self.entry.failed(answer.py(), &failure)));
            }
            Reply::Chunks { end, .. } => drop(end.send(Ok(()))),
            Reply::Over(reply) => drop(reply.send(())),
        }
        Ok(())
    }

    /// Sends a chunk if there is room for it at once; whether it did.
    fn try_send(&self, chunk: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (bytes, chunks) = self.chunk(chunk)?;
        match chunks::try_send(&chunks, bytes) {
            None | Some(Err(ChunkError::CallerGone)) => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => {
                self.blame_answer();
                Err(chunks::refused(error))
            }
        }
    }

    /// Sends a chunk as soon as there is room for it; false if nobody reads any more.
    fn send(&self, py: Python<'_>, chunk: &Bound<'_, PyAny>, on: On) -> PyResult<Py<PyAny>> {
        let (bytes, chunks) = self.chunk(chunk)?;
        let sending = async move { chunks.send(bytes).await };
        bridge::run(py, Some(on), sending, |py, sent| match sent {
            Ok(()) => true.into_py_any(py),
            Err(ChunkError::CallerGone) => false.into_py_any(py),
            Err(error) => Err(chunks::refused(error)),
        })
    }

    /// Says that the handler failed, and logs why.
    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let (reply, stage) = self.open(|open| (open.reply.take(), open.stage))?;
        let error = PyErr::from_value(error.clone());
        let failure = match stage {
            Stage::Request => Failure::Request(error),
            Stage::Handler => Failure::Raised(error),
            Stage::Answer => Failure::Answer(error),
        };
        let failed = self.entry.failed(py, &failure);
        if let Some(reply) = reply {
            reply.fail(failed);
        }
        Ok(())
    }
}

fn over() -> PyErr {
    PyRuntimeError::new_err("the request is answered already")
}
