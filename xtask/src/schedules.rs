//! `cargo xtask schedules`: thousands of random schedules over the simulated network, and one line about them.

use crate::{Result, cargo};
use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

/// How many are run unless told otherwise.
const COUNT: u64 = 5_000;

/// What each part of the tests begins its line of figures with.
const FIGURES: &str = "schedules: ";

/// What a part says it did, by its names.
type Figures = BTreeMap<String, u64>;

pub(crate) fn run(root: &Path, args: &[&str]) -> Result<()> {
    let (from, count) = understood(args)?;
    let to = from.checked_add(count).ok_or("there are not so many seeds")?;
    let began = Instant::now();
    let mut test = cargo();
    test.current_dir(root).args(["test", "--locked", "-p", "btlightning", "--profile", "schedules"]);
    test.args(["--test", "schedules", "--", "schedules_keep", "--nocapture"]);
    test.env("BTLIGHTNING_SCHEDULES", format!("{from}..{to}")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = test.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = summed(&text);
    println!("{}", told(&figures, from, began.elapsed()));
    let done = figures.get("schedules").copied().unwrap_or_default();
    match output.status.success() {
        true if done == count => Ok(()),
        true => Err(format!("{done} schedules were run of {count}\n{text}")),
        false if figures.is_empty() => Err(format!("no schedule was run\n{text}")),
        false => Err(format!("something that was promised did not hold\n{text}")),
    }
}

fn understood(args: &[&str]) -> Result<(u64, u64)> {
    let (mut from, mut count) = (0, COUNT);
    let mut rest = args.iter();
    while let Some(option) = rest.next() {
        let number = rest.next().and_then(|value| value.parse().ok());
        match (*option, number) {
            ("--from", Some(number)) => from = number,
            ("--count", Some(number)) => count = number,
            _ => return Err(format!("{option}: wanted are --count N and --from SEED")),
        }
    }
    Ok((from, count))
}

/// The figures of all parts together.
fn summed(text: &str) -> Figures {
    let mut figures = Figures::new();
    // The test harness may have begun the line.
    for (_, line) in text.lines().filter_map(|line| line.split_once(FIGURES)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.chunks_exact(2) {
            *figures.entry(pair[0].to_owned()).or_default() += pair[1].parse::<u64>().unwrap_or_default();
        }
    }
    figures
}

fn told(figures: &Figures, from: u64, took: Duration) -> String {
    let of = |name: &str| figures.get(name).copied().unwrap_or_default();
    format!(
        "{} schedules from seed {from}: {} actions; {} queries ({} answered, {} failed, {} cancelled); {:.1} hours of \
         virtual time in {:.0} s",
        of("schedules"),
        of("actions"),
        of("queries"),
        of("answered"),
        of("failed"),
        of("cancelled"),
        of("virtual_seconds") as f64 / 3600.0,
        took.as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_told_as_one() {
        let text = "\
test one ... schedules: schedules 2 actions 30 queries 20 answered 10 failed 6 cancelled 4 virtual_seconds 900 failed:a 6
schedules: schedules 3 actions 40 queries 5 answered 5 failed 0 cancelled 0 virtual_seconds 900
";
        let expected = "5 schedules from seed 7: 70 actions; 25 queries (15 answered, 6 failed, 4 cancelled); 0.5 hours of \
                        virtual time in 3 s";
        assert_eq!(told(&summed(text), 7, Duration::from_secs(3)), expected);
    }

    #[test]
    fn options_are_numbers() {
        assert_eq!(understood(&[]).unwrap(), (0, COUNT));
        assert_eq!(understood(&["--count", "9", "--from", "3"]).unwrap(), (3, 9));
        assert!(understood(&["--count"]).is_err() && understood(&["--form", "3"]).is_err());
    }
}
