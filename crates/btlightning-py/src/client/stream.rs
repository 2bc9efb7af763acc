//! Answers in chunks.

use std::sync::Arc;

use btlightning::{CallError, ChunkStream as Chunks};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::Mutex;

use super::timings::Timings;
use super::{Client, Prepared, call_options, drop_held};
use crate::bridge::{self, On};
use crate::errors;
use crate::process::Here;

/// A streaming answer. One chunk at a time: a second caller waits until the first has its chunk.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct ChunkStream {
    /// `None` once it was closed.
    chunks: Here<Arc<Mutex<Option<Chunks>>>>,
    /// Ends a wait for a chunk that is under way.
    closing: Here<Arc<tokio::sync::Notify>>,
}

#[pymethods]
impl ChunkStream {
    /// The next chunk; `None` at the end.
    #[pyo3(signature = (on=None))]
    fn next(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let (chunks, closing) = (self.chunks.get()?.clone(), self.closing.get()?.clone());
        let next = async move {
            let mut chunks = chunks.lock().await;
            let Some(open) = &mut *chunks else { return Ok(None) };
            let next = tokio::select! {
                biased;
                () = closing.notified() => None,
                next = open.next() => Some(next),
            };
            next.unwrap_or_else(|| {
                *chunks = None;
                Ok(None)
            })
        };
        bridge::run(py, on, next, chunk)
    }

    /// Tells the miner to stop. A wait for a chunk that is under way ends.
    fn close(&self) -> PyResult<()> {
        self.closing.get()?.notify_one();
        drop_held(self.chunks.get()?)
    }

    /// Where the time went so far; `None` while a chunk is waited for, and once it is closed.
    #[getter]
    fn timings(&self) -> PyResult<Option<Timings>> {
        let chunks = self.chunks.get()?.try_lock();
        Ok(chunks.ok().and_then(|chunks| chunks.as_ref().map(|chunks| chunks.timings().into())))
    }
}

#[pymethods]
impl Client {
    /// Asks a miner for an answer in chunks.
    #[pyo3(signature = (miner, synapse_type, data, timeout=None, first_byte_timeout=None, answer_bytes_max=None, stream_timeout=None, on=None))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by position, which is cheapest")]
    fn stream(
        &self,
        py: Python<'_>,
        miner: &Bound<'_, PyAny>,
        synapse_type: &str,
        data: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        first_byte_timeout: Option<f64>,
        answer_bytes_max: Option<i64>,
        stream_timeout: Option<f64>,
        on: Option<On>,
    ) -> PyResult<Py<PyAny>> {
        let options = call_options(timeout, first_byte_timeout, answer_bytes_max, stream_timeout)?;
        let Prepared { client, miner, request, options } =
            self.prepare(miner, synapse_type, data, options)?;
        bridge::run(py, on, async move { client.call_stream_raw(&miner, &request, options).await }, opened)
    }
}

/// The stream, or the exception.
pub(super) fn opened(py: Python<'_>, chunks: Result<Chunks, CallError>) -> PyResult<Py<PyAny>> {
    let chunks = chunks.map_err(errors::call)?;
    let stream = ChunkStream {
        chunks: Here::new(Arc::new(Mutex::new(Some(chunks)))),
        closing: Here::new(Arc::default()),
    };
    Ok(Py::new(py, stream)?.into_any())
}

fn chunk(py: Python<'_>, chunk: Result<Option<Bytes>, CallError>) -> PyResult<Py<PyAny>> {
    match chunk.map_err(errors::stream)? {
        Some(chunk) => Ok(PyBytes::new(py, &chunk).into_any().unbind()),
        None => Ok(py.None()),
    }
}
