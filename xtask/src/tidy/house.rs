//! House rules for Rust files, checked line by line on what [`super::source`] leaves of them.

use super::{
    Finding, TextFile,
    metadata::{Dependencies, Package},
    source::{code_lines, has_word},
};
use std::fs;

/// Lines a file may have without saying why it has more.
pub(super) const LINES_MAX: usize = 500;

/// Starts the line of a long file's documentation that gives the reason.
const LONG_REASON: &str = "//! Long because ";

/// Starts the comment, on the line or above it, that says why a test must let real time pass.
const SLEEP_REASON: &str = "// sleeps: ";

const SLEEPS: [&str; 2] = ["sleep", "sleep_until"];

pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let code = code_lines(&file.text);
    let raw: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    findings.extend(too_long(file, &raw));
    for (index, line) in code.iter().enumerate() {
        for problem in line_problems(line) {
            findings.push(Finding::at(&file.path, index, problem));
        }
    }
    for (index, line) in raw.iter().enumerate().filter(|(_, line)| is_unchecked_example(line)) {
        let language = line.trim();
        findings.push(Finding::at(
            &file.path,
            index,
            format!("`{language}`: an example that is not compiled rots"),
        ));
    }
    findings.extend(sleeping_tests(file, &code, &raw));
    findings
}

fn too_long(file: &TextFile, raw: &[&str]) -> Option<Finding> {
    let excused = raw.iter().any(|line| line.starts_with(LONG_REASON));
    (raw.len() > LINES_MAX && !excused).then(|| {
        let problem = format!("{} lines; split it, or say why not in a line `{LONG_REASON}...`", raw.len());
        Finding::new(&*file.path, problem)
    })
}

fn line_problems(line: &str) -> Vec<&'static str> {
    let mut problems = Vec::new();
    if has_word(line, "unsafe", "") {
        problems.push("unsafe code; this project has none");
    }
    if has_word(line, "todo", "!") || has_word(line, "unimplemented", "!") {
        problems.push("unfinished code; finish it, or return an error that says so");
    }
    if line.contains("#[ignore") {
        problems.push("an ignored test holds nothing; make it run, or delete it");
    }
    problems
}

/// A code block in documentation that doc tests pass over.
fn is_unchecked_example(line: &str) -> bool {
    let line = line.trim_start();
    let fence = ["///", "//!"]
        .iter()
        .find_map(|comment| line.strip_prefix(comment)?.trim_start().strip_prefix("```"));
    fence.is_some_and(|info| info.split([',', ' ']).any(|word| word == "ignore"))
}

/// Sleeping in tests: fine under tokio's paused clock, where it costs nothing and decides nothing by luck. Elsewhere it
/// waits for something that could be awaited, unless a comment says what.
fn sleeping_tests(file: &TextFile, code: &[String], raw: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut clock = Clock::default();
    let tests_from = if is_test_file(&file.path) { 0 } else { unit_tests_start(code) };
    for (index, line) in code.iter().enumerate().skip(tests_from) {
        clock.read(line);
        let sleeps =
            SLEEPS.iter().any(|sleep| has_word(line, sleep, "(") && !line.contains(&format!("fn {sleep}(")));
        let paused = clock.is_paused() && !line.contains("thread::sleep(");
        let excused = raw[index.saturating_sub(1)..=index].iter().any(|line| line.contains(SLEEP_REASON));
        if sleeps && !paused && !excused {
            let problem = format!(
                "a test that sleeps in real time: await the event, use `start_paused = true`, or say why in `{SLEEP_REASON}...`"
            );
            findings.push(Finding::at(&file.path, index, problem));
        }
    }
    findings
}

pub(super) fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests") || path.ends_with("/tests.rs")
}

/// The index of the line where a file's test module starts; its length if it has none.
pub(super) fn unit_tests_start(code: &[String]) -> usize {
    let is_module = |line: &String| line.ends_with('{') && has_word(line, "mod", " ");
    let starts =
        |index: usize| code[index].trim() == "#[cfg(test)]" && code.get(index + 1).is_some_and(is_module);
    (0..code.len()).find(|index| starts(*index)).unwrap_or(code.len())
}

/// Follows the lines of a file and knows whether the test that encloses the last one runs on a paused clock.
#[derive(Default)]
struct Clock {
    /// Indentation of the last test's attribute, and whether it pauses the clock.
    test: Option<(usize, bool)>,
    after_attribute: bool,
}

