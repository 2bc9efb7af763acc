//! The table of what was not measured, and why.

use super::{table::Table, tables::title};
use crate::results::{NotMeasured, Results, Subject};

/// The section; empty where everything was measured.
pub(super) fn section(results: &Results) -> String {
    if results.not_measured.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["system", "work", "rounds", "", "why"]);
    for absence in merged(&results.not_measured) {
        let Subject { work, layout, bytes } = absence.subject;
        let bytes = bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
        let rounds: Vec<String> = absence.rounds.iter().map(|round| (round + 1).to_string()).collect();
        let cells = [
            format!("{work}, {layout}{bytes}"),
            rounds.join(", "),
            if absence.failed { "failed" } else { "not done" }.into(),
            in_cell(&absence.why),
        ];
        let system = &absence.system;
        table.row(&format!("{}, `{system}`", title(system)), cells.map(Some));
    }
    format!("## Not measured\n\n{}", table.markdown())
}

/// One for those that differ in nothing but the round, and the ports in what was said.
fn merged(all: &[NotMeasured]) -> Vec<NotMeasured> {
    let mut merged: Vec<NotMeasured> = Vec::new();
    for absence in all {
        let absence = NotMeasured { why: without_ports(&absence.why), ..absence.clone() };
        let same = |other: &&mut NotMeasured| {
            let rounds = absence.rounds.clone();
            NotMeasured { rounds, ..(**other).clone() } == absence
        };
        match merged.iter_mut().find(same) {
            Some(other) => other.rounds.extend(absence.rounds),
            None => merged.push(absence),
        }
    }
    for absence in &mut merged {
        absence.rounds.sort_unstable();
        absence.rounds.dedup();
    }
    merged
}

/// The words, with an ellipsis for each port of this host.
fn without_ports(words: &str) -> String {
    const HOST: &str = "127.0.0.1:";
    let mut parts = words.split(HOST);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let port = if rest.len() < part.len() { "…" } else { "" };
        text.extend([HOST, port, rest]);
    }
    text
}

/// A system's words as they can stand in a table.
pub(super) fn in_cell(words: &str) -> String {
    const SHOWN: usize = 300;
    let shown: String = words.chars().take(SHOWN).collect();
    let more = if words.chars().count() > SHOWN { "…" } else { "" };
    shown.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;") + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Layout;

    #[test]
    fn what_systems_say_does_not_break_a_table() {
        assert_eq!(in_cell("a | b\n<c>"), "a \\| b &lt;c>");
        assert_eq!(in_cell(&"x".repeat(400)).chars().count(), 301);
    }

    #[test]
    fn a_failure_at_another_port_is_the_same_failure() {
        let mut results = crate::report::tests::results();
        let subject = Subject::new("path", Layout::TwoProcesses, None);
        for (round, why) in [(2, "no 127.0.0.1:35813 any more"), (0, "no 127.0.0.1:4 any more"), (1, "no 4")]
        {
            results.record_absence("published", &subject, round, true, why);
        }
        let section = section(&results);
        let rows: Vec<&str> = section.lines().skip(4).collect();
        let expected = [
            "| published package, `published` | path, two processes | 1, 3 | failed | no 127.0.0.1:… any more |",
            "| published package, `published` | path, two processes | 2 | failed | no 4 |",
        ];
        assert_eq!(rows, expected);
        assert_eq!(without_ports("127.0.0.1: nobody"), "127.0.0.1: nobody");
    }
}
