//! What comes back to a session from its I/O thread's errands, and the streams that were answered of late.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::stream::Begun;
use crate::transport::frame_io::FrameSender;

/// A bound on the bound, for configurations that allow more streams than any peer uses.
const ANSWERED_MAX: usize = 1024;

pub(super) struct Late {
    begun: Mutex<Vec<Begun>>,
    news: Notify,
    /// Requests that are on the short way.
    quick: AtomicUsize,
    is_stopping: AtomicBool,
    /// The streams whose last byte was written of late. The peer may not have it yet, and closing the connection would
    /// lose it. There is no more of these than streams that the peer may open, since it gets a new one for each whose
    /// last byte it has acknowledged.
    answered: Mutex<VecDeque<Answered>>,
    answered_max: AtomicUsize,
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late").finish_non_exhaustive()
    }
}

/// A stream whose last byte was written.
struct Answered {
    sender: FrameSender,
    /// Whether it was there at a sweep.
    was_seen: bool,
}

impl Late {
    pub(super) fn new(streams_max: u32) -> Self {
        Self {
            begun: Mutex::default(),
            news: Notify::new(),
            quick: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            answered: Mutex::default(),
            answered_max: AtomicUsize::new(answered_max(streams_max)),
        }
    }

    /// Keeps as many answered streams from now on.
    pub(super) fn keep_answered(&self, streams_max: u32) {
        self.answered_max.store(answered_max(streams_max), Ordering::Relaxed);
    }

    pub(super) fn begin_quick(&self) {
        self.quick.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has left the short way, at its end or before.
    pub(super) fn end_quick(&self, rest: Option<Begun>) {
        // In this order: whoever sees none on the short way must see what is left of the last.
        if let Some(rest) = rest {
            self.add(rest);
        }
        if self.quick.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_stopping.load(Ordering::SeqCst) {
            self.news.notify_one();
        }
    }

    /// Has the session serve something in a task.
    pub(super) fn add(&self, begun: Begun) {
        lock(&self.begun).push(begun);
        self.news.notify_one();
    }

    /// Waits until there may be something. Cancel-safe.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn take(&self) -> Vec<Begun> {
        std::mem::take(&mut *lock(&self.begun))
    }

    /// From now on the end of the last request on the short way is news.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_quick(&self) -> bool {
        self.quick.load(Ordering::SeqCst) > 0
    }

    /// Keeps a stream whose last byte was written.
    pub(super) fn note_answered(&self, sender: FrameSender) {
        let mut answered = lock(&self.answered);
        let oldest = if answered.len() >= self.answered_max.load(Ordering::Relaxed) {
            answered.pop_front()
        } else {
            None
        };
        answered.push_back(Answered { sender, was_seen: false });
        drop(answered);
        drop(oldest);
    }

    pub(super) fn take_answered(&self) -> impl Iterator<Item = FrameSender> + use<> {
        std::mem::take(&mut *lock(&self.answered)).into_iter().map(|answered| answered.sender)
    }

    /// Lets go of answers that were there at the sweep before, and that the peer has not acknowledged since.
    pub(super) fn sweep(&self) {
        // Locked to the end: a stop waits for all that are in there.
        let mut answered = lock(&self.answered);
        let mut kept = VecDeque::new();
        for Answered { sender, was_seen } in answered.drain(..) {
            match (sender.is_settled(), was_seen) {
                (true, _) => drop(sender),
                (false, true) => sender.abandon(),
                (false, false) => kept.push_back(Answered { sender, was_seen: true }),
            }
        }
        *answered = kept;
    }
}

fn answered_max(streams_max: u32) -> usize {
    usize::try_from(streams_max).unwrap_or(usize::MAX).min(ANSWERED_MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