impl Clock {
    fn read(&mut self, line: &str) {
        let trimmed = line.trim_start();
        let indentation = line.len() - trimmed.len();
        if trimmed.starts_with("#[") {
            if trimmed.contains("test") {
                self.test = Some((indentation, trimmed.contains("start_paused = true")));
            }
            self.after_attribute = true;
            return;
        }
        // A function beside the test, not inside it, has a clock that nothing here knows.
        let is_function = !self.after_attribute && has_word(trimmed, "fn", " ");
        if is_function && self.test.is_some_and(|(of_test, _)| indentation <= of_test) {
            self.test = None;
        }
        self.after_attribute = false;
    }

    fn is_paused(&self) -> bool {
        self.test.is_some_and(|(_, paused)| paused)
    }
}

/// A member that does not inherit the workspace's lints is one in which `unsafe` compiles.
pub(super) fn check_lints_inherited(dependencies: &Dependencies) -> Vec<Finding> {
    let problem = |manifest: &str| match fs::read_to_string(manifest) {
        Err(error) => Some(format!("{manifest}: {error}")),
        Ok(text) if inherits_lints(&text) => None,
        Ok(_) => Some("does not inherit the workspace's lints: `[lints]`, `workspace = true`".into()),
    };
    let finding = |member: &Package| Some(Finding::new(member.place(), problem(&member.manifest_path)?));
    dependencies.members.iter().filter_map(finding).collect()
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_found(path: &str, text: &str) -> Vec<String> {
        check(&TextFile { path: path.into(), text: text.into() })
            .into_iter()
            .map(|finding| finding.place)
            .collect()
    }

    #[test]
    fn unfinished_unsafe_and_ignored_code_is_found_and_prose_about_it_is_not() {
        let cases: [(&str, bool); 11] = [
            ("todo!()", true),
            ("core::unimplemented!(\"later\")", true),
            ("unsafe { f() }", true),
            ("#[ignore]", true),
            ("#[ignore = \"slow\"]", true),
            ("/// ```ignore", true),
            ("//! ```rust,ignore", true),
            ("/// ```no_run", false),
            ("// a todo!() in prose, #[ignore]", false),
            ("let text = \"unsafe todo!()\";", false),
            ("#![forbid(unsafe_code)]", false),
        ];
        for (line, found) in cases {
            let expected: &[&str] = if found { &["src/a.rs:2"] } else { &[] };
            assert_eq!(lines_found("src/a.rs", &format!("//! About.\n{line}\n")), expected, "{line}");
        }
    }

    #[test]
    fn a_test_sleeps_on_a_paused_clock_or_says_why() {
        let cases = [
            ("#[tokio::test]\nasync fn t() {\n    sleep(D).await;\n}", true),
            ("#[tokio::test(start_paused = true)]\nasync fn t() {\n    time::sleep(D).await;\n}", false),
            ("#[tokio::test(start_paused = true)]\nasync fn t() {\n    thread::sleep(D);\n}", true),
            (
                "#[tokio::test(start_paused = true)]\nasync fn t() {\n    fn in_it() {}\n    sleep(D).await;\n}",
                false,
            ),
            (
                "#[tokio::test(start_paused = true)]\nasync fn t() {\n}\nasync fn helper() {\n    sleep(D).await;\n}",
                true,
            ),
            (
                "#[tokio::test(start_paused = true)]\nasync fn t() {}\n#[test]\nfn u() {\n    sleep(D);\n}",
                true,
            ),
            (
                "fn helper() {\n    // sleeps: the kernel has no event for this\n    thread::sleep(D);\n}",
                false,
            ),
            ("fn helper() {\n    thread::sleep(D); // sleeps: no event\n}", false),
            ("async fn sleep_until(t: T) {\n}", false),
            ("async fn helper() {\n    sleep_until(t).await;\n}", true),
        ];
        for (text, found) in cases {
            assert_eq!(!lines_found("crates/a/tests/it/b.rs", text).is_empty(), found, "{text}");
            assert!(lines_found("crates/a/src/b.rs", text).is_empty(), "not a test: {text}");
            let unit = format!("fn code() {{}}\n#[cfg(test)]\nmod tests {{\n{text}\n}}\n");
            assert_eq!(!lines_found("crates/a/src/b.rs", &unit).is_empty(), found, "{unit}");
        }
    }

    #[test]
    fn a_long_file_gives_its_reason() {
        let at_most = "\n".repeat(LINES_MAX);
        assert!(lines_found("src/a.rs", &at_most).is_empty());
        assert_eq!(lines_found("src/a.rs", &format!("{at_most}\n")), ["src/a.rs"]);
        assert!(
            lines_found("src/a.rs", &format!("//! A table.\n//!\n//! Long because it is one.\n{at_most}"))
                .is_empty()
        );
    }

    #[test]
    fn lints_are_inherited_in_the_one_way_we_write_it() {
        assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nname = \"a\"\n"));
        assert!(!inherits_lints("[lints.rust]\nunsafe_code = \"allow\"\n"));
    }
}
