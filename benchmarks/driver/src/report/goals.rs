//! The goals, each with the figure that was measured.

use super::{numbers::significant, table::Table};
use crate::{
    plan::{ONE_KB, ONE_MB},
    results::{Layout, Results, Subject},
    statistics::Summary,
};

/// What a goal compares.
struct Goal {
    text: &'static str,
    /// The best of these counts.
    ours: &'static [&'static str],
    against: &'static str,
    work: &'static str,
    layout: Layout,
    bytes: Option<u64>,
    measure: &'static str,
    better: Better,
    at_least: f64,
    aim: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

const fn goals() -> [Goal; 29] {
    use Better::{Less, More};
    use Layout::{OneProcess, TwoProcesses};

    const UNCHANGED: &[&str] = &["ours-dynamic"];
    const TYPED: &[&str] = &["ours-typed"];
    const LOCAL: &[&str] = &["ours-typed-local"];
    /// The server on a thread of its own, the client on the program's runtime.
    const SAME: &str = "quinn-server-thread";
    const BEST_TYPED: &[&str] = &["ours-typed", "ours-typed-local"];
    const PYTHON: &[&str] = &["py-ours"];

    const fn throughput(text: &'static str, layout: Layout, bytes: u64, at_least: f64, aim: f64) -> Goal {
        let bytes = Some(bytes);
        Goal {
            text,
            ours: UNCHANGED,
            against: "published",
            work: "throughput",
            layout,
            bytes,
            measure: "per_second",
            better: More,
            at_least,
            aim,
        }
    }
    const fn p50(text: &'static str, layout: Layout, bytes: u64, at_least: f64, aim: f64) -> Goal {
        let goal = throughput(text, layout, bytes, at_least, aim);
        Goal { work: "latency", measure: "p50_us", better: Less, ..goal }
    }
    const fn setup(text: &'static str, layout: Layout) -> Goal {
        let goal = throughput(text, layout, 0, 2.0, 4.0);
        Goal { work: "setup", bytes: None, measure: "p50_ms", better: Less, ..goal }
    }
    const fn fan_out(text: &'static str, measure: &'static str) -> Goal {
        let goal = throughput(text, TwoProcesses, ONE_KB, 2.0, 4.0);
        Goal { work: "fan-out", measure, better: Less, ..goal }
    }
    const fn bare(
        text: &'static str,
        ours: &'static [&'static str],
        against: &'static str,
        bytes: u64,
    ) -> Goal {
        Goal { ours, against, ..throughput(text, TwoProcesses, bytes, 0.85, 0.95) }
    }
    const fn bare_p50(text: &'static str, bytes: u64) -> Goal {
        let goal = bare(text, UNCHANGED, SAME, bytes);
        Goal { work: "latency", measure: "p50_us", better: Less, ..goal }
    }
    const fn python(goal: Goal) -> Goal {
        Goal { ours: PYTHON, against: "py-published", ..goal }
    }

    [
        throughput("1 KB throughput, one process, unchanged program", OneProcess, ONE_KB, 3.0, 5.0),
        throughput("1 KB throughput, two processes, unchanged program", TwoProcesses, ONE_KB, 2.5, 5.0),
        Goal {
            ours: BEST_TYPED,
            ..throughput(
                "1 KB throughput, two processes, typed calls, best layout",
                TwoProcesses,
                ONE_KB,
                5.0,
                8.0,
            )
        },
        p50("1 KB p50, one process", OneProcess, ONE_KB, 2.0, 4.0),
        throughput("100 KB throughput, two processes", TwoProcesses, 102_400, 2.0, 3.5),
        throughput("1 MB throughput, two processes", TwoProcesses, ONE_MB, 2.0, 3.5),
        p50("1 MB p50, one process", OneProcess, ONE_MB, 1.6, 2.0),
        p50("1 MB p50, two processes", TwoProcesses, ONE_MB, 1.6, 2.0),
        setup("set-up with first answer, one process", OneProcess),
        setup("set-up with first answer, two processes", TwoProcesses),
        Goal {
            measure: "cpu_us",
            better: Less,
            ..throughput("CPU per 1 KB request, client plus server", TwoProcesses, ONE_KB, 3.0, 6.0)
        },
        fan_out("1 KB to 256 miners: time to the last answer", "p50_ms"),
        fan_out("1 KB to 256 miners: CPU per query", "cpu_us"),
        bare(
            "raw quinn in the same thread layout, 1 KB throughput, unchanged program",
            UNCHANGED,
            SAME,
            ONE_KB,
        ),
        bare(
            "raw quinn in the same thread layout, 1 MB throughput, unchanged program",
            UNCHANGED,
            SAME,
            ONE_MB,
        ),
        bare("raw quinn in the same thread layout, 1 KB throughput, typed calls", TYPED, SAME, ONE_KB),
        bare("raw quinn in the same thread layout, 1 MB throughput, typed calls", TYPED, SAME, ONE_MB),
        bare_p50("raw quinn in the same thread layout, 1 KB p50, unchanged program", ONE_KB),
        bare_p50("raw quinn in the same thread layout, 1 MB p50, unchanged program", ONE_MB),
        bare(
            "raw quinn on the program's runtime, 1 KB throughput, unchanged program",
            UNCHANGED,
            "quinn",
            ONE_KB,
        ),
        bare(
            "raw quinn on the program's runtime, 1 MB throughput, unchanged program",
            UNCHANGED,
            "quinn",
            ONE_MB,
        ),
        bare("raw quinn, a runtime per side, 1 KB throughput, typed calls", LOCAL, "quinn-split", ONE_KB),
        bare("raw quinn, a runtime per side, 1 MB throughput, typed calls", LOCAL, "quinn-split", ONE_MB),
        python(p50("Python, 1 KB p50, one process", OneProcess, ONE_KB, 2.0, 4.0)),
        python(p50("Python, 1 KB p50, two processes", TwoProcesses, ONE_KB, 2.0, 4.0)),
        python(throughput("Python, 1 KB throughput, one process, 32 threads", OneProcess, ONE_KB, 2.0, 5.0)),
        python(throughput(
            "Python, 1 KB throughput, two processes, 32 threads",
            TwoProcesses,
            ONE_KB,
            2.0,
            5.0,
        )),
        python(p50("Python, 1 MB p50, one process", OneProcess, ONE_MB, 2.0, 3.0)),
        python(p50("Python, 1 MB p50, two processes", TwoProcesses, ONE_MB, 2.0, 3.0)),
    ]
}

