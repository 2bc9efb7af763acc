//! Python objects that are let go of where there is no GIL.
//!
//! PyO3 would keep them in a list of its own until somebody has the GIL, under a lock that is one for all times: held by
//! an I/O thread in the moment of a fork, it is held in the child for ever, and the child's first step into this module
//! waits for it. So nothing of Python's that a thread without the GIL may drop is kept but in a [`Kept`]: dropped, it goes
//! into a list that each generation of processes has for itself, and whoever has the GIL [`sweep`]s.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::process::{self, PerProcess};

static LEFT: PerProcess<Mutex<Vec<Left>>> =
    PerProcess([const { Mutex::new(Vec::new()) }; PerProcess::<Left>::GENERATIONS]);

/// Something of Python's that may be dropped on any thread. Dropped in a forked child, it stays: the child has it from its
/// parent, and the parent's threads may have been in the middle of it.
pub(crate) struct Kept<T: Into<Left>> {
    value: Option<T>,
    generation: usize,
}

/// What nobody keeps any more.
pub(crate) enum Left {
    Object(#[expect(dead_code, reason = "kept to be dropped")] Py<PyAny>),
    Bytes(#[expect(dead_code, reason = "kept to be dropped")] PyBackedBytes),
}

impl From<Py<PyAny>> for Left {
    fn from(object: Py<PyAny>) -> Self {
        Self::Object(object)
    }
}

impl From<PyBackedBytes> for Left {
    fn from(bytes: PyBackedBytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl<T: Into<Left>> Kept<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), generation: process::generation() }
    }
}

impl Kept<PyBackedBytes> {
    /// A byte string, for a frame to share.
    pub(crate) fn bytes(bytes: &Bound<'_, PyBytes>) -> Self {
        Self::new(PyBackedBytes::from(bytes.clone()))
    }
}

impl<T: Into<Left>> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("taken only when dropped")
    }
}

impl AsRef<[u8]> for Kept<PyBackedBytes> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T: Into<Left>> Drop for Kept<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        if self.generation == process::generation() {
            LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(value.into());
        } else {
            std::mem::forget(value);
        }
    }
}

/// Drops what was left. That may run Python: the caller holds no lock.
pub(crate) fn sweep(_py: Python<'_>) {
    let left = std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner));
    drop(left);
}

/// The last field of a class that has something [`Kept`]: when the garbage collector drops it, what it held goes with it.
pub(crate) struct SweptAfter;

impl Drop for SweptAfter {
    fn drop(&mut self) {
        // Classes are dropped with the GIL, so this waits for nothing.
        Python::try_attach(sweep);
    }
}
