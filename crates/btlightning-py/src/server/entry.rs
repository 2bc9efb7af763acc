//! A Python callable that is called for somebody else: a handler, an observer, a resolver.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::kept::Kept;

/// A callable, what it is called in the log, and how it wants to be called.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) function: Kept<Py<PyAny>>,
    /// Whether it gets a second argument: who calls.
    pub(super) wants_caller: bool,
}

impl Entry {
    /// Lets the garbage collector see what this holds.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.function)
    }
}
