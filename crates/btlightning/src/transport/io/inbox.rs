//! What other threads want done on an I/O thread.
//!
//! Waking a thread that is asleep costs a system call here and some tens of microseconds there; so a thread that is awake
//! is not woken, it looks into its inbox by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Runs on the I/O thread, within its runtime.
pub(crate) trait Job: Send + Sync {
    /// Does it. It is short: it begins a task, or ends one.
    fn run(self: Arc<Self>);
}

/// What is in the inbox.
pub(super) enum Entry {
    Job(Arc<dyn Job>),
    Once(Box<dyn FnOnce() + Send>),
}

impl Entry {
    pub(super) fn run(self) {
        match self {
            Self::Job(job) => job.run(),
            Self::Once(job) => job(),
        }
    }
}

#[derive(Default)]
pub(super) struct Inbox {
    content: Mutex<Content>,
    /// Whether whoever empties the inbox waits to be woken.
    is_waiting: AtomicBool,
    /// How often packets have arrived.
    arrivals: AtomicU64,
}

#[derive(Default)]
struct Content {
    jobs: Vec<Entry>,
    waker: Option<Waker>,
}

impl Inbox {
    /// Adds a job, and wakes whoever waits for one.
    pub(super) fn put(&self, job: Entry) {
        let mut content = self.content();
        content.jobs.push(job);
        let waker = content.waker.take();
        drop(content);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes that packets have arrived. Called on the I/O thread.
    pub(super) fn packets_arrived(&self) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        if self.is_waiting.load(Ordering::Relaxed)
            && let Some(waker) = self.content().waker.take()
        {
            waker.wake();
        }
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Swaps the jobs that are there for `empty`.
    pub(super) fn take(&self, empty: &mut Vec<Entry>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.content().jobs, empty);
    }

    /// Ready when there is a job, or packets have arrived since there were `seen`.
    pub(super) fn poll_news(&self, cx: &mut Context<'_>, seen: u64) -> Poll<()> {
        let mut content = self.content();
        if !content.jobs.is_empty() || self.arrivals() != seen {
            self.is_waiting.store(false, Ordering::Relaxed);
            return Poll::Ready(());
        }
        content.waker = Some(cx.waker().clone());
        self.is_waiting.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
