//! Counts beside their baseline, and what follows from it.

use super::baseline::Baseline;
use crate::Result;
use std::{
    collections::BTreeSet,
    fmt::{self, Display, Formatter},
};

/// By how much a count may be above its baseline. More than ten times what it moves by from run to run.
const GROWTH_PERCENT_MAX: u64 = 5;

/// Counts beside their baseline.
pub(super) struct Report {
    rows: Vec<Row>,
    /// Why the counts cannot be compared with the baseline. Empty if they can.
    environment_differences: Vec<String>,
}

struct Row {
    name: String,
    counted: Option<u64>,
    baseline: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Within,
    Grown,
    /// By so much that a later growth by as much would not be noticed.
    Shrunk,
    /// In the code and not in the baseline.
    New,
    /// In the baseline and not in the code.
    Gone,
}

impl Report {
    pub(super) fn new(committed: &Baseline, counted: &Baseline) -> Self {
        let names: BTreeSet<&String> =
            committed.instructions.keys().chain(counted.instructions.keys()).collect();
        let row = |name: &String| Row {
            name: name.clone(),
            counted: counted.instructions.get(name).copied(),
            baseline: committed.instructions.get(name).copied(),
        };
        // The first time there is nothing to compare with, and so nothing that could not be compared.
        let first = committed.instructions.is_empty();
        let differences = counted.environment.differences(&committed.environment);
        Self {
            rows: names.into_iter().map(row).collect(),
            environment_differences: if first { Vec::new() } else { differences },
        }
    }