/// Every goal with what was measured. What was not stands there without a figure: a goal does not go away.
pub(super) fn table(results: &Results) -> Table {
    let mut table = Table::new(["goal", "at least", "aim", "measured", "rounds", ""]);
    for goal in goals() {
        let (measured, range, verdict) = match goal.measured(results) {
            Some(factor) => {
                let range = if factor.rounds > 1 {
                    format!("{} to {}", goal.factor(factor.min), goal.factor(factor.max))
                } else {
                    String::new()
                };
                (goal.factor(factor.median), range, goal.verdict(factor.median))
            }
            None => (super::table::NOTHING.into(), String::new(), "not measured".into()),
        };
        let (at_least, aim) = (goal.threshold(goal.at_least), goal.threshold(goal.aim));
        table.row(goal.text, [at_least, aim, measured, range, verdict].map(Some));
    }
    table
}

/// The goals that were not met, as the table names them.
pub(super) fn missed(results: &Results) -> Vec<&'static str> {
    let is_missed = |goal: &Goal| goal.measured(results).is_none_or(|factor| factor.median < goal.at_least);
    goals().into_iter().filter(is_missed).map(|goal| goal.text).collect()
}

impl Goal {
    /// How many times better, in the rounds that both have. Of several of ours, the one that is best over all rounds.
    fn measured(&self, results: &Results) -> Option<Summary> {
        let subject = Subject::new(self.work, self.layout, self.bytes);
        let theirs = results.samples(self.against, &subject, self.measure);
        let factors = |ours: &&str| {
            let mut factors = Vec::new();
            for (round, ours) in results.samples(ours, &subject, self.measure) {
                let theirs = theirs.iter().find(|(of, _)| *of == round).map(|(_, theirs)| *theirs);
                let factor = theirs.map(|theirs| match self.better {
                    Better::More => ours / theirs,
                    Better::Less => theirs / ours,
                });
                factors.extend(factor.filter(|factor| factor.is_finite()));
            }
            Summary::of(&factors)
        };
        self.ours.iter().filter_map(factors).max_by(|a, b| a.median.total_cmp(&b.median))
    }

    fn factor(&self, factor: f64) -> String {
        match self.better {
            Better::More => format!("{}x", significant(factor, if factor < 1.0 { 2 } else { 3 })),
            Better::Less if factor < 1.0 => {
                let of = if self.measure.starts_with("cpu") { "as much" } else { "as long" };
                format!("{}x {of}", significant(1.0 / factor, 3))
            }
            Better::Less => format!("1/{}", significant(factor, 3)),
        }
    }

