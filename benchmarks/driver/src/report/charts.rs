//! Which charts there are.

use super::{
    chart::{Bar, Chart, Panel},
    numbers::number,
    tables::title,
};
use crate::{
    plan::{ONE_KB, ONE_MB},
    results::{Layout, Results, Subject},
    systems::{self, Origin},
};

/// Where they are, beside `RESULTS.md`.
pub(super) const DIR: &str = "charts";

const RUST: [&str; 11] = [
    "ours-dynamic",
    "ours-async",
    "ours-typed",
    "ours-typed-local",
    "published",
    "published-async",
    "quinn",
    "quinn-server-thread",
    "quinn-called",
    "quinn-split",
    "grpc",
];

const PYTHON: [&str; 5] = ["py-ours", "py-ours-async", "py-published", "py-bittensor", "py-grpcio"];

/// A panel, before it has figures.
struct Measure {
    title: &'static str,
    subject: Subject,
    measure: &'static str,
    /// What the value is multiplied with to be written.
    unit: f64,
}

fn measure(title: &'static str, subject: Subject, measure: &'static str, unit: f64) -> Measure {
    Measure { title, subject, measure, unit }
}

/// Every chart that has something to show.
pub(super) fn charts(results: &Results) -> Vec<Chart> {
    use Layout::{OneProcess, TwoProcesses};
    let throughput = |bytes| Subject::new("throughput", TwoProcesses, bytes);
    let latency = |layout, bytes| Subject::new("latency", layout, bytes);
    let fan_out = Subject::new("fan-out", TwoProcesses, ONE_KB);
    let charts = [
        chart(
            results,
            "throughput-1kb",
            "Requests of 1 KB per second",
            "client and server in two processes, 32 requests in flight; more is better",
            &RUST,
            &[measure("requests per second", throughput(ONE_KB), "per_second", 1.0)],
        ),
        chart(
            results,
            "latency-1kb",
            "Latency of a request of 1 KB",
            "one after another; the median; less is better",
            &RUST,
            &[
                measure("one process, µs", latency(OneProcess, ONE_KB), "p50_us", 1.0),
                measure("two processes, µs", latency(TwoProcesses, ONE_KB), "p50_us", 1.0),
            ],
        ),
        chart(
            results,
            "throughput-1mb",
            "Requests of 1 MB per second",
            "client and server in two processes, 32 requests in flight; more is better",
            &RUST,
            &[measure("requests per second", throughput(ONE_MB), "per_second", 1.0)],
        ),
        chart(
            results,
            "fan-out",
            "1 KB to 256 servers at once",
            "the servers in another process; less is better",
            &RUST,
            &[
                measure("time to the last answer, ms", fan_out.clone(), "p50_ms", 1.0),
                measure("CPU per query, both sides, µs", fan_out, "cpu_us", 1.0),
            ],
        ),
        chart(
            results,
            "python",
            "From Python",
            "client and server in two processes; 32 requests in flight for the requests per second",
            &PYTHON,
            &[
                measure("1 KB, per second", throughput(ONE_KB), "per_second", 1.0),
                measure("1 KB p50, µs", latency(TwoProcesses, ONE_KB), "p50_us", 1.0),
                measure("1 MB p50, ms", latency(TwoProcesses, ONE_MB), "p50_us", 1e-3),
            ],
        ),
    ];
    charts.into_iter().flatten().collect()
}

fn chart(
    results: &Results,
    name: &'static str,
    title_of_all: &str,
    subtitle: &str,
    systems: &[&str],
    measures: &[Measure],
) -> Option<Chart> {
    let bar = |system: &str, of: &Measure| {
        let summary = results.summary(system, &of.subject, of.measure)?;
        Some(Bar {
            value: summary.median * of.unit,
            range: (summary.rounds > 1).then_some((summary.min * of.unit, summary.max * of.unit)),
            label: number(summary.median * of.unit),
        })
    };
    let has_figure = |system: &&str| measures.iter().any(|measure| bar(system, measure).is_some());
    let there: Vec<&str> = systems.iter().copied().filter(has_figure).collect();
    if there.is_empty() {
        return None;
    }
    let panels = measures.iter().map(|measure| Panel {
        title: measure.title.to_owned(),
        bars: there.iter().map(|system| bar(system, measure)).collect(),
    });
    let origin = |system: &str| systems::description(system).map_or(Origin::Other, |found| found.origin);
    Some(Chart {
        name,
        title: title_of_all.to_owned(),
        subtitle: subtitle.to_owned(),
        rows: there.iter().map(|system| (title(system).to_owned(), origin(system))).collect(),
        panels: panels.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_of_systems_that_there_are() {
        let known: Vec<&str> = systems::SYSTEMS.iter().map(|system| system.name).collect();
        let mut charted = [&RUST[..], &PYTHON].concat();
        charted.sort_unstable();
        let mut all = known.clone();
        all.sort_unstable();
        assert_eq!(charted, all);
    }
}
