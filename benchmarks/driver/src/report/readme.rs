//! The page of all results, and the places in the README that are made of them.

use super::{
    absences,
    chart::Chart,
    charts, goals,
    numbers::{kibibytes, number},
    table::{NOTHING, Table},
    tables::{sections, title},
};
use crate::{
    results::Results,
    systems::{Language, Transport},
};
use std::fmt::Write as _;

pub(super) const FILE: &str = "README.md";

const BEGIN: &str = "<!-- bench:begin ";
const MADE_BY: &str = " (made by `cargo xtask bench --report` from benchmarks/results/results.json) -->\n";

fn end(name: &str) -> String {
    format!("<!-- bench:end {name} -->")
}

/// The text with its places filled. A place starts with a line that says its name, and ends with one.
pub(super) fn with_sections(text: &str, section: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let after = &rest[at + BEGIN.len()..];
        let line_end = after.find(MADE_BY).ok_or_else(|| wrong(after, "its first line"))?;
        let name = &after[..line_end];
        let content = section(name).ok_or_else(|| wrong(after, "its name"))?;
        let body = &after[line_end + MADE_BY.len()..];
        let end = end(name);
        let body_end = body.find(&end).ok_or_else(|| wrong(after, "its end"))?;
        filled += &rest[..at + BEGIN.len() + line_end + MADE_BY.len()];
        filled += &content;
        filled += &end;
        rest = &body[body_end + end.len()..];
    }
    Ok(filled + rest)
}

fn wrong(after: &str, what: &str) -> String {
    let line = after.lines().next().unwrap_or_default();
    format!("{FILE}: the place `{BEGIN}{line}`: {what} is not as it should be")
}

/// What stands in the README's place of this name.
pub(super) fn section(name: &str, results: &Results, charts: &[Chart]) -> Option<String> {
    let chart = |name: &str| {
        let chart = charts.iter().find(|chart| chart.name == name);
        chart.map(|chart| chart.picture(&format!("benchmarks/{}", charts::DIR))).unwrap_or_default()
    };
    match name {
        "goals" => Some(format!(
            "{}\n{GOALS_TEXT} [What holds the goals that are missed]({MISSED}).\n{}\n\n\
             All tables: [benchmarks/RESULTS.md](benchmarks/RESULTS.md).\n",
            goals::table(results).markdown(),
            measured_on(results)
        )),
        name => name.strip_prefix("chart ").map(chart),
    }
}

const GOALS_TEXT: &str = "Measured is the median of the ratios of each round, rounds the smallest and the largest of them; \
                          against the published package 0.2.15, where no other is named. One system after the other did \
                          the same work, round after round.";

/// Where the page says why a goal is missed, from the root.
const MISSED: &str = "benchmarks/README.md#what-holds-the-goals-that-are-missed";

/// When and where, in a sentence.
fn measured_on(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!("On {}: ", results.date);
    let _ = write!(text, "{} cores", machine.cores);
    if let Some(cpu) = &machine.cpu {
        let _ = write!(text, " of {cpu}");
    }
    if let Some(memory) = machine.memory_bytes {
        let _ = write!(text, ", {} GiB", number(memory as f64 / f64::from(1_u32 << 30)));
    }
    let _ = write!(text, ", {}", machine.kernel);
    if let Some(rustc) = &machine.rustc {
        let _ = write!(text, ", {rustc}");
    }
    text.push('.');
    if let Some((ours, published)) = granted(results) {
        let _ = write!(
            text,
            " UDP receive buffers granted, as the kernel counts them: {ours} to ours, {published} to"
        );
        text += " the published package, which asks for none.";
    }
    if results.quick {
        text += " A quick run: too few requests for figures to be relied on.";
    }
    text
}

/// The receive buffers of ours and of the published package.
fn granted(results: &Results) -> Option<(String, String)> {
    let of = |name: &str| {
        let system = results.systems.iter().find(|system| system.name == name)?;
        system.receive_buffer_bytes.map(kibibytes)
    };
    Some((of("ours-dynamic")?, of("published")?))
}

