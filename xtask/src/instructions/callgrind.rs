//! Builds the scenarios and runs them under callgrind.

use super::baseline::{Baseline, Environment};
use crate::{Result, cargo, forget_our_package};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

const PACKAGE: &str = "btlightning-instructions";

/// Of the root's Cargo.toml.
const PROFILE: &str = "counts";

/// How long a scenario may run. It takes 10 s at most; none hangs without a defect.
const PATIENCE: Duration = Duration::from_secs(300);

/// What allocations cost depends on how full the heap is, and the heap is as the TLS keys of this process, which are
/// random, have left it: 0.5% of an exchange. With a cache for each size that never overflows, they cost the same.
const MALLOC: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=60000");

/// The scenarios, built.
pub(super) struct Callgrind {
    program: PathBuf,
    /// Where callgrind's profiles are kept.
    profiles: PathBuf,
    environment: Environment,
    scenarios: Vec<Scenario>,
}

/// A scenario, and how many runs of it are to be counted.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    name: String,
    few: u64,
    many: u64,
}

impl Callgrind {
    /// Builds, and finds out what there is to be counted, and in what.
    pub(super) fn start(root: &Path, target: &Path) -> Result<Self> {
        let valgrind = words(Command::new("valgrind").arg("--version")).map_err(|error| {
            format!(
                "instructions are counted by valgrind, which does not run here ({error}). On Debian and Ubuntu: apt-get \
                 install valgrind. It is there for Linux; elsewhere leave the counting to CI."
            )
        })?;
        build(root)?;
        let program = target.join(PROFILE).join(PACKAGE);
        let profiles = target.join("instructions");
        fs::create_dir_all(&profiles).map_err(|error| format!("{}: {error}", profiles.display()))?;

        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        let rustc = words(rustc.arg("-vV").current_dir(root))?;
        let (rustc, target) = compiler(&rustc)?;
        let libc = words(Command::new("getconf").arg("GNU_LIBC_VERSION"));
        let environment = Environment {
            rustc,
            target,
            libc: libc.unwrap_or_else(|_| "not glibc".into()),
            valgrind,
            cpu: words(Command::new("valgrind").args(["-q", "--tool=none"]).arg(&program).arg("cpu"))?,
        };
        let scenarios = scenarios(&words(Command::new(&program).arg("list"))?)?;
        Ok(Self { program, profiles, environment, scenarios })
    }

    /// Counts every scenario, as many at a time as there are processors: they do not disturb each other's counts.
    pub(super) fn count(&self) -> Result<Baseline> {
        println!("counting {} scenarios twice each: with few runs and with many", self.scenarios.len());
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let mut left = self.scenarios.iter();
        let (left, counted) = (Mutex::new(&mut left), Mutex::new(BTreeMap::new()));
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<()> {
            while let Some(scenario) = next() {
                let instructions = self.instructions(scenario)?;
                let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
                counted.insert(scenario.name.clone(), instructions);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| "a counting thread panicked".to_owned())?)
        })?;
        let instructions = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Baseline { environment: self.environment.clone(), instructions })
    }

    /// The instructions of one run: what many runs take more than few, shared among those in between.
    fn instructions(&self, scenario: &Scenario) -> Result<u64> {
        let few = self.total(scenario, "few", scenario.few)?;
        let many = self.total(scenario, "many", scenario.many)?;
        per_run(scenario, few, many)
    }

    /// The instructions of the whole program with `runs` runs. Its profile is kept as `NAME.{label}.out`.
    fn total(&self, scenario: &Scenario, label: &str, runs: u64) -> Result<u64> {
        let Scenario { name, .. } = scenario;
        let file = |extension| self.profiles.join(format!("{name}.{label}.{extension}"));
        let (profile, log) = (file("out"), file("log"));
        // One that was left behind would be read if callgrind wrote none.
        let _ = fs::remove_file(&profile);
        let in_log = |error| format!("{}: {error}", log.display());
        let mut valgrind = Command::new("valgrind");
        valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display()));
        valgrind.arg(&self.program).args([name, &runs.to_string()]);
        valgrind.env(MALLOC.0, MALLOC.1).stdin(Stdio::null()).stdout(Stdio::null());
        valgrind.stderr(fs::File::create(&log).map_err(in_log)?);
        bounded(&mut valgrind).map_err(|error| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{name}, {runs} runs: {error}\n{said}")
        })?;
        let text = fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
        totals(&text).ok_or_else(|| format!("{} has no total", profile.display()))
    }
}

