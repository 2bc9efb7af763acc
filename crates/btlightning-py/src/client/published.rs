//! The published calls: dicts in, dicts out.

use btlightning::raw::RawReply;
use btlightning::{CallError, CallOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Client, miners, required, seconds, stream};
use crate::bridge;
use crate::{errors, values};

#[pymethods]
impl Client {
    /// Asks a miner; that it failed is told by the dict.
    #[pyo3(signature = (axon_info, request, timeout_secs=None))]
    fn query_axon(
        &self,
        py: Python<'_>,
        axon_info: &Bound<'_, PyAny>,
        request: &Bound<'_, PyAny>,
        timeout_secs: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let options = match seconds("timeout_secs", timeout_secs)? {
            Some(timeout) => CallOptions::new().timeout(timeout),
            None => CallOptions::new(),
        };
        let axon = miners::axon(axon_info)?;
        let (synapse_type, data) = parts(request)?;
        let request = self.encode(&synapse_type, &data)?;
        let client = self.inner.get()?.clone();
        bridge::run(py, None, async move { client.call_raw(&axon, &request, options).await }, response)
    }

    /// Asks a miner for an answer in chunks.
    fn query_axon_stream(
        &self,
        py: Python<'_>,
        axon_info: &Bound<'_, PyAny>,
        request: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let axon = miners::axon(axon_info)?;
        let (synapse_type, data) = parts(request)?;
        let request = self.encode(&synapse_type, &data)?;
        let client = self.inner.get()?.clone();
        let options = CallOptions::new();
        bridge::run(
            py,
            None,
            async move { client.call_stream_raw(&axon, &request, options).await },
            stream::opened,
        )
    }
}

/// The name and the data of a request. No data is empty data.
fn parts<'py>(request: &Bound<'py, PyAny>) -> PyResult<(String, Bound<'py, PyAny>)> {
    let request = request
        .cast::<PyDict>()
        .map_err(|_| PyTypeError::new_err(format!("a request is a dict, not {}", request.get_type())))?;
    let synapse_type = required(request, "synapse_type")?.extract()?;
    let data = request.get_item("data")?.unwrap_or_else(|| PyDict::new(request.py()).into_any());
    Ok((synapse_type, data))
}

fn response(py: Python<'_>, reply: Result<RawReply, CallError>) -> PyResult<Py<PyAny>> {
    let reply = reply.map_err(errors::published_call)?;
    let response = PyDict::new(py);
    response.set_item(intern!(py, "success"), reply.success())?;
    response.set_item(intern!(py, "data"), values::decode_map(py, reply.data())?)?;
    response.set_item(intern!(py, "latency_ms"), reply.timings().last_byte.as_secs_f64() * 1000.0)?;
    response.set_item(intern!(py, "error"), reply.error())?;
    Ok(response.into_any().unbind())
}
