//! What has happened in a schedule, and what must not have.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Everybody's notebook. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Oracle {
    began: Instant,
    /// For a schedule that does not end.
    is_aloud: bool,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    lines: Vec<String>,
    wrong: Vec<String>,
    counts: Counts,
}

/// What became of a schedule.
pub(crate) struct Findings {
    pub(crate) wrong: Vec<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) counts: Counts,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let is_aloud = std::env::var_os("BTLIGHTNING_SCHEDULES_ALOUD").is_some();
        Self { began: Instant::now(), is_aloud, book: Arc::default() }
    }

    /// Something happened.
    pub(crate) fn note(&self, line: impl fmt::Display) {
        let line = format!("{:>9.3} {line}", self.began.elapsed().as_secs_f64());
        if self.is_aloud {
            println!("{line}");
        }
        self.book().lines.push(line);
    }

    /// Something happened that must not.
    pub(crate) fn wrong(&self, what: impl fmt::Display) {
        self.note(format_args!("WRONG: {what}"));
        let line = format!("at {:.3} s: {what}", self.began.elapsed().as_secs_f64());
        self.book().wrong.push(line);
    }

    pub(crate) fn holds(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong(otherwise());
        }
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.book().counts);
    }

    /// Waits for what is promised to take at most `bound`.
    pub(crate) async fn within<T>(
        &self,
        bound: Duration,
        what: impl FnOnce() -> String,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        // Timers tick in milliseconds, and a deadline may pass in the middle of several of them.
        let done = tokio::time::timeout(bound + Duration::from_millis(20), work).await.ok();
        if done.is_none() {
            self.wrong(format!("{} did not end within {bound:?}", what()));
        }
        done
    }

    pub(crate) fn findings(&self) -> Findings {
        let mut book = self.book();
        book.counts.virtual_time = self.began.elapsed();
        let Book { lines, wrong, counts } = std::mem::take(&mut *book);
        Findings { wrong, lines, counts }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Findings {
    /// Of what happened and when. The same number twice: the same run twice, as far as can be seen from outside.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lines.hash(&mut hasher);
        hasher.finish()
    }
}

/// How much was done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) schedules: u64,
    pub(crate) actions: u64,
    pub(crate) queries: u64,
    pub(crate) answered: u64,
    /// By their reasons.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) cancelled: u64,
    pub(crate) virtual_time: Duration,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.actions += other.actions;
        self.queries += other.queries;
        self.answered += other.answered;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason).or_default() += count;
        }
        self.cancelled += other.cancelled;
        self.virtual_time += other.virtual_time;
    }
}

/// One line that `cargo xtask schedules` reads: words and numbers in turn.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, actions, queries, answered, failed, cancelled, virtual_time } = self;
        let (failures, seconds) = (failed.values().sum::<u64>(), virtual_time.as_secs());
        write!(f, "schedules {schedules} actions {actions} queries {queries} answered {answered} ")?;
        write!(f, "failed {failures} cancelled {cancelled} virtual_seconds {seconds}")?;
        failed.iter().try_for_each(|(reason, count)| write!(f, " failed:{reason} {count}"))
    }
}