fn build(root: &Path) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", PROFILE, "--package", PACKAGE]).current_dir(root);
    // Code for this very processor would be other code, and for another target it would be elsewhere.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        build.env_remove(name);
    }
    match build.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(error) => Err(format!("cannot start cargo: {error}")),
    }
}

/// Runs a command to its end, or ends it when it has taken too long.
fn bounded(command: &mut Command) -> Result<()> {
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done after {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What a command prints, without the end of its last line.
fn words(command: &mut Command) -> Result<String> {
    forget_our_package(command);
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The compiler's first line and its host, out of what `rustc -vV` prints.
fn compiler(text: &str) -> Result<(String, String)> {
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    match (text.lines().next(), host) {
        (Some(version), Some(host)) => Ok((version.into(), host.into())),
        _ => Err(format!("rustc -vV printed something else: {text}")),
    }
}

/// Lines of the form `name few many`.
fn scenarios(text: &str) -> Result<Vec<Scenario>> {
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let (name, few, many) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (words.next().is_none() && few < many).then(|| Scenario { name: name.into(), few, many })
    };
    let lines = text.lines().map(|line| parse(line).ok_or_else(|| format!("not `name few many`: {line}")));
    lines.collect()
}

/// The last line but empty ones of a profile: what was counted in all threads together.
fn totals(profile: &str) -> Option<u64> {
    let last = profile.lines().rev().find(|line| !line.is_empty())?;
    last.strip_prefix("totals: ")?.trim().parse().ok()
}

fn per_run(scenario: &Scenario, few: u64, many: u64) -> Result<u64> {
    let runs = scenario.many - scenario.few;
    let counted = many.checked_sub(few).filter(|counted| *counted >= runs);
    let counted = counted.ok_or_else(|| {
        let Scenario { name, few: few_runs, many: many_runs } = scenario;
        format!(
            "{name}: {many} instructions for {many_runs} runs, {few} for {few_runs}: that is no work at all"
        )
    })?;
    Ok((counted + runs / 2) / runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        Scenario { name: "encode".into(), few: 10, many: 20 }
    }

    #[test]
    fn a_scenario_is_its_name_and_two_numbers_of_runs() {
        assert_eq!(scenarios("encode 10 20").unwrap(), [scenario()]);
        for wrong in ["encode", "encode 10", "encode 10 20 30", "encode few many", "encode 20 20", ""] {
            assert!(scenarios(&format!("{wrong}\nencode 10 20")).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_both_counts_have_is_not_counted() {
        assert_eq!(per_run(&scenario(), 1_000_000, 1_000_994), Ok(99));
        assert_eq!(per_run(&scenario(), 1_000_000, 1_000_995), Ok(100));
    }

    #[test]
    fn runs_that_do_nothing_are_an_error() {
        assert!(per_run(&scenario(), 1_000, 1_009).is_err());
        assert!(per_run(&scenario(), 1_000, 900).is_err());
    }

    #[test]
    fn the_total_is_in_a_profiles_last_line() {
        assert_eq!(totals("events: Ir\nsummary: 7\n\nfn=(1)\n0 7\n\ntotals: 18263290\n\n"), Some(18_263_290));
        for torn in ["", "events: Ir\nsummary: 7\n\nfn=(1)\n0 7\n", "totals: 7\n0 7\n", "totals: x\n"] {
            assert_eq!(totals(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn a_compiler_is_its_version_and_its_host() {
        let text = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n";
        let expected = ("rustc 1.95.0 (59807616e 2026-04-14)".into(), "x86_64-unknown-linux-gnu".into());
        assert_eq!(compiler(text), Ok(expected));
        assert!(compiler("").is_err());
    }

    #[test]
    fn a_command_that_fails_says_how() {
        assert_eq!(bounded(&mut Command::new("true")), Ok(()));
        assert!(bounded(&mut Command::new("false")).unwrap_err().contains("exit status: 1"));
        assert!(words(&mut Command::new("no-such-program")).unwrap_err().starts_with("no-such-program: "));
    }
}
