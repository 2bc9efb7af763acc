//! Errands: work that is not this package's, and that an I/O thread does itself where that is quicker than to hand it on.
//!
//! They are done between two runs of the thread's runtime, never within it, so that a piece of work that does not end
//! keeps nobody but itself: another thread takes the runtime over; see [`thread`](super::thread).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tracing::error;

use super::lock;

/// Something to be done.
pub(crate) trait Errand: Send + Sync {
    /// Does it, unless nobody waits for it any more.
    fn run(&self);

    /// Tells whoever waits for it that it was done.
    fn deliver(&self);

    /// Called from another thread while it runs, if it takes too long.
    fn overdue(self: Arc<Self>);
}

/// The errands of one thread.
#[derive(Default)]
pub(super) struct Errands {
    waiting: Mutex<VecDeque<Arc<dyn Errand>>>,
    done: Mutex<Vec<Arc<dyn Errand>>>,
}

impl Errands {
    /// Adds one. True if it is the only one.
    pub(super) fn add(&self, errand: Arc<dyn Errand>) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.push_back(errand);
        waiting.len() == 1
    }

    pub(super) fn next(&self) -> Option<Arc<dyn Errand>> {
        lock(&self.waiting).pop_front()
    }

    pub(super) fn are_waiting(&self) -> bool {
        !lock(&self.waiting).is_empty()
    }

    /// Whether some are done whose outcome was not delivered.
    pub(super) fn are_done(&self) -> bool {
        !lock(&self.done).is_empty()
    }

    pub(super) fn note_done(&self, errand: Arc<dyn Errand>) {
        lock(&self.done).push(errand);
    }

    /// Tells everybody whose errand was done. Called within the runtime, where waking a task is cheap.
    pub(super) fn deliver(&self) {
        // Taken out first: whoever is woken may add errands, or drop some.
        let done = std::mem::take(&mut *lock(&self.done));
        for errand in done {
            // It drops, and logs, what is a handler's.
            if catch_unwind(AssertUnwindSafe(|| errand.deliver())).is_err() {
                error!("an errand's outcome was lost: it panicked");
            }
        }
    }

    /// Drops all of them.
    pub(super) fn clear(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        let done = std::mem::take(&mut *lock(&self.done));
        drop((waiting, done));
    }
}

/// One errand, its outcome, and who waits for it.
pub(super) struct Slot<T> {
    stage: Mutex<Stage<T>>,
    on_overdue: Box<dyn Fn() + Send + Sync>,
}

/// What is to be done.
pub(super) type Work<T> = Box<dyn FnOnce() -> T + Send>;

enum Stage<T> {
    Waiting {
        work: Work<T>,
        waker: Option<Waker>,
    },
    Running {
        waker: Option<Waker>,
    },
    Done {
        outcome: T,
        waker: Option<Waker>,
    },
    Delivered(T),
    /// Nobody waits for it any more, or it has been taken.
    Over,
}

impl<T> Slot<T> {
    pub(super) fn new(work: Work<T>, on_overdue: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { stage: Mutex::new(Stage::Waiting { work, waker: None }), on_overdue })
    }
}

impl<T: Send + 'static> Errand for Slot<T> {
    fn run(&self) {
        let mut stage = lock(&self.stage);
        let Stage::Waiting { work, waker } = std::mem::replace(&mut *stage, Stage::Over) else { return };
        *stage = Stage::Running { waker };
        drop(stage);
        let outcome = work();
        let mut stage = lock(&self.stage);
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Running { waker } => *stage = Stage::Done { outcome, waker },
            // Nobody waits. The outcome is dropped with the lock free again: it is somebody else's code.
            _ => drop(stage),
        }
    }

    fn deliver(&self) {
        let mut stage = lock(&self.stage);
        if let Stage::Done { outcome, waker } = std::mem::replace(&mut *stage, Stage::Over) {
            *stage = Stage::Delivered(outcome);
            drop(stage);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn overdue(self: Arc<Self>) {
        (self.on_overdue)();
    }
}

/// Waits for the outcome of an errand. Dropped before the errand has begun, it takes it back.
pub(crate) struct Outcome<T>(pub(super) Arc<Slot<T>>);

impl<T> Future for Outcome<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut stage = lock(&self.0.stage);
        match &mut *stage {
            Stage::Waiting { waker, .. } | Stage::Running { waker } | Stage::Done { waker, .. } => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Stage::Delivered(_) | Stage::Over => match std::mem::replace(&mut *stage, Stage::Over) {
                Stage::Delivered(outcome) => Poll::Ready(outcome),
                _ => Poll::Pending,
            },
        }
    }
}

impl<T> Drop for Outcome<T> {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut *lock(&self.0.stage), Stage::Over);
        // Dropped with the lock free again: it is somebody else's code.
        drop(left);
    }
}
