//! The log of a victim, counted and not written.

use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the lines from INFO up.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    lines: AtomicUsize,
    bytes_max: AtomicUsize,
    unprintable: AtomicUsize,
}

impl Counted {
    /// Lines, bytes of the longest, and lines that a terminal would have trouble with.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let Counts { lines, bytes_max, unprintable } = &*self.0;
        (lines.load(Ordering::SeqCst), bytes_max.load(Ordering::SeqCst), unprintable.load(Ordering::SeqCst))
    }
}

impl Subscriber for Counted {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.lines.fetch_add(1, Ordering::SeqCst);
        self.0.bytes_max.fetch_max(words.0.len(), Ordering::SeqCst);
        if words.0.chars().any(char::is_control) {
            self.0.unprintable.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {value:?}");
    }

    // As a formatter of text writes it: without Rust's escapes.
    fn record_str(&mut self, _: &Field, value: &str) {
        let _ = write!(self.0, " {value}");
    }
}
