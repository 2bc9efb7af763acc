//! Many miners, one question.

use std::sync::Arc;

use btlightning::raw::ScannedBytes;
use btlightning::{CallError, FanOut as Calls, Reply};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use tokio::sync::Mutex;

use super::timings::Timings;
use super::{Client, call_options, drop_held, miners};
use crate::bridge::{self, On};
use crate::process::Here;
use crate::{errors, values};

/// How many answers are handed out at once, at most: the more, the less the event loop is woken; the fewer, the sooner
/// others get their turn.
const AT_ONCE: usize = 64;

/// With answers of so many bytes no others are handed out. They are decoded one after the other, and nobody else has the
/// GIL meanwhile.
const BYTES_AT_ONCE: usize = 1024 * 1024;

type Answered = (String, Result<Reply<ScannedBytes>, CallError>);

/// Answers as they come. Dropped, it cancels the calls that are still out.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct FanOut {
    calls: Here<Arc<Mutex<Option<Calls<ScannedBytes>>>>>,
}

#[pymethods]
impl FanOut {
    /// The answers that are there, at least one, and no more than may be decoded at once: a list of `(hotkey, data, timings, error)`, of which `data` and
    /// `timings`, or `error`, are `None`. An empty list once all are in.
    #[pyo3(signature = (on=None))]
    fn next(&self, py: Python<'_>, on: Option<On>) -> PyResult<Py<PyAny>> {
        let calls = self.calls.get()?.clone();
        let next = async move {
            let mut answers = Vec::new();
            let mut calls = calls.lock().await;
            let Some(calls) = &mut *calls else { return answers };
            let mut next = calls.next().await;
            let mut bytes = 0;
            while let Some(answer) = next {
                bytes += payload_bytes(&answer);
                answers.push(answer);
                let goes_on = answers.len() < AT_ONCE && bytes < BYTES_AT_ONCE;
                next = if goes_on { calls.try_next() } else { None };
            }
            answers
        };
        bridge::run(py, on, next, list)
    }

    /// Cancels the calls that are still out. Somebody who waits for one gets it first.
    fn close(&self) -> PyResult<()> {
        drop_held(self.calls.get()?)
    }
}

#[pymethods]
impl Client {
    /// Asks many miners at once.
    #[pyo3(signature = (miners, synapse_type, data, timeout=None, first_byte_timeout=None, answer_bytes_max=None))]
    fn fan_out(
        &self,
        miners: &Bound<'_, PyAny>,
        synapse_type: &str,
        data: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        first_byte_timeout: Option<f64>,
        answer_bytes_max: Option<i64>,
    ) -> PyResult<FanOut> {
        let options = call_options(timeout, first_byte_timeout, answer_bytes_max, None)?;
        let miners = miners::named(miners)?;
        let request = self.encode(synapse_type, data)?;
        let calls = self.inner.get()?.fan_out_raw(&miners, &request, options);
        Ok(FanOut { calls: Here::new(Arc::new(Mutex::new(Some(calls)))) })
    }
}

fn payload_bytes((_, answer): &Answered) -> usize {
    answer.as_ref().map_or(0, |reply| reply.value.as_bytes().len())
}

fn list(py: Python<'_>, answers: Vec<Answered>) -> PyResult<Py<PyAny>> {
    let answers: Vec<_> = answers.into_iter().map(|answer| tuple(py, answer)).collect::<PyResult<_>>()?;
    Ok(PyList::new(py, answers)?.into_any().unbind())
}

/// `(hotkey, data, timings, error)`. An answer that cannot be decoded is an error of its miner alone.
fn tuple(py: Python<'_>, (hotkey, answer): Answered) -> PyResult<Bound<'_, PyTuple>> {
    let decoded = answer.map_err(errors::call).and_then(|reply| {
        let data = values::decode_map(py, reply.value.as_scanned())?;
        Ok((data, Timings::from(reply.timings)))
    });
    match decoded {
        Ok((data, timings)) => (hotkey, data, timings, py.None()).into_pyobject(py),
        Err(error) => (hotkey, py.None(), py.None(), error.into_value(py)).into_pyobject(py),
    }
}
