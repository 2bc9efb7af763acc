//! One question, one answer.

use btlightning::CallError;
use btlightning::raw::RawReply;
use pyo3::prelude::*;

use super::timings::Timings;
use super::{Client, Prepared, call_options};
use crate::bridge::{self, On};
use crate::{errors, values};

#[pymethods]
impl Client {
    /// Asks a miner, and hands out `(data, hotkey, timings)`.
    #[pyo3(signature = (miner, synapse_type, data, timeout=None, first_byte_timeout=None, answer_bytes_max=None, on=None))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by position, which is cheapest")]
    fn query(
        &self,
        py: Python<'_>,
        miner: &Bound<'_, PyAny>,
        synapse_type: &str,
        data: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        first_byte_timeout: Option<f64>,
        answer_bytes_max: Option<i64>,
        on: Option<On>,
    ) -> PyResult<Py<PyAny>> {
        let options = call_options(timeout, first_byte_timeout, answer_bytes_max, None)?;
        let Prepared { client, miner, request, options } =
            self.prepare(miner, synapse_type, data, options)?;
        bridge::run(py, on, async move { client.call_raw(&miner, &request, options).await }, answer)
    }
}

/// `(data, hotkey, timings)`, or the exception.
pub(super) fn answer(py: Python<'_>, reply: Result<RawReply, CallError>) -> PyResult<Py<PyAny>> {
    let reply = reply.and_then(RawReply::into_reply).map_err(errors::call)?;
    let data = values::decode_map(py, reply.value.as_scanned())?;
    let answer = (data, reply.hotkey.to_string(), Timings::from(reply.timings));
    Ok(answer.into_pyobject(py)?.into_any().unbind())
}
