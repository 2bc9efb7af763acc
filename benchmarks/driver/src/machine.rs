//! Where and when the figures were taken: what somebody needs to know to take them again.

use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The machine, its kernel and its compiler. What cannot be learnt is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: Option<String>,
    /// Threads that it runs at once, of those we may use.
    pub cores: usize,
    /// Main memory.
    pub memory_bytes: Option<u64>,
    /// The operating system and its kernel's version.
    pub kernel: String,
    /// `rustc --version`.
    pub rustc: Option<String>,
    /// The most that a socket's receive buffer is granted.
    pub rmem_max_bytes: Option<u64>,
    /// The receive buffer of a socket that asks for none.
    pub rmem_default_bytes: Option<u64>,
    /// The most that a socket's send buffer is granted.
    pub wmem_max_bytes: Option<u64>,
    /// Processes that were ready to run when the run began, over the last minute: what disturbed it.
    pub load: Option<f64>,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self {
            cpu: line_of("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: line_of("/proc/meminfo", "MemTotal").and_then(|size| kibibytes(&size)),
            kernel: output("uname", &["-sr"]).unwrap_or_else(|| std::env::consts::OS.to_owned()),
            rustc: output("rustc", &["--version"]),
            rmem_max_bytes: number_in("/proc/sys/net/core/rmem_max"),
            rmem_default_bytes: number_in("/proc/sys/net/core/rmem_default"),
            wmem_max_bytes: number_in("/proc/sys/net/core/wmem_max"),
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|load| first_number(&load)),
        }
    }
}

/// What `key : value` says in a file of such lines, the first time.
fn line_of(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    };
    text.lines().find_map(value)
}

fn kibibytes(size: &str) -> Option<u64> {
    size.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

fn number_in(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The first line that a program prints.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The commit that is checked out, with `+` if something has changed since.
#[must_use]
pub fn commit(root: &Path) -> Option<String> {
    let root = root.to_str()?;
    let commit = output("git", &["-C", root, "rev-parse", "--short=12", "HEAD"])?;
    let changed = output("git", &["-C", root, "status", "--porcelain", "--untracked-files=no"]);
    Some(if changed.is_some() { commit + "+" } else { commit })
}

/// The date of the system's clock, in UTC, as `2026-02-28`.
#[must_use]
pub fn today() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    date(since_1970.as_secs() / (24 * 60 * 60))
}

/// The date so many days after 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> String {
    // Years that start in March, so that the odd day comes last, in eras of 400 years, which are all alike.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let cases = [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_722, "2023-12-31"),
            (19_723, "2024-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ];
        for (days, expected) in cases {
            assert_eq!(date(days), expected);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_machine_is_known_on_linux() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory_bytes.is_some() && machine.kernel.starts_with("Linux "));
        assert!(machine.rmem_max_bytes.is_some() && machine.load.is_some());
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(kibibytes("16384 kB"), Some(16_777_216));
        assert_eq!(kibibytes("16384"), None);
    }
}
