//! The log, on its way to Python's `logging`.
//!
//! Lines come from threads that never take the GIL. A line that a Python logger wants is put into words where it comes from
//! and queued; a Python thread (`btlightning._logging`) fetches what is queued and hands it to the loggers. It also tells
//! what levels they have, so that a line that nobody wants costs a comparison.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::kept;
use crate::process::PerProcess;

/// How many lines wait for Python at most; later ones are counted and dropped.
const LINES_MAX: usize = 8192;

/// How long a line may be. With [`LINES_MAX`] it bounds what waits: 32 MiB, and as much with the thread that fetches.
const LINE_BYTES_MAX: usize = 4096;

/// How often the thread that fetches looks what levels the loggers have, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the exit waits for handlers to take what is queued.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// Python's loggers, and what they are for: see [`logger_of`].
const LOGGERS: [&str; 4] =
    ["btlightning.client", "btlightning.server", "btlightning.transport", "btlightning.quic"];
const CLIENT: usize = 0;
const SERVER: usize = 1;
const TRANSPORT: usize = 2;
const QUIC: usize = 3;

/// Where it is told that lines were dropped.
const PARENT: &str = "btlightning";

/// Python's numbers for levels.
const WARNING: i32 = 30;
/// More than any level.
const OFF: i32 = i32::MAX;

/// The least level of each logger.
static LEVELS: [AtomicI32; LOGGERS.len()] = [const { AtomicI32::new(WARNING) }; LOGGERS.len()];

static INSTALLED: PerProcess<AtomicBool> =
    PerProcess([const { AtomicBool::new(false) }; PerProcess::<AtomicBool>::GENERATIONS]);

static QUEUE: PerProcess<Mutex<Queue>> =
    PerProcess([const { Mutex::new(Queue::new()) }; PerProcess::<Queue>::GENERATIONS]);
/// Rung when there are lines, when the queue is closed, and when it is drained.
static BELL: PerProcess<Condvar> = PerProcess([const { Condvar::new() }; PerProcess::<Condvar>::GENERATIONS]);

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("LOGGERS", PyTuple::new(module.py(), LOGGERS)?)?;
    module.add_function(wrap_pyfunction!(log_lines, module)?)?;
    module.add_function(wrap_pyfunction!(set_log_levels, module)?)
}

/// Leads the log to Python from now on, and starts the thread that fetches it. Called when the runtime is made: before, there
/// is nothing to log, and a process that only imports the package can be forked.
///
/// # Errors
/// What a signal handler raises meanwhile.
pub(crate) fn install() -> PyResult<()> {
    if INSTALLED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    // Only this extension module's own copy of `tracing` is concerned, so nobody else has set a subscriber.
    let _ = tracing::subscriber::set_global_default(ToPython);
    let started = Python::try_attach(|py| -> PyResult<bool> {
        py.import("btlightning._logging")?.call_method0("start")?.extract()
    });
    let mut queue = queue();
    match started {
        Some(Ok(true)) => queue.is_fetched = true,
        _ => queue.is_closed = true,
    }
    started.transpose().map(drop)
}

/// No more is logged; what is queued is handed out, if the handlers take it within [`EXIT_PATIENCE`].
pub(crate) fn close(py: Python<'_>) {
    py.detach(|| {
        let mut queue = queue();
        queue.is_closed = true;
        BELL.notify_all();
        if queue.is_fetched {
            let drained = BELL.wait_timeout_while(queue, EXIT_PATIENCE, |queue| !queue.is_drained);
            drop(drained.unwrap_or_else(PoisonError::into_inner));
        }
    });
}

/// A line: logger, level, seconds since the epoch, words, file, line, thread.
type LineTuple = (&'static str, i32, f64, String, &'static str, u32, String);

/// Waits for lines, up to a second. `None` once there will be no more.
#[pyfunction]
fn log_lines(py: Python<'_>) -> Option<Vec<LineTuple>> {
    let (lines, dropped) = py.detach(|| {
        let idle = |queue: &mut Queue| queue.lines.is_empty() && queue.dropped == 0 && !queue.is_closed;
        let (mut queue, _) =
            BELL.wait_timeout_while(queue(), LOOK_EVERY, idle).unwrap_or_else(PoisonError::into_inner);
        if queue.is_closed && queue.lines.is_empty() && queue.dropped == 0 {
            queue.is_drained = true;
            BELL.notify_all();
            return None;
        }
        Some((std::mem::take(&mut queue.lines), std::mem::take(&mut queue.dropped)))
    })?;
    // Where nothing else is done, this thread does it.
    kept::sweep(py);
    let mut lines: Vec<_> = lines.into_iter().map(Line::into_tuple).collect();
    if dropped > 0 {
        let words =
            format!("{dropped} log lines were dropped: the handlers of the log are too slow for them");
        lines.push((PARENT, WARNING, now(), words, "", 0, String::new()));
    }
    Some(lines)
}

