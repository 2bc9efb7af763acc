//! Every attack, smaller than `cargo xtask attack` carries it out, and the tables of the last full run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by it, and shows what each attack came to"
)]

use std::process::Command;

fn attack(arguments: &[&str]) -> (bool, String) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new(env!("CARGO_BIN_EXE_btlightning-attack"))
        .args(arguments)
        .current_dir(root)
        .output()
        .unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&words).into_owned())
}

#[test]
fn every_attack_is_held() {
    let (is_held, words) = attack(&["run", "--quick"]);
    println!("{words}");
    assert!(is_held);
}

#[test]
fn the_tables_are_those_of_the_last_full_run() {
    let (is_so, words) = attack(&["report", "--check"]);
    assert!(is_so, "{words}");
}
