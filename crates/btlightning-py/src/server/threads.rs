//! The threads that plain functions run on: how jobs come to them, and how many there are.
//!
//! They are Python's, made by `btlightning._handlers`; here they wait and work. There are few while handlers are quick,
//! since threads that fight for the GIL only slow each other down, and more as soon as handlers block: a job that waits
//! while the threads are inside of handlers, rather than waiting for the GIL, is what more threads help with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use btlightning::server::HandlerError;
use pyo3::prelude::*;

use super::job::Job;
use super::request::Request;
use super::waiting::Waiting;
use crate::kept;
use crate::process::{self, Here, PerProcess};

/// So many threads are there once they were needed, and stay.
const THREADS_LEAST: usize = 2;

/// How long a thread waits for work before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A job that has waited for so long is late: more threads may help.
const LATE: Duration = Duration::from_millis(5);

/// How often it is looked what the threads do, while jobs wait.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The most threads that are asked for at once, unless there are more already: then so many again.
const ASKED_AT_ONCE: usize = 8;

/// How long no more threads are asked for after one could not be made.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Every queue there is, for the exit.
static QUEUES: PerProcess<Mutex<Vec<Weak<Queue>>>> =
    PerProcess([const { Mutex::new(Vec::new()) }; PerProcess::<Queue>::GENERATIONS]);

/// Has every thread that waits end, at the exit.
pub(crate) fn close() {
    let queues = std::mem::take(&mut *QUEUES.lock().unwrap_or_else(PoisonError::into_inner));
    for queue in queues.iter().filter_map(Weak::upgrade) {
        queue.close();
    }
}

/// The queue between the server and its threads.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Whoever makes threads waits here.
    short: Condvar,
    threads_max: usize,
    /// How many threads have a job and wait for the GIL.
    attaching: AtomicUsize,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    /// Who waits for work. The last to come is the first to be called, so that the others find out that they are not needed.
    idle: Vec<Arc<Seat>>,
    threads: usize,
    /// Asked for and not there yet.
    asked: usize,
    /// No thread could be made, until then nobody is asked for one.
    refused_until: Option<Instant>,
    is_maker_told: bool,
    is_closed: bool,
}

/// Where one thread waits for work.
#[derive(Default)]
struct Seat {
    bell: Condvar,
}

impl Queue {
    pub(super) fn new(threads_max: usize) -> Arc<Self> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            short: Condvar::new(),
            threads_max: threads_max.max(1),
            attaching: AtomicUsize::new(0),
        });
        let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|other| other.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        drop(queues);
        queue
    }

    /// Queues a job. From any thread; takes no GIL and does not wait.
    ///
    /// # Errors
    /// When there is no room, or the server is being stopped.
    pub(super) fn push(&self, job: Job) -> Result<u64, HandlerError> {
        let mut state = self.state();
        if state.is_closed {
            return Err("the server is stopped".into());
        }
        let Some(number) = state.waiting.push(job) else {
            return Err("too many requests wait for a thread".into());
        };
        if let Some(seat) = state.idle.pop() {
            seat.bell.notify_one();
        } else if !state.is_maker_told {
            state.is_maker_told = true;
            self.short.notify_one();
        }
        Ok(number)
    }

    /// Takes a job back that no thread has taken.
    pub(super) fn withdraw(&self, number: u64) {
        // Dropped when the lock is free again.
        let _job = self.state().waiting.withdraw(number);
    }

    /// Ends all threads that wait, and the others when they are done.
    pub(super) fn close(&self) {
        let _jobs = {
            let mut state = self.state();
            state.is_closed = true;
            for seat in state.idle.drain(..) {
                seat.bell.notify_one();
            }
            self.short.notify_all();
            std::mem::take(&mut state.waiting)
        };
    }

    /// The next job; `None` if the thread is to end, and is not counted any more.
    fn take(&self, seat: &Arc<Seat>) -> Option<Job> {
        let _waiting = process::Waiting::begin();
        let mut state = self.state();
        loop {
            if state.is_closed {
                state.threads -= 1;
                return None;
            }
            if let Some((_, job)) = state.waiting.pop() {
                return Some(job);
            }
            state.idle.push(seat.clone());
            let called = |state: &State| !state.idle.iter().any(|idle| Arc::ptr_eq(idle, seat));
            let (looked, _) = seat
                .bell
                .wait_timeout_while(state, IDLE_MAX, |state| !state.is_closed && !called(state))
                .unwrap_or_else(PoisonError::into_inner);
            state = looked;
            if !called(&state) {
                state.idle.retain(|idle| !Arc::ptr_eq(idle, seat));
                if state.threads > THREADS_LEAST {
                    state.threads -= 1;
                    return None;
                }
            }
        }
    }

    /// How many threads are to be made; `None` once no more will be.
    fn short_of(&self) -> Option<usize> {
        let _waiting = process::Waiting::begin();
        let mut looks = Looks::default();
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if state.waiting.is_empty() || !state.idle.is_empty() {
                looks = Looks::default();
                state.is_maker_told = false;
                state = self.short.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let more = self.more(&state, &mut looks);
            if more > 0 {
                state.asked += more;
                return Some(more);
            }
            let (looked, _) =
                self.short.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
            state = looked;
        }
    }

    /// How many threads more would help now.
    fn more(&self, state: &State, looks: &mut Looks) -> usize {
        let there = state.threads + state.asked;
        let room = self.threads_max.saturating_sub(there);
        if room == 0 || state.refused_until.is_some_and(|until| Instant::now() < until) {
            return 0;
        }
        if there < THREADS_LEAST {
            return 1;
        }
        looks.busy += state.threads;
        looks.attaching += self.attaching.load(Ordering::Relaxed);
        let late = state.waiting.late(LATE);
        if late == 0 || state.asked > 0 {
            return 0;
        }
        let is_for_the_gil = looks.attaching * 4 > looks.busy;
        *looks = Looks::default();
        match is_for_the_gil {
            true => 0,
            false => late.min(there.max(ASKED_AT_ONCE)).min(room),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the threads were seen doing of late.
#[derive(Default)]
struct Looks {
    busy: usize,
    /// Of these, who waited for the GIL to begin.
    attaching: usize,
}

/// The queue, as its threads have it.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct HandlerThreads {
    queue: Here<Arc<Queue>>,
}

impl HandlerThreads {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue: Here::new(queue) }
    }
}

