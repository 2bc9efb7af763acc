//! `cargo xtask fuzz`: builds the fuzz targets and runs each for a while.
//!
//! libFuzzer is told to write what it finds into `fuzz/found`, which git ignores, and reads `fuzz/corpus` besides. `--keep`
//! puts what is worth keeping of both into `fuzz/corpus`, from where the ordinary tests replay it.

use crate::{Result, forget_our_package, steps};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(crate) const HELP: &str = "\
cargo xtask fuzz [TARGET ...] [--seconds N] [--keep]

Runs each fuzz target, or those that are named, for N seconds (60). Fails if one crashed.
  --keep   runs nothing: puts what was found so far, minimised, into the corpora that are committed
";

/// How long an input may take, in seconds, before it counts as a crash.
const INPUT_SECONDS_MAX: u32 = 10;

/// The longest input that is tried, in bytes.
const INPUT_BYTES_MAX: u32 = 4096;

/// Files in a corpus that minimising leaves alone: messages as they were recorded, and inputs that once failed.
const KEPT_ALWAYS: [&str; 2] = ["seed-", "failed-"];

#[derive(Debug, PartialEq, Eq)]
struct Order {
    targets: Vec<String>,
    seconds: u32,
    is_keep: bool,
}

pub(crate) fn run(root: &Path, args: &[&str]) -> Result<()> {
    if args.contains(&"--help") {
        print!("{HELP}");
        return Ok(());
    }
    let order = Order::read(args, &targets(root)?)?;
    let fuzzing = Fuzzing::build(root)?;
    if order.is_keep {
        return order.targets.iter().try_for_each(|target| fuzzing.keep(target));
    }
    let mut crashed = Vec::new();
    for target in &order.targets {
        let outcome = fuzzing.run(target, order.seconds)?;
        println!("{}", outcome.line(target));
        if !outcome.passed {
            crashed.push(target.as_str());
        }
    }
    if crashed.is_empty() { Ok(()) } else { Err(format!("crashed: {}", crashed.join(", "))) }
}

/// Every target, by the files that are there.
fn targets(root: &Path) -> Result<Vec<String>> {
    let mut targets: Vec<_> = files_in(&root.join("fuzz/fuzz_targets"))?
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    targets.sort();
    Ok(targets)
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| format!("{}: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

impl Order {
    fn read(args: &[&str], all: &[String]) -> Result<Self> {
        let mut order = Self { targets: Vec::new(), seconds: 60, is_keep: false };
        let mut args = args.iter();
        while let Some(&arg) = args.next() {
            match arg {
                "--keep" => order.is_keep = true,
                "--seconds" => {
                    let seconds = args.next().and_then(|text| text.parse().ok()).filter(|n| *n > 0);
                    order.seconds = seconds.ok_or("--seconds wants a number")?;
                }
                target if all.iter().any(|known| known == target) => order.targets.push(target.to_owned()),
                other => return Err(format!("no target `{other}`; there are: {}\n\n{HELP}", all.join(", "))),
            }
        }
        if order.targets.is_empty() {
            order.targets = all.to_vec();
        }
        Ok(order)
    }
}

/// The targets, built.
struct Fuzzing {
    fuzz: PathBuf,
    programs: PathBuf,
    logs: PathBuf,
}

impl Fuzzing {
    fn build(root: &Path) -> Result<Self> {
        let host = host_of_nightly()?;
        if output(nightly().args(["fuzz", "--version"])).is_err() {
            return Err("cargo-fuzz is not here: cargo install cargo-fuzz --locked".to_owned());
        }
        let fuzz = root.join("fuzz");
        // Its own target directory, because the sanitizer's builds are of no use to anybody else.
        let target = fuzz.join("target");
        let status = nightly()
            .args(["fuzz", "build", "--fuzz-dir"])
            .arg(&fuzz)
            .arg("--target-dir")
            .arg(&target)
            .current_dir(root)
            .stdin(Stdio::null())
            .status();
        if !status.map_err(|error| format!("cannot start cargo: {error}"))?.success() {
            return Err("the fuzz targets do not build".to_owned());
        }
        let logs = steps::target_dir(root).join("fuzz");
        made(&logs)?;
        Ok(Self { programs: target.join(host).join("release"), fuzz, logs })
    }

    fn program(&self, target: &str) -> Command {
        let mut program = Command::new(self.programs.join(target));
        forget_our_package(&mut program);
        program.stdin(Stdio::null()).current_dir(&self.fuzz);
        program
    }

    fn corpus(&self, target: &str) -> Result<PathBuf> {
        made(&self.fuzz.join("corpus").join(target))
    }

    fn found(&self, target: &str) -> Result<PathBuf> {
        made(&self.fuzz.join("found").join(target))
    }

    fn run(&self, target: &str, seconds: u32) -> Result<Outcome> {
        let (corpus, found) = (self.corpus(target)?, self.found(target)?);
        let artifacts = made(&self.fuzz.join("artifacts").join(target))?;
        let before = files_in(&found)?.len();
        let log = self.logs.join(format!("{target}.log"));
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let status = self
            .program(target)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg("-print_final_stats=1")
            .args([&found, &corpus])
            .stderr(file)
            .status()
            .map_err(|error| format!("cannot start {target}: {error}"))?;
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let after = files_in(&found)?.len();
        Ok(Outcome {
            passed: status.success(),
            executions: statistic(&text, "number_of_executed_units"),
            executions_per_second: statistic(&text, "average_exec_per_sec"),
            corpus: files_in(&corpus)?.len() + after,
            new: after.saturating_sub(before),
            log,
        })
    }

    /// The smallest set of inputs that covers what those do that are there.
    fn keep(&self, target: &str) -> Result<()> {
        let (corpus, found) = (self.corpus(target)?, self.found(target)?);
        let chosen = self.fuzz.join("found").join(format!("{target}.chosen"));
        let failed = |error: std::io::Error| format!("{target}: {error}");
        if chosen.exists() {
            fs::remove_dir_all(&chosen).map_err(failed)?;
        }
        made(&chosen)?;
        let mut merge = self.program(target);
        merge.args(["-set_cover_merge=1", &format!("-max_len={INPUT_BYTES_MAX}")]);
        output(merge.args([&chosen, &corpus, &found]))?;

        let before = files_in(&corpus)?;
        let is_kept = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            KEPT_ALWAYS.iter().any(|start| name.starts_with(start))
        };
        let always: Vec<_> = before.iter().filter(|path| is_kept(path)).map(fs::read).collect();
        let always = always.into_iter().collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
        for path in before.iter().filter(|path| !is_kept(path)) {
            fs::remove_file(path).map_err(failed)?;
        }
        for path in files_in(&chosen)? {
            if !always.contains(&fs::read(&path).map_err(failed)?) {
                fs::copy(&path, corpus.join(path.file_name().unwrap_or_default())).map_err(failed)?;
            }
        }
        fs::remove_dir_all(&chosen).map_err(failed)?;
        println!("{target:<18} {} inputs, {} before", files_in(&corpus)?.len(), before.len());
        Ok(())
    }
}

fn made(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory.to_owned())
}

