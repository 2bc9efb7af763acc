//! Log lines that others can cause must not become a flood of their own.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many lines of a kind are written in each [`WINDOW`].
const LINES_MAX: u32 = 20;

const WINDOW: Duration = Duration::from_secs(10);

/// Lets through the first [`LINES_MAX`] lines of each window and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Hush {
    window: Mutex<Window>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<Instant>,
    written: u32,
    withheld: u64,
}

/// How many lines were not written since the last one that was; empty words if none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Withheld(pub(crate) u64);

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            lines => write!(f, " ({lines} more like this were not logged)"),
        }
    }
}

impl Hush {
    pub(crate) const fn new() -> Self {
        Self { window: Mutex::new(Window { began: None, written: 0, withheld: 0 }) }
    }

    /// Calls `write` unless there were too many lines of late. What it gets belongs at the end of the line.
    pub(crate) fn line(&self, write: impl FnOnce(Withheld)) {
        if let Some(withheld) = self.next_line() {
            write(withheld);
        }
    }

    /// Takes the place of a line, for whoever writes it elsewhere. Says how many were withheld before it.
    pub(crate) fn next_line(&self) -> Option<Withheld> {
        self.may_write(Instant::now())
    }

    fn may_write(&self, now: Instant) -> Option<Withheld> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.written = 0;
        }
        if window.written >= LINES_MAX {
            window.withheld += 1;
            return None;
        }
        window.written += 1;
        Some(Withheld(std::mem::take(&mut window.withheld)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_becomes_a_few_and_a_count() {
        let hush = Hush::new();
        let now = Instant::now();
        for _ in 0..LINES_MAX {
            assert_eq!(hush.may_write(now), Some(Withheld(0)));
        }
        for _ in 0..1000 {
            assert_eq!(hush.may_write(now + WINDOW / 2), None);
        }
        let next = hush.may_write(now + WINDOW).unwrap();
        assert_eq!(next.to_string(), " (1000 more like this were not logged)");
        assert_eq!(hush.may_write(now + WINDOW).unwrap().to_string(), "");
    }
}
