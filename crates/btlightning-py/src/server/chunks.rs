//! The chunks of a streaming handler.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use btlightning::raw::SHARED_BYTES_MIN;
use btlightning::server::{ChunkError, ChunkSender};
use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::kept::Kept;

/// A chunk's bytes, copied only where they are few or can change.
pub(super) fn bytes_of(chunk: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = chunk.cast::<PyBytes>() {
        return Ok(match bytes.as_bytes() {
            few if few.len() < SHARED_BYTES_MIN => Bytes::copy_from_slice(few),
            _ => Bytes::from_owner(Kept::bytes(bytes)),
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

/// Sends a chunk if that can be done, or cannot be, without waiting; `None` says that there is no room now.
pub(super) fn try_send(chunks: &ChunkSender, chunk: Bytes) -> Option<Result<(), ChunkError>> {
    match pin!(chunks.send(chunk)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(sent) => Some(sent),
        Poll::Pending => None,
    }
}