/// Cargo of the nightly toolchain: the sanitizers are not in a stable one. By its name, since rustup chooses by the `+`.
fn nightly() -> Command {
    let mut cargo = Command::new("cargo");
    forget_our_package(&mut cargo);
    cargo.arg("+nightly");
    cargo
}

fn host_of_nightly() -> Result<String> {
    let version = output(nightly().arg("-vV"))
        .map_err(|why| format!("no nightly toolchain: rustup toolchain install nightly ({why})"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "cargo does not say what host it is of".to_owned())
}

/// What a command writes, if it succeeds.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {}: {}", output.status, words.trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What came of running a target.
struct Outcome {
    passed: bool,
    executions: u64,
    executions_per_second: u64,
    corpus: usize,
    new: usize,
    log: PathBuf,
}

impl Outcome {
    fn line(&self, target: &str) -> String {
        let Self { executions, executions_per_second, corpus, new, .. } = self;
        let verdict =
            if self.passed { "ok".to_owned() } else { format!("CRASHED, see {}", self.log.display()) };
        format!(
            "{target:<18} {executions:>12} executions {executions_per_second:>8}/s {corpus:>6} inputs ({new} new)  {verdict}"
        )
    }
}

/// A number of libFuzzer's final statistics; zero if it did not come to them.
fn statistic(log: &str, name: &str) -> u64 {
    let prefix = format!("stat::{name}:");
    let line = log.lines().find_map(|line| line.strip_prefix(&*prefix));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_targets_and_a_time() {
        let all = ["frame".to_owned(), "scan".to_owned()];
        let order = |args: &[&str]| Order::read(args, &all);
        let everything = Order { targets: all.to_vec(), seconds: 60, is_keep: false };
        assert_eq!(order(&[]), Ok(everything));
        let one = Order { targets: vec!["scan".to_owned()], seconds: 5, is_keep: true };
        assert_eq!(order(&["scan", "--seconds", "5", "--keep"]), Ok(one));
        for wrong in [&["scam"][..], &["--seconds"], &["--seconds", "0"], &["--seconds", "x"]] {
            assert!(order(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn statistics_are_read_off_the_log() {
        let log = "Done 7 runs\nstat::number_of_executed_units: 1234\nstat::average_exec_per_sec:     56\n";
        assert_eq!(statistic(log, "number_of_executed_units"), 1234);
        assert_eq!(statistic(log, "average_exec_per_sec"), 56);
        assert_eq!(statistic(log, "new_units_added"), 0);
    }

    #[test]
    fn every_target_is_a_program_and_every_program_a_target() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let library = fs::read_to_string(root.join("crates/btlightning-fuzz/src/lib.rs")).unwrap();
        let targets = targets(root).unwrap();
        for target in &targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
            assert!(library.contains(&format!("(\"{target}\", {target})")), "{target}");
            let program = fs::read_to_string(root.join(format!("fuzz/fuzz_targets/{target}.rs"))).unwrap();
            assert!(program.contains(&format!("btlightning_fuzz::{target}(data)")), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
        assert!(library.contains(&format!("[(&str, Target); {}]", targets.len())));
    }
}
