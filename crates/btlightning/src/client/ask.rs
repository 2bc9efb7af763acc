//! A call that waits for the thread that its connection lives on, where that is not the thread it is made on.
//!
//! The call itself is one allocation, which its caller's thread makes and frees; the exchange's task and the answer are made
//! on the connection's thread.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::CallError;
use super::exchange::{Answer, Bounds, ask_here};
use super::link::Link;
use super::slot::Slot;
use crate::transport::frame_io::Outgoing;
use crate::transport::io::{IoThread, Job, processors};

/// Has `thread` make the exchange. Dropping the future ends the exchange.
pub(super) async fn ask_on(
    thread: &IoThread,
    slot: &Arc<Slot>,
    link: &Arc<Link>,
    frame: Outgoing,
    bounds: &Bounds,
    asked: Instant,
) -> Result<Answer, CallError> {
    let request =
        Request { thread: thread.clone(), slot: slot.clone(), link: link.clone(), bounds: *bounds, asked };
    let ask = Arc::new(Ask { request, stage: Mutex::new(Stage { step: Step::New(frame), waker: None }) });
    let alone = link.note_asked();
    thread.put(ask.clone());
    let waiting = Waiting(ask);
    if alone && processors() > PROCESSORS_BUSY {
        waiting.poll_on().await;
    }
    waiting.answer().await
}

/// How long a caller that is the only one on its link looks for its answer before it has itself woken. About what waking
/// it would take.
const POLL_FOR: Duration = Duration::from_micros(60);

/// The processors that both sides' I/O threads may keep busy: a caller polls only where there is another one.
const PROCESSORS_BUSY: usize = 2;

struct Ask {
    request: Request,
    stage: Mutex<Stage>,
}

struct Request {
    thread: IoThread,
    slot: Arc<Slot>,
    link: Arc<Link>,
    bounds: Bounds,
    asked: Instant,
}

struct Stage {
    step: Step,
    waker: Option<Waker>,
}

enum Step {
    New(Outgoing),
    /// It is about to be a task.
    Begins,
    Running(AbortHandle),
    Done(Box<Result<Answer, CallError>>),
    Delivered(Box<Result<Answer, CallError>>),
    /// Nobody waits for it any more.
    Over,
}

impl Ask {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(self: Arc<Self>, frame: Outgoing) {
        let Request { thread, slot, link, bounds, asked } = &self.request;
        let _lost = Lost(&self);
        let answer = Box::new(ask_here(slot, link, frame, bounds, *asked).await);
        let mut stage = self.stage();
        if matches!(stage.step, Step::Over) {
            return;
        }
        stage.step = Step::Done(answer);
        drop(stage);
        // With the others that are done by then: to wake one caller costs as much as to wake them all.
        thread.put(self.clone());
    }
}

/// Tells the caller when the exchange ends without an outcome: its task was dropped, or panicked.
struct Lost<'a>(&'a Ask);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        let mut stage = self.0.stage();
        if let Step::Begins | Step::Running(_) = stage.step {
            let closed = CallError::Closed(self.0.request.slot.addr.clone());
            stage.step = Step::Delivered(Box::new(Err(closed)));
            let waker = stage.waker.take();
            drop(stage);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Job for Ask {
    /// Begins the exchange; or, when it is done, tells the caller.
    fn run(self: Arc<Self>) {
        let mut stage = self.stage();
        match std::mem::replace(&mut stage.step, Step::Begins) {
            Step::New(frame) => {
                drop(stage);
                let task = tokio::spawn(self.clone().exchange(frame));
                let mut stage = self.stage();
                match stage.step {
                    Step::Begins => stage.step = Step::Running(task.abort_handle()),
                    _ => task.abort(),
                }
            }
            Step::Done(answer) => {
                stage.step = Step::Delivered(answer);
                let waker = stage.waker.take();
                drop(stage);
                // Let go of before the caller knows, so that it is the last to do so.
                drop(self);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            other => stage.step = other,
        }
    }
}

/// The caller's side.
struct Waiting(Arc<Ask>);

impl Waiting {
    /// Looks for the answer for a moment, without parking the thread. Others have their turns meanwhile.
    async fn poll_on(&self) {
        let until = std::time::Instant::now() + POLL_FOR;
        while !matches!(self.0.stage().step, Step::Delivered(_)) && std::time::Instant::now() < until {
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }

    async fn answer(self) -> Result<Answer, CallError> {
        let answer = poll_fn(|cx| {
            let mut stage = self.0.stage();
            match std::mem::replace(&mut stage.step, Step::Over) {
                Step::Delivered(answer) => Poll::Ready(answer),
                other => {
                    stage.step = other;
                    if !stage.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        stage.waker = Some(cx.waker().clone());
                    }
                    Poll::Pending
                }
            }
        });
        *answer.await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.request.link.note_answered();
        let step = std::mem::replace(&mut self.0.stage().step, Step::Over);
        if let Step::Running(task) = step {
            task.abort();
        }
    }
}
