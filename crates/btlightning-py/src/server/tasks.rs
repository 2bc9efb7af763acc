//! Jobs for an event loop.
//!
//! They wait here until the loop takes them, many at once; each then is a task of the loop's. What the loop is told comes
//! over its bridge (`crate::bridge`), in one errand however many jobs there are, so that a loop that has ended costs no more
//! than the jobs that may wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use btlightning::server::HandlerError;
use pyo3::prelude::*;

use super::job::Job;
use super::request::Request;
use super::waiting::Waiting;
use crate::bridge::{self, Road};
use crate::kept::Kept;

/// So many jobs begin in one turn of the loop; then others have theirs.
const JOBS_A_TURN: usize = 64;

pub(super) struct Queue {
    road: Arc<Road>,
    /// Called with a job's number and its `Request`; begins a task.
    begin: Kept<Py<PyAny>>,
    /// Called with the number of a job that nobody wants any more.
    cancel: Kept<Py<PyAny>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    /// Jobs that the loop has taken and that nobody wants any more.
    unwanted: Vec<u64>,
    is_loop_told: bool,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(road: Arc<Road>, begin: Py<PyAny>, cancel: Py<PyAny>) -> Arc<Self> {
        Arc::new(Self { road, begin: Kept::new(begin), cancel: Kept::new(cancel), state: Mutex::default() })
    }

    /// Queues a job. From any thread; takes no GIL and does not wait.
    ///
    /// # Errors
    /// When there is no room, or the server is being stopped.
    pub(super) fn push(self: &Arc<Self>, job: Job) -> Result<u64, HandlerError> {
        let mut state = self.state();
        if state.is_closed {
            return Err("the server is stopped".into());
        }
        let Some(number) = state.waiting.push(job) else {
            return Err("too many requests wait for the event loop".into());
        };
        self.tell(state);
        Ok(number)
    }

    /// Takes a job back that is not done.
    pub(super) fn withdraw(self: &Arc<Self>, number: u64) {
        // Dropped when the lock is free again.
        let _job = {
            let mut state = self.state();
            let job = state.waiting.withdraw(number);
            if job.is_none() {
                state.unwanted.push(number);
                self.tell(state);
            }
            job
        };
    }

    /// Takes no more jobs. Those that the loop has taken go on, until they are withdrawn.
    pub(super) fn close(&self) {
        let _jobs = {
            let mut state = self.state();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
    }

    fn tell(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if !std::mem::replace(&mut state.is_loop_told, true) {
            drop(state);
            let queue = self.clone();
            self.road.send(Box::new(move |py| queue.turn(py)));
        }
    }

    /// On the loop's thread: begins what there is, and ends what nobody wants.
    ///
    /// # Errors
    /// What is no `Exception`, once all of it is done.
    fn turn(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let (jobs, unwanted) = {
            let mut state = self.state();
            state.is_loop_told = false;
            let jobs: Vec<_> = std::iter::from_fn(|| state.waiting.pop()).take(JOBS_A_TURN).collect();
            let unwanted = std::mem::take(&mut state.unwanted);
            if !state.waiting.is_empty() {
                self.tell(state);
            }
            (jobs, unwanted)
        };
        let mut turned = Ok(());
        for (number, job) in jobs {
            let begun =
                Py::new(py, Request::new(job)).and_then(|request| self.begin.call1(py, (number, request)));
            if let Err(error) = begun {
                turned = turned.and(bridge::unraised(py, error, None));
            }
        }
        for number in unwanted {
            if let Err(error) = self.cancel.call1(py, (number,)) {
                turned = turned.and(bridge::unraised(py, error, None));
            }
        }
        turned
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
