//! The hot paths whose instructions `cargo xtask instructions` counts: one scenario of them, run so many times.
//!
//! Nothing in here measures. The program is run twice under callgrind, with few and with many runs of a scenario, and
//! the difference is what the runs in between took; start-up, set-up and warm-up are in both.

#![allow(clippy::print_stdout, reason = "a program that is read by another: printing is its purpose")]

mod codec;
mod cpu;
mod exchange;
mod payload;

use std::process::ExitCode;

use payload::ORDERS;

/// Why a scenario could not be run.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A hot path.
struct Scenario {
    name: &'static str,
    /// Runs that warm up: both counts have them.
    few: u64,
    /// Runs beyond `few` that are counted. As many as it takes for what is random (the order of maps, the keys of TLS and
    /// what they are drawn from) to move the average by less than 0.5%.
    counted: u64,
    run: fn(u64) -> Result<(), Failure>,
}

const SCENARIOS: [Scenario; 9] = [
    Scenario { name: "encode-dynamic-1k", few: 100, counted: 2 * ORDERS, run: codec::encode_dynamic_1k },
    Scenario { name: "encode-typed-1k", few: 10, counted: 1_000, run: codec::encode_typed_1k },
    Scenario { name: "encode-dynamic-100k", few: 3, counted: 20, run: codec::encode_dynamic_100k },
    Scenario { name: "encode-typed-100k", few: 3, counted: 20, run: codec::encode_typed_100k },
    Scenario { name: "decode-dynamic-1k", few: 10, counted: 1_000, run: codec::decode_dynamic_1k },
    Scenario { name: "decode-typed-1k", few: 10, counted: 1_000, run: codec::decode_typed_1k },
    Scenario { name: "scan-100k", few: 3, counted: 20, run: codec::scan_100k },
    Scenario { name: "exchange-dynamic-1k", few: 200, counted: ORDERS, run: exchange::dynamic_1k },
    Scenario { name: "exchange-typed-1k", few: 200, counted: 1_000, run: exchange::typed_1k },
];

const USAGE: &str = "\
btlightning-instructions list        each scenario: its name, the few runs, the many
btlightning-instructions cpu         what the processor has of what libraries choose their code by
btlightning-instructions NAME RUNS   runs a scenario so many times";

fn main() -> Result<ExitCode, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            for Scenario { name, few, counted, .. } in &SCENARIOS {
                println!("{name} {few} {}", few + counted);
            }
        }
        ["cpu"] => println!("{}", cpu::features()),
        [name, runs] => {
            let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
            let scenario = scenario.ok_or_else(|| format!("no scenario is called {name}"))?;
            (scenario.run)(runs.parse()?)?;
        }
        _ => {
            println!("{USAGE}");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let names: HashSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn every_scenario_runs() {
        for scenario in &SCENARIOS {
            if let Err(failure) = (scenario.run)(2) {
                panic!("{}: {failure}", scenario.name);
            }
        }
    }
}
