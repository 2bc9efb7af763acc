//! Markdown: links and paths that lead somewhere, and the number of dependencies that the README states.

use super::{Finding, README, TextFile};

const COUNT_START: &str = "<!-- dependency-count -->";
const COUNT_END: &str = "<!-- /dependency-count -->";

/// The first part of a path that a reader would look for in the checkout.
const TOP_LEVEL: [&str; 10] =
    [".cargo", ".ci", ".github", "benchmarks", "crates", "docs", "examples", "fuzz", "interop", "xtask"];

/// The change log tells of things that are gone, and may.
const TELLS_OF_THE_PAST: &str = "CHANGELOG.md";

/// `exists` answers for a path relative to the root.
pub(super) fn check_paths(file: &TextFile, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code_block = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code_block = !in_code_block;
        }
        if in_code_block {
            continue;
        }
        for target in link_targets(line).into_iter().filter(|target| is_relative(target)) {
            let path = target.split('#').next().unwrap_or(target);
            if !exists(&beside(&file.path, path)) {
                findings.push(Finding::at(&file.path, index, format!("the link to {target} leads nowhere")));
            }
        }
        for path in code_spans(line).filter(|span| file.path != TELLS_OF_THE_PAST && is_path(span)) {
            if !exists(path) {
                findings.push(Finding::at(&file.path, index, format!("there is no {path}")));
            }
        }
    }
    findings
}

/// Checks that the README states `actual`.
pub(super) fn check_count(readme: Option<&TextFile>, actual: usize) -> Option<Finding> {
    let Some(readme) = readme else {
        return Some(Finding::new(README, "is missing, and with it the number of dependencies it states"));
    };
    let problem = match stated_count(&readme.text) {
        Ok((_, stated)) if stated == actual.to_string() => return None,
        Ok((_, stated)) => {
            format!("states {stated} dependencies, there are {actual}: cargo xtask tidy --fix-counts")
        }
        Err(problem) => problem,
    };
    Some(Finding::new(README, problem))
}

/// The text with `count` between the markers.
pub(super) fn with_count(text: &str, count: usize) -> Result<String, String> {
    let (at, stated) = stated_count(text)?;
    Ok(format!("{}{count}{}", &text[..at], &text[at + stated.len()..]))
}

fn stated_count(text: &str) -> Result<(usize, &str), String> {
    let wanted =
        || format!("the README must state the number of dependencies as {COUNT_START}N{COUNT_END}, once");
    let at = text.find(COUNT_START).ok_or_else(wanted)? + COUNT_START.len();
    let stated = &text[at..at + text[at..].find(COUNT_END).ok_or_else(wanted)?];
    if text[at..].contains(COUNT_START) { Err(wanted()) } else { Ok((at, stated)) }
}

/// What stands in the parentheses of `[text](target)` and behind `[name]: target`.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    for (at, bracket) in line.match_indices("](") {
        let rest = &line[at + bracket.len()..];
        targets.extend(rest.split([')', ' ']).next());
    }
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    targets.extend(definition.and_then(|(_, target)| target.split_whitespace().next()));
    targets
}

fn is_relative(target: &str) -> bool {
    !(target.starts_with('#') || target.contains("://") || target.starts_with("mailto:"))
}

/// A link's path, relative to the root instead of to the file it stands in.
fn beside(file: &str, path: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." if !parts.is_empty() => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_path(span: &str) -> bool {
    let first = span.split('/').next().unwrap_or(span);
    span.contains('/') && TOP_LEVEL.contains(&first) && !span.contains([' ', '*', '<', '{', '$', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> usize {
        let there = ["README.md", "crates/a/src/lib.rs", "crates/a/README.md", "crates/a"];
        let exists = |path: &str| there.contains(&path.trim_end_matches('/'));
        check_paths(&TextFile { path: path.into(), text: text.into() }, &exists).len()
    }

    #[test]
    fn links_and_paths_lead_somewhere() {
        let cases = [
            ("README.md", "see [a](crates/a/src/lib.rs) and [b](https://example.org/x)", 0),
            ("README.md", "see [a](crates/a/src/lost.rs), [b](crates/a/ \"title\")", 1),
            ("README.md", "[a](#heading), [b](README.md#heading), [c](LOST.md#heading)", 1),
            ("README.md", "[a]: LOST.md", 1),
            ("crates/a/README.md", "[up](../../README.md), [beside](./src/lib.rs), [lost](../README.md)", 1),
            ("README.md", "in `crates/a/src/lib.rs`, not `crates/b/`, not `a/b`", 1),
            ("README.md", "any `crates/*/src`, `crates/<name>/src`", 0),
            ("CHANGELOG.md", "gone: `crates/b/`", 0),
            ("README.md", "```\n[a](LOST.md) `crates/b/`\n```\n", 0),
        ];
        for (path, text, found) in cases {
            assert_eq!(problems(path, text), found, "{text}");
        }
    }

    fn readme(text: &str) -> TextFile {
        TextFile { path: README.into(), text: text.into() }
    }

    #[test]
    fn the_readme_states_the_count_that_is() {
        let text = "It has <!-- dependency-count -->82<!-- /dependency-count --> dependencies.";
        assert_eq!(check_count(Some(&readme(text)), 82), None);
        assert!(check_count(Some(&readme(text)), 83).is_some());
        assert!(check_count(Some(&readme("It has 82 dependencies.")), 82).is_some());
        assert!(check_count(None, 82).is_some());
    }

    #[test]
    fn fixing_the_count_changes_nothing_else() {
        let text = "ä <!-- dependency-count -->82<!-- /dependency-count --> b";
        let fixed = with_count(text, 101).unwrap();
        assert_eq!(fixed, "ä <!-- dependency-count -->101<!-- /dependency-count --> b");
        assert_eq!(check_count(Some(&readme(&fixed)), 101), None);
        assert!(with_count("no marker", 1).is_err());
        assert!(with_count(&text.repeat(2), 1).is_err());
    }
}
