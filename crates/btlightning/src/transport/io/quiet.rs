//! quinn's own log lines, bounded.
//!
//! Some of quinn's warnings are of packets that anybody may send, as often as one likes. What quinn logs while it is
//! polled goes through here: what it warns of is hushed, all else is passed on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::dispatcher::{self, Dispatch};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, NoSubscriber};
use tracing::{Event, Level, Metadata, Subscriber, warn};

use crate::hush::{Hush, Withheld};

/// What bounds the lines of one endpoint and its connections.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// Of connections that are closed for what their peers have sent.
    pub(super) closed: Hush,
    lines: Arc<Lines>,
    /// Around the subscriber of the program, once it has one.
    hushing: OnceLock<Dispatch>,
}

#[derive(Debug, Default)]
struct Lines {
    hush: Hush,
    /// Not logged, and not told of yet.
    withheld: AtomicU64,
}

impl Quiet {
    /// Does `work` of quinn's.
    pub(crate) fn around<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(hushing) = self.hushing() else { return work() };
        let done = dispatcher::with_default(hushing, work);
        if self.lines.withheld.load(Ordering::Relaxed) > 0 {
            let withheld = self.lines.withheld.swap(0, Ordering::Relaxed);
            warn!("{withheld} more warnings of QUIC's were not logged");
        }
        done
    }

    fn hushing(&self) -> Option<&Dispatch> {
        if let Some(hushing) = self.hushing.get() {
            return Some(hushing);
        }
        let program =
            dispatcher::get_default(|program| (!program.is::<NoSubscriber>()).then(|| program.clone()))?;
        Some(self.hushing.get_or_init(|| Dispatch::new(Hushing { program, lines: self.lines.clone() })))
    }
}

/// The program's subscriber, which hears some of quinn's warnings and not all.
struct Hushing {
    program: Dispatch,
    lines: Arc<Lines>,
}

fn is_warning_of_quinn(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN && metadata.is_event() && metadata.target().starts_with("quinn")
}

impl Subscriber for Hushing {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = self.program.register_callsite(metadata);
        match interest.is_always() && is_warning_of_quinn(metadata) {
            true => Interest::sometimes(),
            false => interest,
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if !is_warning_of_quinn(metadata) {
            return self.program.enabled(metadata);
        }
        // In this order: a subscriber that is asked has to be given the event.
        match self.lines.hush.next_line() {
            None => false,
            Some(Withheld(before)) => {
                self.lines.withheld.fetch_add(before, Ordering::Relaxed);
                self.program.enabled(metadata)
            }
        }
    }

    /// None of its own: which levels there are is up to the program's subscriber.
    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::OFF)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.program.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.program.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.program.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        // It asks whether the event is enabled, and then passes it on.
        self.program.event(event);
    }

    fn enter(&self, span: &Id) {
        self.program.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.program.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.program.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.program.try_close(id)
    }
}
