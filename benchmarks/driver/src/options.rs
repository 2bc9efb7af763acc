//! The driver's command line.

use bench_driver::{
    plan::{Effort, WORKS, Work},
    systems,
};
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
cargo xtask bench [OPTIONS]                measures the systems side by side
  --quick                 a look: one round, and small counts
  --only NAME,...         these systems
  --work WORK,...         setup, latency, throughput (with CPU), wire, fan-out, memory, reconnect, beside-stream, path
  --no-python             no systems in Python
  --rounds N              how often every system has its turn; 5 if it is not said
  --date YYYY-MM-DD       another date than the clock's
  --out DIR               results, tables and charts go into DIR

  Without --out, the results of a whole run go into benchmarks/results, and tables and charts to their places in the
  checkout; those of a quick one or of a part go into target/bench/results.

cargo xtask bench --report [--from DIR]    makes tables and charts of the results that are there, or of those in DIR
cargo xtask bench --check                  fails if they are not what the results say, or a missed goal is not explained

What it calls, having built everything:
bench-driver run --root CHECKOUT --peer PROGRAM [--python NAME=INTERPRETER]... [--unavailable NAME=WHY]... [OPTIONS]
bench-driver understand --root CHECKOUT [OPTIONS]    says whether the options are those of a run
bench-driver report --root CHECKOUT [--from DIR] [--check]
";

#[derive(Debug)]
pub(crate) enum Command {
    Run(Measuring),
    Report {
        root: PathBuf,
        from: Option<PathBuf>,
        check: bool,
    },
    /// The words are those of a run: nothing is done.
    Understand,
    Help,
}

#[derive(Debug)]
pub(crate) struct Measuring {
    pub(crate) root: PathBuf,
    pub(crate) peer: PathBuf,
    pub(crate) pythons: Vec<(String, String)>,
    pub(crate) unavailable: Vec<(String, String)>,
    pub(crate) no_python: bool,
    pub(crate) only: Vec<String>,
    pub(crate) works: Vec<Work>,
    pub(crate) effort: Effort,
    pub(crate) quick: bool,
    pub(crate) date: Option<String>,
    pub(crate) out: Option<PathBuf>,
}

impl Measuring {
    /// Whether the results are not those of the whole benchmark.
    pub(crate) fn is_partial(&self) -> bool {
        self.quick || self.no_python || !self.only.is_empty() || self.works.len() < WORKS.len()
    }
}

pub(crate) fn parse(args: &[String]) -> Result<Command, String> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok(Command::Help);
    }
    let mut args = args.iter().map(String::as_str);
    let command = args.next();
    match command {
        Some("run") => {
            let (measuring, peer) = parse_run(args)?;
            Ok(Command::Run(Measuring { peer: peer.ok_or("--peer is missing")?, ..measuring }))
        }
        Some("understand") => parse_run(args).map(|_| Command::Understand),
        Some("report") => parse_report(args),
        _ => Err(format!("run or report?\n\n{HELP}")),
    }
}

/// What is to be measured, and by which peer, if that is said.
fn parse_run<'a>(mut args: impl Iterator<Item = &'a str>) -> Result<(Measuring, Option<PathBuf>), String> {
    let (mut root, mut peer, mut rounds) = (None, None, None);
    let mut measuring = Measuring {
        root: PathBuf::new(),
        peer: PathBuf::new(),
        pythons: vec![],
        unavailable: vec![],
        no_python: false,
        only: vec![],
        works: WORKS.to_vec(),
        effort: Effort::FULL,
        quick: false,
        date: None,
        out: None,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg {
            "--root" => root = Some(PathBuf::from(value()?)),
            "--peer" => peer = Some(PathBuf::from(value()?)),
            "--python" => measuring.pythons.push(pair(arg, value()?)?),
            "--unavailable" => measuring.unavailable.push(pair(arg, value()?)?),
            "--no-python" => measuring.no_python = true,
            "--only" => measuring.only = list(value()?, system)?,
            "--work" => measuring.works = list(value()?, work)?,
            "--rounds" => rounds = Some(value()?),
            "--quick" => measuring.quick = true,
            "--date" => measuring.date = Some(date(value()?)?),
            "--out" => measuring.out = Some(value()?.into()),
            _ => return Err(format!("what is {arg}?\n\n{HELP}")),
        }
    }
    if measuring.quick {
        measuring.effort = Effort::QUICK;
    }
    if let Some(rounds) = rounds {
        let number = rounds.parse().ok().filter(|rounds| (1..=1_000).contains(rounds));
        measuring.effort.rounds = number.ok_or(format!("{rounds} is not a number of rounds"))?;
    }
    measuring.root = root.ok_or("--root is missing")?;
    Ok((measuring, peer))
}

fn parse_report<'a>(mut args: impl Iterator<Item = &'a str>) -> Result<Command, String> {
    let (mut root, mut from, mut check) = (None, None, false);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg {
            "--root" => root = Some(PathBuf::from(value()?)),
            "--from" => from = Some(PathBuf::from(value()?)),
            "--check" => check = true,
            _ => return Err(format!("what is {arg}?\n\n{HELP}")),
        }
    }
    Ok(Command::Report { root: root.ok_or("--root is missing")?, from, check })
}

fn pair(arg: &str, value: &str) -> Result<(String, String), String> {
    let (name, value) = value.split_once('=').ok_or(format!("{arg} wants NAME=VALUE, not {value}"))?;
    Ok((system(name)?, value.to_owned()))
}

fn list<T>(value: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    value.split(',').map(|entry| parse(entry.trim())).collect()
}

fn system(name: &str) -> Result<String, String> {
    systems::description(name).map(|system| system.name.to_owned()).ok_or_else(|| {
        let names: Vec<&str> = systems::SYSTEMS.iter().map(|system| system.name).collect();
        format!("there is no system {name}; there are {}", names.join(", "))
    })
}

fn work(name: &str) -> Result<Work, String> {
    WORKS.into_iter().find(|work| work.name() == name).ok_or_else(|| {
        let names: Vec<&str> = WORKS.iter().map(|work| work.name()).collect();
        format!("there is no work {name}; there are {}", names.join(", "))
    })
}

fn date(text: &str) -> Result<String, String> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    if digits == 8 && text.len() == 10 && dashes == [4, 7] {
        Ok(text.to_owned())
    } else {
        Err(format!("{text} is no date like 2026-02-28"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Measuring, String> {
        let line = format!("run --root . --peer peer {line}");
        match parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())? {
            Command::Run(measuring) => Ok(measuring),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_part_of_a_run_is_known_as_one() {
        let cases = [
            ("", false),
            ("--rounds 9 --date 2026-02-28", false),
            ("--quick", true),
            ("--no-python", true),
            ("--only published,quinn", true),
            ("--work wire,path", true),
        ];
        for (line, partial) in cases {
            assert_eq!(run(line).unwrap().is_partial(), partial, "{line}");
        }
    }

    #[test]
    fn rounds_are_those_asked_for_whatever_comes_first() {
        assert_eq!(run("--rounds 3 --quick").unwrap().effort.rounds, 3);
        assert_eq!(run("--quick --rounds 3").unwrap().effort.rounds, 3);
        assert_eq!(run("--quick").unwrap().effort.rounds, Effort::QUICK.rounds);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let cases = [
            "--only quic",
            "--work speed",
            "--rounds 0",
            "--rounds",
            "--date 28.2.2026",
            "--python a",
            "--fast",
        ];
        for line in cases {
            assert!(run(line).is_err(), "{line}");
        }
        assert!(parse(&["run".into()]).is_err() && parse(&[]).is_err());
    }
}