/// The page with everything.
pub(super) fn results_page(results: &Results, charts: &[Chart]) -> String {
    let mut page = String::from(
        "# What the benchmark measured\n\n\
         Made by `cargo xtask bench --report` from `results.json`, which has every round's figures. A figure is the median \
         of its rounds; ± is the median distance from it.\n\n",
    );
    let (rounds, minutes) = (results.rounds, results.took_s.div_ceil(60));
    let _ = writeln!(page, "{} {rounds} rounds in {minutes} minutes.\n", measured_on(results));
    page += &conditions(results);
    let _ = writeln!(page, "## Systems\n\n{}", systems_table(results).markdown());
    let _ = writeln!(
        page,
        "## Goals\n\n{}\n{GOALS_TEXT} [What holds the goals that are missed](README.md#what-holds-the-goals-that-are-missed).\n",
        goals::table(results).markdown()
    );
    for chart in charts {
        let _ = writeln!(page, "{}", chart.picture(charts::DIR));
    }
    for (heading, language) in [("Rust", Language::Rust), ("Python", Language::Python)] {
        let sections = sections(results, language);
        if !sections.is_empty() {
            let _ = writeln!(page, "## {heading}\n");
        }
        for section in sections {
            let (heading, text) = (section.heading, section.text);
            let _ = writeln!(page, "### {heading}\n\n{text}\n\n{}", section.table.markdown());
        }
    }
    page += &absences::section(results);
    page.trim_end().to_owned() + "\n"
}

fn conditions(results: &Results) -> String {
    let machine = &results.machine;
    let bytes = |bytes: Option<u64>| bytes.map_or("unknown".into(), kibibytes);
    let mut text = format!(
        "Socket buffers: `net.core.rmem_max` {}, `net.core.rmem_default` {}, `net.core.wmem_max` {}. Linux counts a buffer \
         that was asked for twice; the receive buffers below are as it counts.",
        bytes(machine.rmem_max_bytes),
        bytes(machine.rmem_default_bytes),
        bytes(machine.wmem_max_bytes)
    );
    if let Some(load) = machine.load {
        let _ = write!(text, " The load was {load:.2} when the run began.");
    }
    if let Some(commit) = &results.commit {
        let _ = write!(text, " Commit {commit}.");
    }
    text + "\n\n"
}

fn systems_table(results: &Results) -> Table {
    let mut table = Table::new(["system", "name", "version", "over", "receive buffer", ""]);
    for system in &results.systems {
        let over = match system.transport {
            Transport::Udp => "QUIC",
            Transport::Tcp => "TCP",
        };
        let buffer = match (system.receive_buffer_asked_bytes, system.receive_buffer_bytes) {
            (None, granted) => granted.map_or(NOTHING.into(), kibibytes),
            (Some(asked), None) => format!("{} asked", kibibytes(asked)),
            (Some(asked), Some(granted)) => {
                format!("{}, {} asked", kibibytes(granted), kibibytes(asked))
            }
        };
        let remark =
            system.unavailable.as_ref().map(|why| format!("not measured: {}", absences::in_cell(why)));
        let cells = [
            format!("`{}`", system.name),
            system.version.clone().unwrap_or(NOTHING.into()),
            over.into(),
            buffer,
            remark.or(system.build.clone()).unwrap_or_default(),
        ];
        table.row(title(&system.name), cells.map(Some));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, content: &str) -> String {
        format!("{BEGIN}{name}{MADE_BY}{content}{}", end(name))
    }

    #[test]
    fn places_are_filled_and_the_rest_stays() {
        let text = format!("ä\n{}\nb\n{}\nc\n", place("goals", "old\n"), place("chart a", ""));
        let filled = with_sections(&text, |name| Some(format!("new {name}\n"))).unwrap();
        let expected =
            format!("ä\n{}\nb\n{}\nc\n", place("goals", "new goals\n"), place("chart a", "new chart a\n"));
        assert_eq!(filled, expected);
        assert_eq!(with_sections(&filled, |name| Some(format!("new {name}\n"))).unwrap(), filled);
        assert_eq!(with_sections("no place", |_| None).unwrap(), "no place");
    }

    #[test]
    fn a_place_that_is_not_one_is_refused() {
        let good = place("goals", "");
        for text in [&good[..good.len() - 5], "<!-- bench:begin goals -->\n<!-- bench:end goals -->"] {
            assert!(with_sections(text, |_| Some(String::new())).is_err(), "{text}");
        }
        assert!(with_sections(&good, |_| None).is_err());
    }
}
