//! The project's own commands: `cargo xtask <command>`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal: printing is its purpose"
)]

mod attack;
mod bench;
mod fuzz;
mod instructions;
mod python;
mod schedules;
mod steps;
mod tidy;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Every error ends up before a person at a terminal and nobody matches on one, so an error is its text.
type Result<T> = std::result::Result<T, String>;

const HELP: &str = "\
cargo xtask <command>

  test               every test of the project, step by step; stops at the first step that fails
  tidy               dependency policy and house rules
  tidy --fix-counts  the same, after writing the measured number of dependencies into README.md
  bench [OPTIONS]    measures ours, the published package, raw quinn and gRPC side by side; --help lists the options
    --report           makes tables and charts of the results that are there
    --check            fails if they are not what the results say
  attack             attacks a running server and a running client, one line for each attack; for the figures
    --quick            fewer of everything, in the dev profile
    --only NAMES       only those whose names contain one of these, with commas between
    --report           makes the tables of README.md and SECURITY.md of the results of the last full run
    --check            fails if they are not what the results say
  fuzz [TARGET ...] [--seconds N]
                     runs the fuzz targets, each for so long; wants a nightly compiler and cargo-fuzz
    --keep             puts what was found, minimised, into the committed corpora
  instructions       how many instructions the hot paths take; fails if more than 5% above the baseline
  instructions --bless
                     the same, and makes them the baseline
  schedules [--count N] [--from SEED]
                     random schedules over the simulated network, 5,000 unless told otherwise
  wallet-feature     the feature that brings wallet files on this host
  wheel              builds the Python wheel and the sdist, and checks both; into target/python/dist-release
    --dev              of the dev profile, into target/python/dist-dev
    --out DIR          into DIR
  python [ARGS]      the Python tests in a fresh virtual environment, against the wheel; ARGS as pytest reads them
  python-interop [ARGS]
                     the Python tests against the published package, the same way
  python-types       mypy over the Python package and its tests, and its stubs against the built module
  python-lint [--fix]
                     ruff over all Python files
  help               this text
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["test"] => steps::test(&root()),
        ["tidy"] => tidy::run(&root(), false),
        ["tidy", "--fix-counts"] => tidy::run(&root(), true),
        ["attack", ref args @ ..] => attack::attack(&root(), args),
        ["bench", ref args @ ..] => bench::bench(&root(), args),
        ["fuzz", ref args @ ..] => fuzz::run(&root(), args),
        ["instructions"] => instructions::run(&root(), false),
        ["instructions", "--bless"] => instructions::run(&root(), true),
        ["schedules", ref args @ ..] => schedules::run(&root(), args),
        ["wallet-feature"] => {
            println!("{}", steps::wallet_feature());
            Ok(())
        }
        ["wheel", ref args @ ..] => python::wheel(&root(), args),
        ["python", ref args @ ..] => python::test(&root(), args),
        ["python-interop", ref args @ ..] => python::interop(&root(), args),
        ["python-types"] => python::types(&root()),
        ["python-lint"] => python::lint(&root(), false),
        ["python-lint", "--fix"] => python::lint(&root(), true),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        [] => Err(format!("no command\n\n{HELP}")),
        _ => Err(format!("unknown command: {}\n\n{HELP}", words.join(" "))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout: the directory above this package, wherever the command was called from.
fn root() -> PathBuf {
    // Cargo sets it for `cargo run`; the value from build time would outlive a moved checkout.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The cargo that runs us, so that a chosen toolchain stays chosen.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_our_package(&mut cargo);
    cargo
}

/// Takes out of a command's environment what `cargo run` tells us about ourselves. Build scripts look at it (ring's
/// does), and would run again, with all that depends on them, whenever cargo is called by us and by others in turn.
fn forget_our_package(command: &mut Command) {
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
}