/// What is logged from now on: the least level of each of [`LOGGERS`], by Python's numbers.
#[pyfunction]
fn set_log_levels(levels: [i32; LOGGERS.len()]) {
    let mut changed = false;
    for (current, level) in LEVELS.iter().zip(levels) {
        changed |= current.swap(level, Ordering::Relaxed) != level;
    }
    if changed {
        tracing::callsite::rebuild_interest_cache();
    }
}

struct Queue {
    lines: VecDeque<Line>,
    dropped: u64,
    /// Whether there is a thread that fetches.
    is_fetched: bool,
    is_closed: bool,
    is_drained: bool,
}

impl Queue {
    const fn new() -> Self {
        Self { lines: VecDeque::new(), dropped: 0, is_fetched: false, is_closed: false, is_drained: false }
    }
}

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Line {
    about: &'static Metadata<'static>,
    created: f64,
    words: String,
    thread: String,
}

impl Line {
    fn into_tuple(self) -> LineTuple {
        let file = self.about.file().map_or("", within_sources);
        let (logger, level) = (LOGGERS[logger_of(self.about)], level_of(self.about));
        (logger, level, self.created, self.words, file, self.about.line().unwrap_or(0), self.thread)
    }
}

/// The file without the directories of the machine that it was built on.
fn within_sources(file: &'static str) -> &'static str {
    file.rsplit_once("src/").or_else(|| file.rsplit_once("src\\")).map_or(file, |(_, file)| file)
}

fn logger_of(about: &Metadata<'_>) -> usize {
    let mut path = about.target().split("::");
    match (path.next(), path.next()) {
        (Some("btlightning"), Some("client")) => CLIENT,
        (Some("btlightning"), Some("server")) => SERVER,
        (Some(ours), _) if ours.starts_with("btlightning") => TRANSPORT,
        _ => QUIC,
    }
}

fn level_of(about: &Metadata<'_>) -> i32 {
    match *about.level() {
        Level::ERROR => 40,
        Level::WARN => WARNING,
        Level::INFO => 20,
        Level::DEBUG => 10,
        // Python has no name for it.
        Level::TRACE => 5,
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Queues what some logger wants. Spans are nobody's business here.
struct ToPython;

impl Subscriber for ToPython {
    fn register_callsite(&self, about: &'static Metadata<'static>) -> Interest {
        // Asked again whenever the levels change.
        if self.enabled(about) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, about: &Metadata<'_>) -> bool {
        about.is_event() && level_of(about) >= LEVELS[logger_of(about)].load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let least = LEVELS.iter().map(|level| level.load(Ordering::Relaxed)).min().unwrap_or(OFF);
        Some(match least {
            ..=5 => LevelFilter::TRACE,
            6..=10 => LevelFilter::DEBUG,
            11..=20 => LevelFilter::INFO,
            21..=30 => LevelFilter::WARN,
            31..=40 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let line = Line { about: event.metadata(), created: now(), words: words.joined(), thread };
        let mut queue = queue();
        if queue.is_closed {
            return;
        }
        if queue.lines.len() >= LINES_MAX {
            queue.dropped += 1;
            return;
        }
        queue.lines.push_back(line);
        drop(queue);
        BELL.notify_all();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Words {
    message: Clipped,
    fields: Clipped,
}

impl Words {
    fn joined(self) -> String {
        let Clipped(mut words) = self.message;
        words.push_str(&self.fields.0);
        words
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // An error is a text that is too long; what fits is there.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            let _ = self.message.write_str(value);
        } else {
            self.record_debug(field, &value);
        }
    }
}

/// Text up to half of [`LINE_BYTES_MAX`].
#[derive(Default)]
struct Clipped(String);

impl Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const MARK: &str = "...";
        let room = (LINE_BYTES_MAX / 2 - MARK.len()).saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        self.0.push_str(MARK);
        Err(fmt::Error)
    }
}
