//! Which schedules are run, and what is said of them.

use std::io::Write;
use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

use crate::oracle::{Counts, Findings};
use crate::plan::Schedule;
use crate::run::carry_out;

/// How many the ordinary tests run.
const ORDINARY: Range<u64> = 0..320;

/// Which seeds to run instead: one, or a range such as `0..500`.
const VARIABLE: &str = "BTLIGHTNING_SCHEDULES";

/// How many failures are shown before the rest is left alone.
const FAILURES_MAX: usize = 5;

/// How many lines of what happened are shown of a schedule that failed.
const LINES_MAX: usize = 150;

/// Real time after which a schedule is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs every `parts`-th of the schedules, from the one numbered `part` on.
pub(crate) fn part(part: u64, parts: u64) {
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    for seed in wanted().filter(|seed| seed % parts == part) {
        let schedule = Schedule::draw(seed);
        let findings = run(&schedule);
        counts.add(&findings.counts);
        if std::env::var_os("BTLIGHTNING_SCHEDULES_DIGESTS").is_some() {
            println!("digest {seed} {:016x}", findings.digest());
        }
        if !findings.wrong.is_empty() {
            failures.push(shown(&schedule, &findings));
        }
        if failures.len() >= FAILURES_MAX {
            break;
        }
    }
    println!("schedules: {counts}");
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

fn wanted() -> Range<u64> {
    let Ok(text) = std::env::var(VARIABLE) else { return ORDINARY };
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{VARIABLE} is {text:?}"));
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

/// Runs one schedule, on a runtime of its own.
pub(crate) fn run(schedule: &Schedule) -> Findings {
    let _watched = Watched::new(schedule.seed);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(carry_out(schedule))
}

fn shown(schedule: &Schedule, findings: &Findings) -> String {
    let Findings { wrong, lines, .. } = findings;
    let Schedule { seed, setting, .. } = schedule;
    let last = lines[lines.len().saturating_sub(LINES_MAX)..].join("\n");
    format!(
        "The schedule of seed {seed} has gone wrong:\n  {}\nIts setting: {setting:#?}\nWhat happened last:\n{last}\n\
         Again: {VARIABLE}={seed} cargo test -p btlightning --test schedules",
        wrong.join("\n  ")
    )
}

/// Ends the process, with the seed, if a schedule does not end in real time: a thread that is stuck fails no test.
struct Watched {
    _ends: mpsc::Sender<()>,
}

impl Watched {
    fn new(seed: u64) -> Self {
        let (ends, ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Past the harness, which would keep it to itself.
                let _ = writeln!(
                    std::io::stderr(),
                    "the schedule of seed {seed} is stuck; again: {VARIABLE}={seed}"
                );
                std::process::abort();
            }
        });
        Self { _ends: ends }
    }
}
