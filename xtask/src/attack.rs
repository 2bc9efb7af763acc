//! `cargo xtask attack`: builds the attacks, and carries them out. What they are is the part of `btlightning-attack`.

use crate::{Result, cargo};
use std::{path::Path, process::Stdio};

const PACKAGE: &str = "btlightning-attack";

/// Where a full run leaves its results, from which the tables are made.
const RESULTS: &str = "crates/btlightning-attack/results.json";

/// A run, or the tables of the last one.
pub(crate) fn attack(root: &Path, args: &[&str]) -> Result<()> {
    let arguments = arguments(args)?;
    let is_quick = arguments.first() != Some(&"run") || arguments.contains(&"--quick");
    let mut run = cargo();
    run.args(["run", "--quiet", "--locked", "--package", PACKAGE]);
    if !is_quick {
        run.arg("--release");
    }
    let status = run.arg("--").args(&arguments).current_dir(root).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{PACKAGE}: {status}")),
        Err(error) => Err(format!("cannot start cargo: {error}")),
    }
}

/// What the program is told. Only a run of all attacks at their full size leaves results.
fn arguments<'a>(args: &[&'a str]) -> Result<Vec<&'a str>> {
    match *args {
        ["--report"] => Ok(vec!["report"]),
        ["--check"] => Ok(vec!["report", "--check"]),
        [] => Ok(vec!["run", "--json", RESULTS]),
        ["--quick"] | ["--only", _] | ["--quick", "--only", _] | ["--only", _, "--quick"] => {
            Ok([&["run"], args].concat())
        }
        _ => Err(format!("attack does not know {}; `cargo xtask help` says what it does", args.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_run_leaves_results() {
        assert!(arguments(&[]).unwrap().contains(&RESULTS));
        assert_eq!(arguments(&["--quick"]).unwrap(), ["run", "--quick"]);
        assert_eq!(arguments(&["--only", "flood"]).unwrap(), ["run", "--only", "flood"]);
        assert_eq!(arguments(&["--check"]).unwrap(), ["report", "--check"]);
        arguments(&["--fast"]).unwrap_err();
    }
}
