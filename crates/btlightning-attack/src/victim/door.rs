//! A door that handlers wait at, and a count of those that are alive.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What the handlers of a victim share.
#[derive(Debug, Default)]
pub(super) struct Door {
    is_open: Mutex<bool>,
    opened: Condvar,
    begun: AtomicUsize,
    alive: AtomicUsize,
}

/// A handler that is alive.
#[derive(Debug)]
pub(super) struct Alive(Arc<Door>);

impl Door {
    /// Counts a handler, until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Alive {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Alive(self.clone())
    }

    /// Blocks until the door is open.
    pub(super) fn wait(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.opened.wait_while(is_open, |is_open| !*is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Opens the door for good.
    pub(super) fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Handlers that have begun, and that are alive.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.begun.load(Ordering::SeqCst), self.alive.load(Ordering::SeqCst))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}
