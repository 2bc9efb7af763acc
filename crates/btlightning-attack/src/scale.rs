//! How much of everything.

use std::time::Duration;

/// How large an attack is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// For a check of every change: what shows that a bound is there.
    Quick,
    /// For the figures.
    Full,
}

impl Scale {
    /// One or the other.
    pub(crate) fn of<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }

    /// A bound on a time. The quick run is a test, on machines that do much else: there only what hangs is too slow.
    pub(crate) fn time(self, full: Duration) -> Duration {
        full * self.of(50, 1)
    }
}