#[pymethods]
impl HandlerThreads {
    /// Waits until threads are wanted, and says how many; 0 once no more will be.
    fn wanted(&self, py: Python<'_>) -> usize {
        let Ok(queue) = self.queue.get() else { return 0 };
        py.detach(|| queue.short_of()).unwrap_or(0)
    }

    /// So many of the threads that were wanted could not be made.
    fn refused(&self, threads: usize) -> PyResult<()> {
        let mut state = self.queue.get()?.state();
        state.asked = state.asked.saturating_sub(threads);
        state.refused_until = Some(Instant::now() + REFUSED_FOR);
        Ok(())
    }

    /// Counts the thread that calls this as one of them; `None` says that it is not needed any more.
    fn enter(&self) -> Option<HandlerThread> {
        let queue = self.queue.get().ok()?.clone();
        let mut state = queue.state();
        state.asked = state.asked.saturating_sub(1);
        state.threads += 1;
        drop(state);
        let thread = Thread { queue, seat: Arc::default(), has_ended: AtomicBool::new(false) };
        Some(HandlerThread { thread: Here::new(thread) })
    }

    /// How many threads there are, how many of them have nothing to do, and how many jobs wait.
    fn counts(&self) -> PyResult<HashMap<&'static str, usize>> {
        let state = self.queue.get()?.state();
        Ok(HashMap::from([
            ("threads", state.threads),
            ("idle", state.idle.len()),
            ("waiting", state.waiting.len()),
        ]))
    }
}

/// One of the threads.
#[pyclass(frozen, module = "btlightning._native")]
pub(crate) struct HandlerThread {
    thread: Here<Thread>,
}

/// Is counted until it has ended or is dropped.
struct Thread {
    queue: Arc<Queue>,
    seat: Arc<Seat>,
    has_ended: AtomicBool,
}

#[pymethods]
impl HandlerThread {
    /// Waits for work; `None` says that the thread is to end.
    fn take(&self, py: Python<'_>) -> Option<Request> {
        let Ok(thread) = self.thread.get() else { return None };
        let queue = &thread.queue;
        let taken = py.detach(|| {
            let taken = queue.take(&thread.seat);
            queue.attaching.fetch_add(1, Ordering::Relaxed);
            taken
        });
        queue.attaching.fetch_sub(1, Ordering::Relaxed);
        kept::sweep(py);
        if taken.is_none() {
            thread.has_ended.store(true, Ordering::Relaxed);
        }
        taken.map(Request::new)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if !self.has_ended.load(Ordering::Relaxed) {
            self.queue.state().threads -= 1;
        }
    }
}
