//! `cargo xtask test`: the steps that together are all tests of the project.

use crate::{Result, cargo};
use std::{
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

struct Step {
    name: &'static str,
    /// What must be there. Its absence fails the step: a step that skips itself would look like a step that passed.
    needs: &'static str,
    cargo_args: Vec<String>,
}

enum Outcome {
    Passed(Duration),
    Failed(Duration, String),
    NotRun,
}

/// Runs every step until one fails, then says what ran, how long it took, and what failed.
pub(crate) fn test(root: &Path) -> Result<()> {
    let steps = test_steps(&target_dir(root));
    let mut outcomes: Vec<Outcome> = Vec::new();
    for step in &steps {
        if matches!(outcomes.last(), Some(Outcome::Failed(..) | Outcome::NotRun)) {
            outcomes.push(Outcome::NotRun);
            continue;
        }
        println!("\n==> {}: {}", step.name, step.command_line());
        outcomes.push(step.run(root));
    }
    println!("\n{}", summary(&steps, &outcomes));
    match steps.iter().zip(&outcomes).find(|(_, outcome)| matches!(outcome, Outcome::Failed(..))) {
        Some((step, _)) => {
            Err(format!("tests failed in step `{}`; again: {}", step.name, step.command_line()))
        }
        None => Ok(()),
    }
}

fn test_steps(target: &Path) -> Vec<Step> {
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    // A directory of its own: the published package wants other features of the same dependencies, and two workspaces
    // that take turns in one directory evict each other's artifacts.
    let interop_target = target.join("interop").display().to_string();
    let mut interop = words("test --manifest-path interop/Cargo.toml --locked --target-dir");
    interop.push(interop_target);
    let bench_target = target.join("benchmarks").display().to_string();
    let mut bench = words("test --manifest-path benchmarks/Cargo.toml --locked --target-dir");
    // The driver, not the peers: those are what is measured, and build what nobody else needs.
    bench.extend([bench_target, "--package".to_owned(), "btlightning-benchmark-driver".to_owned()]);
    // Unit, integration and doc tests, with every feature that this host can build; builds the examples. The steps that
    // run the examples build without features.
    let workspace = format!(
        "test --workspace --features btlightning/subtensor,btlightning/{} --locked",
        wallet_feature()
    );
    let mut steps = vec![
        Step { name: "workspace", needs: "Cargo.toml", cargo_args: words(&workspace) },
        Step { name: "interop", needs: "interop/Cargo.toml", cargo_args: interop },
        Step { name: "bench-driver", needs: "benchmarks/Cargo.toml", cargo_args: bench },
    ];
    for (name, needs) in EXAMPLES {
        let run = format!("run -p btlightning --locked --example {name}");
        steps.push(Step { name, needs, cargo_args: words(&run) });
    }
    let demo = "run -p btlightning-cli --locked -- demo --miners 3 --queries 20";
    steps.push(Step { name: "demo", needs: "crates/btlightning-cli/Cargo.toml", cargo_args: words(demo) });
    for (name, command) in PYTHON {
        let run = format!("xtask {command}");
        steps.push(Step { name, needs: "crates/btlightning-py/pyproject.toml", cargo_args: words(&run) });
    }
    steps
}

/// The examples, each of which runs to its end, and where they are.
const EXAMPLES: [(&str, &str); 5] = [
    ("echo", "crates/btlightning/examples/echo.rs"),
    ("typed", "crates/btlightning/examples/typed.rs"),
    ("streaming", "crates/btlightning/examples/streaming.rs"),
    ("custom_signer", "crates/btlightning/examples/custom_signer.rs"),
    ("fan_out", "crates/btlightning/examples/fan_out.rs"),
];

/// The Python package's steps, and the command that each is.
const PYTHON: [(&str, &str); 4] = [
    ("wheel", "wheel --dev"),
    ("python", "python"),
    ("python-types", "python-types"),
    ("python-interop", "python-interop"),
];

/// The feature that brings wallet files on this host: with the system's OpenSSL if its headers are here, else with one
/// that is built from source.
pub(crate) fn wallet_feature() -> &'static str {
    let headers = Command::new("pkg-config").args(["--exists", "openssl"]).status();
    if headers.is_ok_and(|status| status.success()) { "btwallet" } else { "btwallet-vendored" }
}

pub(crate) fn target_dir(root: &Path) -> PathBuf {
    root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

impl Step {
    fn run(&self, root: &Path) -> Outcome {
        if !root.join(self.needs).exists() {
            return Outcome::Failed(Duration::ZERO, format!("{} is missing", self.needs));
        }
        let start = Instant::now();
        let status = cargo().args(&self.cargo_args).current_dir(root).stdin(Stdio::null()).status();
        let took = start.elapsed();
        match status {
            Ok(status) if status.success() => Outcome::Passed(took),
            Ok(status) => Outcome::Failed(took, status.to_string()),
            Err(error) => Outcome::Failed(took, format!("cannot start cargo: {error}")),
        }
    }

    fn command_line(&self) -> String {
        format!("cargo {}", self.cargo_args.join(" "))
    }
}

fn summary(steps: &[Step], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (step, outcome) in steps.iter().zip(outcomes) {
        let name = step.name;
        let _ = match outcome {
            Outcome::Passed(took) => writeln!(text, "passed   {name:<14} {:>8.1} s", took.as_secs_f64()),
            Outcome::Failed(took, why) => {
                writeln!(text, "FAILED   {name:<14} {:>8.1} s  {why}", took.as_secs_f64())
            }
            Outcome::NotRun => writeln!(text, "not run  {name}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_passed_what_failed_and_what_never_ran() {
        let step = |name| Step { name, needs: "Cargo.toml", cargo_args: vec![] };
        let outcomes = [
            Outcome::Passed(Duration::from_millis(61_234)),
            Outcome::Failed(Duration::from_secs(2), "exit status: 101".into()),
            Outcome::NotRun,
        ];
        let expected = "\
passed   workspace          61.2 s
FAILED   interop             2.0 s  exit status: 101
not run  python
";
        assert_eq!(summary(&[step("workspace"), step("interop"), step("python")], &outcomes), expected);
    }

    #[test]
    fn every_example_is_run() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let examples = package.parent().unwrap().join("crates/btlightning/examples");
        let mut there: Vec<_> = std::fs::read_dir(examples)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        there.sort();
        let mut run = EXAMPLES.map(|(name, _)| name);
        run.sort_unstable();
        assert_eq!(there, run);
    }

    #[test]
    fn a_step_whose_workspace_is_missing_fails() {
        let step = Step { name: "lost", needs: "no/such/Cargo.toml", cargo_args: vec![] };
        let outcome = step.run(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(matches!(outcome, Outcome::Failed(_, why) if why == "no/such/Cargo.toml is missing"));
    }
}
