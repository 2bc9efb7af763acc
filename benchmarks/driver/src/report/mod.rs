//! Tables and charts, made of the results alone.

mod absences;
mod chart;
mod charts;
mod goals;
mod numbers;
mod readme;
mod table;
mod tables;

use crate::results::Results;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where tables and charts go.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The checkout with this root: `benchmarks/RESULTS.md`, `benchmarks/charts`, and their places in `README.md`.
    Repository(&'a Path),
    /// `RESULTS.md` and `charts` in this directory.
    Directory(&'a Path),
}

impl Target<'_> {
    fn dir(self) -> PathBuf {
        match self {
            Self::Repository(root) => root.join("benchmarks"),
            Self::Directory(dir) => dir.to_owned(),
        }
    }
}

/// Makes tables and charts. Says which files that were.
///
/// # Errors
/// If the README has no place for them, or the file system does not let it.
pub fn write(results: &Results, target: Target<'_>) -> Result<Vec<PathBuf>, String> {
    let files = files(results, target)?;
    for (path, text) in &files {
        let written = fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::write(path, text));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Checks that tables and charts are what the results make of them, and that every goal that is missed is explained.
///
/// # Errors
/// If they are not, with which; or, of a checkout, if a goal is missed and `benchmarks/README.md` does not say why.
pub fn check(results: &Results, target: Target<'_>) -> Result<(), String> {
    let files = files(results, target)?;
    let mut wrong: Vec<String> = Vec::new();
    for (path, text) in &files {
        if fs::read_to_string(path).ok().as_ref() != Some(text) {
            wrong.push(format!("{} is not what the results say", path.display()));
        }
    }
    let charts = target.dir().join(charts::DIR);
    for entry in fs::read_dir(&charts).into_iter().flatten().flatten() {
        if !files.iter().any(|(path, _)| *path == entry.path()) {
            wrong.push(format!("{} is no chart of these results", entry.path().display()));
        }
    }
    if !wrong.is_empty() {
        return Err(format!("{}\ncargo xtask bench --report", wrong.join("\n")));
    }
    match target {
        Target::Repository(_) => check_explained(results, &target.dir().join(EXPLANATIONS)),
        Target::Directory(_) => Ok(()),
    }
}

/// Where, beside the results, it says in so many words what holds each goal that is missed.
const EXPLANATIONS: &str = "README.md";

fn check_explained(results: &Results, path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // Lines are broken anywhere.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut missed = goals::missed(results);
    missed.retain(|goal| !words.contains(&format!("**{goal}")));
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} does not say what holds: {}", path.display(), missed.join("; ")))
    }
}

/// Checks a checkout that has no results: it shows none.
///
/// # Errors
/// If it does.
pub fn check_nothing(root: &Path) -> Result<(), String> {
    let path = root.join(readme::FILE);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if readme::with_sections(&text, |_| Some(String::new()))? == text {
        Ok(())
    } else {
        Err(format!("{} has tables of results that are not there", path.display()))
    }
}

/// The goals as plain text, for a terminal.
#[must_use]
pub fn summary(results: &Results) -> String {
    goals::table(results).plain()
}

/// Every file with its content.
fn files(results: &Results, target: Target<'_>) -> Result<Vec<(PathBuf, String)>, String> {
    let dir = target.dir();
    let charts = charts::charts(results);
    let mut files = vec![(dir.join("RESULTS.md"), readme::results_page(results, &charts))];
    for chart in &charts {
        for (name, svg) in chart.files() {
            files.push((dir.join(charts::DIR).join(name), svg));
        }
    }
    if let Target::Repository(root) = target {
        let path = root.join(readme::FILE);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let section = |name: &str| readme::section(name, results, &charts);
        files.push((path, readme::with_sections(&text, section)?));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::Machine,
        results::{FORMAT, Layout, Measured, Sample, Subject},
        systems::SYSTEMS,
    };

    /// Results of all systems, with nothing in them.
    pub(super) fn results() -> Results {
        let system = |system: &crate::systems::Description| Measured {
            name: system.name.into(),
            language: system.language,
            transport: system.transport,
            version: None,
            build: None,
            receive_buffer_asked_bytes: None,
            receive_buffer_bytes: None,
            unavailable: None,
        };
        Results {
            format: FORMAT,
            date: "2026-02-28".into(),
            commit: None,
            quick: false,
            rounds: 1,
            took_s: 60,
            machine: Machine::default(),
            systems: SYSTEMS.iter().map(system).collect(),
            figures: vec![],
            not_measured: vec![],
        }
    }

    const README: &str = "\
# A
<!-- bench:begin goals (made by `cargo xtask bench --report` from benchmarks/results/results.json) -->
<!-- bench:end goals -->
<!-- bench:begin chart throughput-1kb (made by `cargo xtask bench --report` from benchmarks/results/results.json) -->
<!-- bench:end chart throughput-1kb -->
";

    #[test]
    fn a_report_is_what_the_results_say_until_either_changes() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Repository(dir.path());
        let readme = dir.path().join("README.md");
        fs::write(&readme, README).unwrap();
        check_nothing(dir.path()).unwrap();

        let mut results = results();
        let subject = Subject::new("throughput", Layout::TwoProcesses, 1_024);
        results.record("published", &subject, "per_second", Sample { round: 0, value: 30_000.0, of: 9 });
        results.record("ours-dynamic", &subject, "per_second", Sample { round: 0, value: 90_000.0, of: 9 });
        assert!(check(&results, target).is_err());
        let written = write(&results, target).unwrap();
        assert_eq!(written.len(), 4, "{written:?}");
        assert!(check(&results, target).unwrap_err().contains("README.md"));
        let missed = goals::missed(&results);
        let explained = |missed: &[&str]| {
            let text: String =
                missed.iter().map(|goal| format!("- **{}**: why.\n", goal.replace(' ', "\n"))).collect();
            fs::write(dir.path().join("benchmarks/README.md"), text).unwrap();
        };
        explained(&missed[1..]);
        assert_eq!(check(&results, target).unwrap_err().split(": ").last(), Some(missed[0]));
        explained(&missed);
        check(&results, target).unwrap();
        assert!(check_nothing(dir.path()).is_err());
        let text = fs::read_to_string(&readme).unwrap();
        assert!(
            text.contains("| 3.00x |") && text.contains("benchmarks/charts/throughput-1kb-dark.svg"),
            "{text}"
        );

        fs::write(&readme, text.replace("| 3.00x |", "| 9.00x |")).unwrap();
        assert!(check(&results, target).unwrap_err().contains("README.md"));
        write(&results, target).unwrap();
        fs::write(dir.path().join("benchmarks/charts/old-light.svg"), "").unwrap();
        assert!(check(&results, target).unwrap_err().contains("old-light.svg"));
    }

    #[test]
    fn without_the_readme_a_report_goes_into_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let written = write(&results(), Target::Directory(dir.path())).unwrap();
        assert_eq!(written, [dir.path().join("RESULTS.md")]);
        assert!(summary(&results()).contains("not measured"));
    }
}
