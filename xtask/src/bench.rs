//! `cargo xtask bench`: builds what the benchmark's driver needs, and calls it. What it measures and how is the driver's
//! part, in `benchmarks/driver`.

use crate::{Result, cargo, python, steps};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PACKAGE: &str = "btlightning-benchmark-driver";

/// The driver's commands: a report of results that are there, or a run.
pub(crate) fn bench(root: &Path, args: &[&str]) -> Result<()> {
    if args.contains(&"--help") {
        return call(driver_of_dev_profile(root).arg("--help"));
    }
    if args.iter().any(|arg| ["--report", "--check"].contains(arg)) {
        let passed_on: Vec<_> = args.iter().filter(|arg| **arg != "--report").collect();
        return call(driver_of_dev_profile(root).args(["report", "--root"]).arg(root).args(passed_on));
    }
    // A mistake is to be found before anything is built for it.
    call(driver_of_dev_profile(root).args(["understand", "--root"]).arg(root).args(args))?;
    let target = target_dir(root);
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest(root));
    call(build.arg("--target-dir").arg(&target))?;

    let program = |name: &str| target.join("release").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let mut driver = Command::new(program("bench-driver"));
    crate::forget_our_package(&mut driver);
    driver.args(["run", "--root"]).arg(root).arg("--peer").arg(program("peer"));
    for environment in python::bench_environments(root, &|system| is_wanted(system, args)) {
        for system in environment.systems {
            match &environment.interpreter {
                Ok(path) => driver.arg("--python").arg(format!("{system}={}", path.display())),
                Err(why) => driver.arg("--unavailable").arg(format!("{system}={why}")),
            };
        }
    }
    call(driver.args(args))
}

fn manifest(root: &Path) -> PathBuf {
    root.join("benchmarks/Cargo.toml")
}

/// A directory of its own, for the reason that `interop` has one.
fn target_dir(root: &Path) -> PathBuf {
    steps::target_dir(root).join("benchmarks")
}

/// The driver as `cargo test` builds it, which is quick: it is to read, not to measure.
fn driver_of_dev_profile(root: &Path) -> Command {
    let mut run = cargo();
    run.args(["run", "--quiet", "--locked", "--package", PACKAGE, "--bin", "bench-driver"]);
    run.arg("--manifest-path").arg(manifest(root)).arg("--target-dir").arg(target_dir(root)).arg("--");
    run
}

/// Whether a run with these arguments measures this system in Python.
fn is_wanted(system: &str, args: &[&str]) -> bool {
    let only = args.iter().position(|arg| *arg == "--only").and_then(|at| args.get(at + 1));
    let named = only.is_none_or(|only| only.split(',').any(|name| name.trim() == system));
    named && !args.contains(&"--no-python")
}

/// Runs a command with our terminal.
fn call(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("cannot start {program}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_measured_is_prepared() {
        let cases: [(&[&str], bool); 6] = [
            (&[], true),
            (&["--quick"], true),
            (&["--no-python"], false),
            (&["--only", "published,py-ours"], true),
            (&["--only", "published,py-ours-async"], false),
            (&["--only", "published", "--quick"], false),
        ];
        for (args, wanted) in cases {
            assert_eq!(is_wanted("py-ours", args), wanted, "{args:?}");
        }
    }
}
