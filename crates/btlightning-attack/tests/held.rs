//! Every attack, smaller than `cargo xtask attack` carries it out, and the tables of the last full run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by it, and shows what each attack came to"
)]

use std::process::Command;

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn attack(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_btlightning-attack"))
        .args(arguments)
        .current_dir(ROOT)
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

#[test]
fn the_last_full_run_held_all_attacks_that_there_are() {
    let text = std::fs::read_to_string(format!("{ROOT}/crates/btlightning-attack/results.json")).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(results["quick"], false);
    let carried_out = results["attacks"].as_array().unwrap();
    let words = |attack: &Value, name: &str| attack[name].as_str().unwrap().to_owned();
    let not_held: Vec<_> = carried_out
        .iter()
        .filter(|attack| attack["held"] != true)
        .map(|attack| words(attack, "name"))
        .collect();
    assert!(not_held.is_empty(), "{not_held:?}");
    let carried_out: Vec<_> =
        carried_out.iter().map(|attack| (words(attack, "name"), words(attack, "promise"))).collect();
    let (_, list) = attack(&["list"]);
    let there_are: Vec<_> = list
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, promise)| (name.to_owned(), promise.trim().to_owned()))
        .collect();
    assert_eq!(carried_out, there_are);
}