    fn threshold(&self, factor: f64) -> String {
        match self.better {
            Better::Less if factor < 1.0 => self.factor(factor),
            Better::More => format!("{factor}x"),
            Better::Less => format!("1/{factor}"),
        }
    }

    fn verdict(&self, factor: f64) -> String {
        if factor >= self.aim {
            "aim met".into()
        } else if factor >= self.at_least {
            "met".into()
        } else {
            // Less than a per cent is still missed.
            format!("missed by {:.0}%", ((1.0 - factor / self.at_least) * 100.0).max(1.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::tests::results, systems};

    fn line(results: &Results, text: &str) -> String {
        let markdown = table(results).markdown();
        markdown.lines().find(|line| line.starts_with(&format!("| {text} |"))).unwrap().to_owned()
    }

    #[test]
    fn a_goal_is_the_median_of_what_each_round_says() {
        let mut results = results();
        let subject = Subject::new("throughput", Layout::OneProcess, ONE_KB);
        let rounds =
            [(0, 10_000.0, 20_000.0), (1, 5_000.0, 20_000.0), (2, 10_000.0, 35_000.0), (3, 1.0, 1.0)];
        for (round, published, ours) in rounds {
            let sample = |value| crate::results::Sample { round, value, of: 100 };
            results.record("ours-dynamic", &subject, "per_second", sample(ours));
            // A round that only one of them has says nothing.
            if round < 3 {
                results.record("published", &subject, "per_second", sample(published));
            }
        }
        assert_eq!(
            line(&results, "1 KB throughput, one process, unchanged program"),
            "| 1 KB throughput, one process, unchanged program | 3x | 5x | 3.50x | 2.00x to 4.00x | met |"
        );
        assert!(line(&results, "1 KB p50, one process").ends_with("| 1/2 | 1/4 | – |  | not measured |"));
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let mut results = results();
        assert_eq!(missed(&results).len(), goals().len());
        let subject = Subject::new("throughput", Layout::OneProcess, ONE_KB);
        for (system, value) in [("ours-dynamic", 30.0), ("published", 10.0)] {
            results.record(
                system,
                &subject,
                "per_second",
                crate::results::Sample { round: 0, value, of: 100 },
            );
        }
        let missed = missed(&results);
        assert_eq!(missed.len(), goals().len() - 1);
        assert!(!missed.contains(&"1 KB throughput, one process, unchanged program"));
    }

    #[test]
    fn less_is_better_where_it_is() {
        let mut results = results();
        let subject = Subject::new("latency", Layout::OneProcess, ONE_KB);
        for (system, value) in [("ours-dynamic", 50.0), ("published", 90.0)] {
            let sample = crate::results::Sample { round: 0, value, of: 100 };
            results.record(system, &subject, "p50_us", sample);
        }
        let line = line(&results, "1 KB p50, one process");
        assert_eq!(line, "| 1 KB p50, one process | 1/2 | 1/4 | 1/1.80 |  | missed by 10% |");
    }

    #[test]
    fn what_takes_longer_is_said_to() {
        let mut results = results();
        let subject = Subject::new("setup", Layout::OneProcess, None);
        for (system, value) in [("ours-dynamic", 3.0), ("published", 2.5)] {
            let sample = crate::results::Sample { round: 0, value, of: 100 };
            results.record(system, &subject, "p50_ms", sample);
        }
        let line = line(&results, "set-up with first answer, one process");
        assert!(line.ends_with("| 1/2 | 1/4 | 1.20x as long |  | missed by 58% |"), "{line}");
    }

    #[test]
    fn the_best_of_several_counts() {
        let mut results = results();
        let subject = Subject::new("throughput", Layout::TwoProcesses, ONE_KB);
        for (system, value) in [("published", 10.0), ("ours-typed", 79.0), ("ours-typed-local", 80.0)] {
            let sample = crate::results::Sample { round: 0, value, of: 100 };
            results.record(system, &subject, "per_second", sample);
        }
        let line = line(&results, "1 KB throughput, two processes, typed calls, best layout");
        assert!(line.ends_with("| 8.00x |  | aim met |"), "{line}");
    }

    #[test]
    fn goals_are_of_systems_that_there_are() {
        for goal in goals() {
            for name in goal.ours.iter().chain([&goal.against]) {
                assert!(systems::description(name).is_some(), "{name}");
            }
            assert!(goal.at_least < goal.aim, "{}", goal.text);
        }
    }
}
