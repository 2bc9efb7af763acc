//! The chunks of a streaming handler.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use btlightning::raw::SHARED_BYTES_MIN;
use btlightning::server::{ChunkError, ChunkSender, HandlerError};
use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use tokio::sync::oneshot;

use super::entry::Failure;
use crate::{errors, process};

/// Sends what an iterable yields, waiting where the caller reads slowly. Stops when nobody wants more.
pub(super) fn send_all(
    py: Python<'_>,
    iterable: &Bound<'_, PyAny>,
    chunks: &ChunkSender,
    end: &oneshot::Sender<Result<(), HandlerError>>,
) -> Result<(), Failure> {
    let iterator = iterable.try_iter().map_err(|error| Failure::Answer(no_iterable(iterable, error)))?;
    let mut sent = Ok(());
    for chunk in iterator.clone() {
        sent = match chunk {
            Ok(chunk) => send(py, &chunk, chunks),
            Err(error) => return Err(Failure::Raised(error)),
        };
        if sent.is_err() || end.is_closed() {
            break;
        }
    }
    close(iterator.as_any())?;
    match sent {
        Ok(()) | Err(Unsent::Gone) => Ok(()),
        Err(Unsent::Refused(error)) => Err(Failure::Answer(error)),
        Err(Unsent::Interrupted(error)) => Err(Failure::Raised(error)),
    }
}

/// Why a chunk was not sent.
enum Unsent {
    /// Nobody reads any more.
    Gone,
    /// It is none, or too long.
    Refused(PyErr),
    Interrupted(PyErr),
}

fn send(py: Python<'_>, chunk: &Bound<'_, PyAny>, chunks: &ChunkSender) -> Result<(), Unsent> {
    let bytes = bytes_of(chunk).map_err(Unsent::Refused)?;
    let sent = match try_send(chunks, bytes.clone()) {
        Some(sent) => sent,
        None => process::wait(py, chunks.send(bytes)).map_err(Unsent::Interrupted)?,
    };
    match sent {
        Ok(()) => Ok(()),
        Err(ChunkError::CallerGone) => Err(Unsent::Gone),
        Err(error) => Err(Unsent::Refused(refused(error))),
    }
}

/// Sends a chunk if that can be done, or cannot be, without waiting; `None` says that there is no room now.
pub(super) fn try_send(chunks: &ChunkSender, chunk: Bytes) -> Option<Result<(), ChunkError>> {
    match pin!(chunks.send(chunk)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(sent) => Some(sent),
        Poll::Pending => None,
    }
}

/// Why a chunk is not sent, as an exception.
pub(super) fn refused(error: ChunkError) -> PyErr {
    match error {
        ChunkError::CallerGone => {
            errors::raise(errors::Class::Stream, error.to_string(), "caller_gone", false)
        }
        _ => errors::serialization(error.to_string()),
    }
}

/// A chunk's bytes, copied only where they are few or can change.
pub(super) fn bytes_of(chunk: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = chunk.cast::<PyBytes>() {
        return Ok(match bytes.as_bytes() {
            few if few.len() < SHARED_BYTES_MIN => Bytes::copy_from_slice(few),
            _ => Bytes::from_owner(PyBackedBytes::from(bytes.clone())),
        });
    }
    if let Ok(bytes) = chunk.cast::<PyByteArray>() {
        return Ok(bytes.to_vec().into());
    }
    if chunk.is_instance_of::<PyMemoryView>() {
        return bytes_of(&chunk.py().get_type::<PyBytes>().call1((chunk,))?);
    }
    let kind = chunk.get_type().qualname()?;
    Err(PyTypeError::new_err(format!("a chunk must be bytes, bytearray or memoryview, not {kind}")))
}

/// Lets a generator clean up before it is dropped.
fn close(iterator: &Bound<'_, PyAny>) -> Result<(), Failure> {
    let py = iterator.py();
    match iterator.getattr_opt(intern!(py, "close")) {
        Ok(Some(close)) => close.call0().map(drop).map_err(Failure::Raised),
        Ok(None) => Ok(()),
        Err(error) => Err(Failure::Raised(error)),
    }
}

fn no_iterable(outcome: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = outcome.py();
    let is_async = ["__aiter__", "__await__"].iter().any(|name| outcome.hasattr(*name).unwrap_or(false));
    if !is_async {
        return error;
    }
    // Or Python would warn of a coroutine that it was never awaited.
    let _ = outcome.call_method0(intern!(py, "close"));
    PyTypeError::new_err(
        "the handler is a plain function and returned something asynchronous; make it an `async def`, or, if it wraps \
         one, use functools.wraps",
    )
}