    /// Fails if a count has grown too much, or if the baseline is not one of these scenarios.
    ///
    /// In another environment than the baseline's no growth fails: a compiler that is a little worse is nobody's change. If
    /// it `must_judge`, the environment itself does.
    pub(super) fn verdict(&self, must_judge: bool) -> Result<()> {
        let of = |change| {
            let rows = self.rows.iter().filter(move |row| row.change() == change);
            rows.map(|row| row.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let [new, gone, grown] = [Change::New, Change::Gone, Change::Grown].map(of);
        let mut failures = Vec::new();
        if !new.is_empty() {
            failures.push(format!("no baseline yet: {new}"));
        }
        if !gone.is_empty() {
            failures.push(format!("in the baseline and no longer counted: {gone}"));
        }
        if !grown.is_empty() && self.environment_differences.is_empty() {
            failures.push(format!("more than {GROWTH_PERCENT_MAX}% above the baseline: {grown}"));
        }
        if must_judge && !self.environment_differences.is_empty() {
            return Err(format!(
                "instructions: these counts must be judged, and the baseline is of another environment: {}\n\
                 Count in the baseline's, or, if it has gone for good, bless one of this.",
                self.environment_differences.join("; ")
            ));
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(format!(
            "instructions: {}\n\
             Where they are spent: callgrind_annotate target/instructions/NAME.many.out\n\
             If what they buy is worth it: cargo xtask instructions --bless, and say in the commit what that is.",
            failures.join("; ")
        ))
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>14} {:>14} {:>9}", "one run of", "instructions", "baseline", "change")?;
        for row in &self.rows {
            let or_dash = |count: Option<u64>| count.map_or_else(|| "-".into(), grouped);
            let (counted, baseline) = (or_dash(row.counted), or_dash(row.baseline));
            let (percent, words) = (row.percent(), row.change().words());
            let line = format!("{:<24} {counted:>14} {baseline:>14} {percent:>9}  {words}", row.name);
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.environment_differences.is_empty() {
            writeln!(f, "\nNot judged, because the baseline was counted in another environment:")?;
            for difference in &self.environment_differences {
                writeln!(f, "  {difference}")?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn change(&self) -> Change {
        let (counted, baseline) = match (self.counted, self.baseline) {
            (Some(counted), Some(baseline)) => (u128::from(counted), u128::from(baseline)),
            (_, None) => return Change::New,
            (None, _) => return Change::Gone,
        };
        let most = u128::from(GROWTH_PERCENT_MAX);
        if counted * 100 > baseline * (100 + most) {
            Change::Grown
        } else if counted * 100 < baseline * (100 - most) {
            Change::Shrunk
        } else {
            Change::Within
        }
    }

    fn percent(&self) -> String {
        match (self.counted, self.baseline) {
            (Some(counted), Some(baseline)) if baseline > 0 => {
                #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
                let ratio = counted as f64 / baseline as f64;
                format!("{:+.1}%", (ratio - 1.0) * 100.0)
            }
            _ => "-".into(),
        }
    }
}

impl Change {
    fn words(self) -> &'static str {
        match self {
            Self::Within => "",
            Self::Grown => "too much",
            Self::Shrunk => "bless it, so that it stays",
            Self::New => "no baseline",
            Self::Gone => "not counted",
        }
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Baseline {
        let instructions = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Baseline { instructions, ..Default::default() }
    }

    fn change(baseline: u64, counted: u64) -> Change {
        Row { name: String::new(), counted: Some(counted), baseline: Some(baseline) }.change()
    }

    #[test]
    fn five_percent_is_allowed_and_more_is_not() {
        assert_eq!(change(1_000, 1_050), Change::Within);
        assert_eq!(change(1_000, 1_051), Change::Grown);
        assert_eq!(change(1_000, 950), Change::Within);
        assert_eq!(change(1_000, 949), Change::Shrunk);
        assert_eq!(change(u64::MAX, u64::MAX), Change::Within);
        assert_eq!(change(0, 1), Change::Grown);
    }

    #[test]
    fn growth_fails_and_names_what_has_grown() {
        let committed = counts(&[("decode", 1_000), ("encode", 1_000)]);
        let report = Report::new(&committed, &counts(&[("decode", 1_010), ("encode", 1_100)]));
        let message = report.verdict(false).unwrap_err();
        assert!(message.contains("more than 5% above the baseline: encode\n"), "{message}");
        assert!(
            Report::new(&committed, &counts(&[("decode", 500), ("encode", 1_050)])).verdict(false).is_ok()
        );
    }

    #[test]
    fn a_baseline_of_other_scenarios_fails_whatever_counted_it() {
        let mut committed = counts(&[("encode", 1_000), ("old", 1_000)]);
        committed.environment.rustc = "rustc 1.90.0".into();
        let report = Report::new(&committed, &counts(&[("encode", 1_000), ("young", 1_000)]));
        let message = report.verdict(false).unwrap_err();
        assert!(message.contains("no baseline yet: young; in the baseline and no longer counted: old"));
    }

    #[test]
    fn growth_in_another_environment_is_shown_and_does_not_fail() {
        let committed = counts(&[("encode", 1_000)]);
        let mut counted = counts(&[("encode", 2_000)]);
        counted.environment.rustc = "rustc 1.90.0".into();
        let report = Report::new(&committed, &counted);
        assert_eq!(report.verdict(false), Ok(()));
        let message = report.verdict(true).unwrap_err();
        assert!(message.contains("must be judged") && message.contains("rustc 1.90.0, not "), "{message}");
        assert!(Report::new(&committed, &committed).verdict(true).is_ok());
        let text = report.to_string();
        assert!(text.contains("+100.0%  too much\n\nNot judged"), "{text}");
        assert!(text.contains("rustc: rustc 1.90.0, not "), "{text}");
        let first = Report::new(&Baseline::default(), &counted);
        assert!(!first.to_string().contains("Not judged") && first.verdict(false).is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let committed = counts(&[("decode", 1_234_567), ("encode", 1_000), ("old", 5)]);
        let report =
            Report::new(&committed, &counts(&[("decode", 1_240_000), ("encode", 900), ("young", 7)]));
        let expected = "\
one run of                 instructions       baseline    change
decode                        1,240,000      1,234,567     +0.4%
encode                              900          1,000    -10.0%  bless it, so that it stays
old                                   -              5         -  not counted
young                                 7              -         -  no baseline
";
        assert_eq!(report.to_string(), expected);
    }
}
