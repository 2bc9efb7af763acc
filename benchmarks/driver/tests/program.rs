//! The driver as a program: what it writes, and whom it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn driver(root: &Path, command: &str) -> Command {
    let mut driver = Command::new(env!("CARGO_BIN_EXE_bench-driver"));
    let mut words = command.split_whitespace();
    driver.args(words.next()).arg("--root").arg(root).args(words);
    driver
}

fn output(mut command: Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

const README: &str = "\
# A
<!-- bench:begin goals (made by `cargo xtask bench --report` from benchmarks/results/results.json) -->
<!-- bench:end goals -->
";

#[test]
fn a_part_of_a_run_leaves_the_checkout_as_it_is_and_a_report_is_made_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::write(root.join("README.md"), README).unwrap();
    // The test's peer takes every system it does not know for an echo over TCP.
    let mut run = driver(root, "run --only grpc,py-grpcio --work latency --quick --date 2026-02-28");
    run.arg("--peer").arg(env!("CARGO_BIN_EXE_echo-peer")).args(["--unavailable", "py-grpcio=no wheel"]);
    let (success, said) = output(run);
    assert!(success, "{said}");
    assert!(said.contains("py-grpcio is left out: no wheel") && said.contains("round 1 of 1"), "{said}");
    assert_eq!(fs::read_to_string(root.join("README.md")).unwrap(), README);
    assert!(!root.join("benchmarks").exists());
    let results = root.join("target/bench/results/results.json");
    let text = fs::read_to_string(&results).unwrap();
    assert!(text.contains("\"date\": \"2026-02-28\"") && text.contains("p50_us"), "{text}");

    // Without results a checkout is in order; with them it is once their report has been made.
    assert!(output(driver(root, "report --check")).0);
    fs::create_dir_all(root.join("benchmarks/results")).unwrap();
    fs::copy(&results, root.join("benchmarks/results/results.json")).unwrap();
    let (success, said) = output(driver(root, "report --check"));
    assert!(!success && said.contains("cargo xtask bench --report"), "{said}");
    assert!(output(driver(root, "report")).0);
    // Every goal that is missed wants words; here that is all of them.
    let explanations = root.join("benchmarks/README.md");
    fs::write(&explanations, "").unwrap();
    let (success, said) = output(driver(root, "report --check"));
    assert!(!success, "{said}");
    let (_, missed) = said.trim_end().split_once("does not say what holds: ").unwrap();
    let words: Vec<String> = missed.split("; ").map(|goal| format!("- **{goal}.** Why.")).collect();
    assert!(words.len() > 20, "{said}");
    fs::write(&explanations, words.join("\n")).unwrap();
    let (success, said) = output(driver(root, "report --check"));
    assert!(success, "{said}");
    assert!(fs::read_to_string(root.join("README.md")).unwrap().contains("| goal |"));
    assert!(root.join("benchmarks/RESULTS.md").exists());
}

#[cfg(unix)]
#[test]
fn a_driver_that_is_told_to_end_leaves_no_peer_behind() {
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let (fifo, peer) = (dir.path().join("pid"), dir.path().join("peer"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // It says who it is, and then nothing any more, and does not mind that its input ends.
    fs::write(&peer, format!("#!/bin/sh\necho $$ > {}\nexec sleep 600 < /dev/null\n", fifo.display()))
        .unwrap();
    fs::set_permissions(&peer, fs::Permissions::from_mode(0o755)).unwrap();

    let mut run = driver(dir.path(), "run --only grpc --work latency --quick");
    let mut run = run.arg("--peer").arg(&peer).spawn().unwrap();
    let pid: i32 = fs::read_to_string(&fifo).unwrap().trim().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    assert!(test_kill_process(pid).is_ok());
    kill_process(Pid::from_raw(run.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(test_kill_process(pid).is_err());
}
