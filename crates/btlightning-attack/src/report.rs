//! The tables of README.md and SECURITY.md, made of a run's results.

use std::fmt::Write as _;
use std::path::Path;

use crate::results::{Carried, Results};
use crate::verdict::{Failure, Finding};

/// Where the results of the last full run are.
pub(crate) const RESULTS: &str = "crates/btlightning-attack/results.json";

/// Where tables are, and how they are called there.
const PLACES: [(&str, &str); 2] = [("README.md", "floods"), ("SECURITY.md", "attacks")];

const MADE_BY: &str = "(made by `cargo xtask attack --report`)";

/// Writes the tables below `root`, or, to check, says which of them are not what the results say.
pub(crate) fn report(root: &Path, check: bool) -> Result<(), Failure> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(root.join(path));
        text.map_err(|error| format!("{path}: {error}"))
    };
    let results: Results = serde_json::from_str(&read(RESULTS)?)?;
    for (path, name) in PLACES {
        let text = read(path)?;
        let filled = fill(&text, name, &table(name, &results))
            .ok_or_else(|| format!("{path} has no place that is called {name}"))?;
        if filled == text {
            continue;
        }
        if check {
            return Err(
                format!("{path} is not what {RESULTS} says: run `cargo xtask attack --report`").into()
            );
        }
        std::fs::write(root.join(path), filled).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// The text with another content in its place of this name. `None` if it has no such place.
fn fill(text: &str, name: &str, content: &str) -> Option<String> {
    let begin = format!("<!-- attack:begin {name} {MADE_BY} -->\n");
    let end = format!("<!-- attack:end {name} -->");
    let from = text.find(&begin)? + begin.len();
    let to = from + text.get(from..)?.find(&end)?;
    Some(format!("{}{content}{}", &text[..from], &text[to..]))
}

fn table(name: &str, results: &Results) -> String {
    match name {
        "floods" => floods(results),
        _ => attacks(results),
    }
}

/// One line for each attack.
fn attacks(results: &Results) -> String {
    let mut text = "| attack | promise | outcome |\n|---|---|---|\n".to_owned();
    for attack in results.attacks.iter().filter(|attack| !is_flood(attack)) {
        let Carried { name, promise, .. } = attack;
        let outcome = if attack.held { "held" } else { "NOT held" };
        let _ = writeln!(text, "| `{name}` | {promise} | {outcome}: {} |", attack.words());
    }
    let _ = writeln!(text, "\n{}", measured_on(results));
    text
}

fn is_flood(attack: &Carried) -> bool {
    attack.findings.iter().any(is_of_a_mode)
}

/// What a flood cost in one mode.
fn is_of_a_mode(finding: &Finding) -> bool {
    finding.figures.contains_key("packets_per_sec")
}

/// One table for each kind of flood: the modes against the figures.
fn floods(results: &Results) -> String {
    let mut text = String::new();
    for attack in results.attacks.iter().filter(|attack| is_flood(attack)) {
        let _ = writeln!(
            text,
            "`{}`: {}\n\n| mode | packets/s | accepts/s | TLS handshakes/s | CPU a packet | memory | honest p50 | p99 | p50 without flood | p99 | a newcomer's first answer |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            attack.name, attack.promise
        );
        let mode_of = |finding: &Finding| finding.words.split(':').next().unwrap_or_default().to_owned();
        let newcomer = |mode: &str| {
            let comes =
                |finding: &&Finding| finding.figures.contains_key("newcomer_ms") && mode_of(finding) == mode;
            match attack.findings.iter().find(comes) {
                Some(finding) if finding.words.contains("was answered") => {
                    format!("{:.0} ms", finding.figures.get("newcomer_ms").copied().unwrap_or_default())
                }
                _ => "kept out".to_owned(),
            }
        };
        for finding in attack.findings.iter().filter(|finding| is_of_a_mode(finding)) {
            let mode = mode_of(finding);
            let figure = |name: &str| finding.figures.get(name).copied();
            let count = |name| figure(name).map_or_else(|| "-".into(), |figure| format!("{figure:.0}"));
            let fine = |name, unit| {
                figure(name).map_or_else(|| "no answer".into(), |figure| format!("{figure:.2} {unit}"))
            };
            let _ = writeln!(
                text,
                "| {mode} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                count("packets_per_sec"),
                count("accepts_per_sec"),
                count("handshakes_per_sec"),
                fine("cpu_us_per_packet", "us"),
                fine("rss_growth_mib", "MiB"),
                fine("honest_p50_ms", "ms"),
                fine("honest_p99_ms", "ms"),
                fine("quiet_p50_ms", "ms"),
                fine("quiet_p99_ms", "ms"),
                newcomer(&mode),
            );
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{}", measured_on(results));
    text
}

fn measured_on(results: &Results) -> String {
    let size = if results.quick { "the quick run" } else { "the full run" };
    format!(
        "From {size} of `cargo xtask attack` on {}; attacker, server and validator share the machine.",
        results.machine
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_filled_and_the_rest_stays() {
        let text = format!(
            "before\n<!-- attack:begin floods {MADE_BY} -->\nold\n<!-- attack:end floods -->\nafter\n"
        );
        let filled = fill(&text, "floods", "new\n").unwrap();
        assert_eq!(filled, text.replace("old", "new"));
        assert_eq!(fill(&filled, "floods", "new\n").unwrap(), filled);
        assert_eq!(fill(&text, "attacks", "new\n"), None);
    }
}
