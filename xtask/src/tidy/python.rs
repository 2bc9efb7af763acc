//! House rules for Python files. What Ruff knows is left to it (`cargo xtask python-lint`).

use super::{
    Finding, TextFile,
    house::{self, LINES_MAX},
    source::has_word,
};

/// Starts the comment that gives the reason why a file is long.
const LONG_REASON: &str = "# Long because ";

/// Starts the comment, on the line or above it, that says why a test must let real time pass.
const SLEEP_REASON: &str = "# sleeps: ";

/// A test that does not run, whatever it runs on. `skipif` and `importorskip` name what they miss.
const IGNORED: [&str; 3] = ["mark.skip", "mark.xfail", "pytest.skip"];

pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let code = code_lines(&file.text);
    let raw: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    findings.extend(too_long(file, &raw));
    if !house::is_test_file(&file.path) {
        return findings;
    }
    for (index, line) in code.iter().enumerate() {
        let excused = raw[index.saturating_sub(1)..=index].iter().any(|line| line.contains(SLEEP_REASON));
        if sleeps(line) && !excused {
            let problem =
                format!("a test that sleeps: await the event, or say why not in `{SLEEP_REASON}...`");
            findings.push(Finding::at(&file.path, index, problem));
        }
        if IGNORED.iter().any(|ignored| has_word(line, ignored, "")) {
            let problem = "an ignored test holds nothing; make it run, or delete it";
            findings.push(Finding::at(&file.path, index, problem));
        }
    }
    findings
}

fn too_long(file: &TextFile, raw: &[&str]) -> Option<Finding> {
    let excused = raw.iter().any(|line| line.starts_with(LONG_REASON));
    (raw.len() > LINES_MAX && !excused).then(|| {
        let problem = format!("{} lines; split it, or say why not in a line `{LONG_REASON}...`", raw.len());
        Finding::new(&*file.path, problem)
    })
}

/// `asyncio.sleep(0)` lets the loop go round once, and no time pass.
fn sleeps(line: &str) -> bool {
    has_word(&line.replace("asyncio.sleep(0)", ""), "sleep", "(") && !line.contains("def sleep(")
}

/// The lines of a file without its comments and strings.
///
/// What is inside the braces of an f-string goes with it. A triple-quoted program that a test runs is a string like any
/// other.
fn code_lines(source: &str) -> Vec<String> {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => string_len(rest, first),
            _ => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        let (blanked, after) = rest.split_at(len);
        code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    code.lines().map(String::from).collect()
}

/// The length of the string that `text` starts with. A backslash keeps the quote after it in raw strings too.
fn string_len(text: &str, quote: char) -> usize {
    let triple = quote.to_string().repeat(3);
    let end = if text.starts_with(&triple) { triple } else { quote.to_string() };
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(end.len()) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if text[at..].starts_with(&end) {
            return at + end.len();
        } else if c == '\n' && end.len() == 1 {
            // Never closed: no Python, and no reason to lose the rest of the file.
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        let file = TextFile { path: path.into(), text: text.into() };
        check(&file).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_test_does_not_sleep_or_says_why() {
        let cases = [
            ("time.sleep(1)", true),
            ("await asyncio.sleep(0.1)", true),
            ("await asyncio.sleep(0)", false),
            ("await asyncio.sleep(0); time.sleep(1)", true),
            ("from time import sleep", false),
            ("# sleeps: nothing tells when the kernel is done\n    time.sleep(1)", false),
            ("time.sleep(1)  # sleeps: that is what is tested", false),
            ("text = 'time.sleep(1)'  # time.sleep(1)", false),
            ("text = \"\"\"\ntime.sleep(1)\n\"\"\"", false),
            ("text = 'it\\'s'; time.sleep(1)", true),
            ("text = ''; time.sleep(1)", true),
            ("text = '''it's'''; time.sleep(1)", true),
            ("async def sleep(seconds):", false),
        ];
        for (text, found) in cases {
            assert_eq!(!places("crates/a/tests/test_b.py", text).is_empty(), found, "{text}");
            assert!(places("crates/a/python/b.py", text).is_empty(), "not a test: {text}");
        }
    }

    #[test]
    fn a_test_is_not_ignored() {
        let cases = [
            ("@pytest.mark.skip(reason=\"later\")", true),
            ("@pytest.mark.xfail", true),
            ("pytest.skip(\"no\")", true),
            ("@pytest.mark.skipif(sys.platform == \"win32\", reason=\"no fork\")", false),
            ("torch = pytest.importorskip(\"torch\")", false),
        ];
        for (text, found) in cases {
            assert_eq!(!places("crates/a/tests/test_b.py", text).is_empty(), found, "{text}");
        }
    }

    #[test]
    fn a_long_file_gives_its_reason() {
        let at_most = "\n".repeat(LINES_MAX);
        assert!(places("a.py", &at_most).is_empty());
        assert_eq!(places("a.py", &format!("{at_most}\n")), ["a.py"]);
        assert!(places("a.py", &format!("# Long because it is a table.\n{at_most}")).is_empty());
    }

    #[test]
    fn strings_and_comments_are_blank_and_lines_stay_lines() {
        let cases = [
            ("a = 'b' # c\nd", "a=\nd"),
            ("a = r'\\' ; b", "a=r"),
            ("a = \"\"\"b\n\"c\"\n\"\"\" + d", "a=\n\n+d"),
            ("a = 'never closed\nb", "a=\nb"),
            ("a = \"ä\\\"\" + b", "a=+b"),
        ];
        for (source, expected) in cases {
            let code: Vec<_> = code_lines(source).iter().map(|line| line.replace(' ', "")).collect();
            assert_eq!(code.join("\n"), expected, "{source}");
        }
    }
}
