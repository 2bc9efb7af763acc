//! Rust source as a rule about words wants to see it: without comments and literals.

/// The lines of a file with comments and literals turned into spaces, so that a rule never finds its word in prose.
///
/// A lexer, not a parser: it knows nested comments, raw and byte strings, and a lifetime from a character.
pub(super) fn code_lines(source: &str) -> Vec<String> {
    let mut lexer = Lexer { rest: source, code: String::with_capacity(source.len()) };
    while lexer.step() {}
    lexer.code.lines().map(String::from).collect()
}

/// Whether `word` occurs in `line` as an identifier of its own, directly followed by `then`.
pub(super) fn has_word(line: &str, word: &str, then: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word) && after.starts_with(then)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Lexer<'a> {
    rest: &'a str,
    code: String,
}

impl Lexer<'_> {
    /// Takes one token; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        let in_word = self.code.ends_with(is_word);
        if self.rest.starts_with("//") {
            self.blank(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment_len(self.rest));
        } else if let Some(len) = raw_string_len(self.rest).filter(|_| !in_word) {
            self.blank(len);
        } else if first == '"' {
            self.blank(string_len(self.rest));
        } else if let Some(len) = char_len(self.rest) {
            self.blank(len);
        } else {
            self.code.push(first);
            self.rest = &self.rest[first.len_utf8()..];
        }
        true
    }

    fn blank(&mut self, len: usize) {
        let (blanked, rest) = self.rest.split_at(len);
        self.code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// `r"..."`, `br##"..."##` and the like; not `r#type`.
fn raw_string_len(text: &str) -> Option<usize> {
    let after_prefix = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
    let body = after_prefix[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let body_len = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + body_len)
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal; `None` for a lifetime and for what starts otherwise.
fn char_len(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        // Past the escaped character, which may be a quote itself.
        return inside.get(2..)?.find('\'').map(|at| 1 + 2 + at + 1);
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| 1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_lines_stay_lines() {
        let cases = [
            ("a(); // word", "a();"),
            ("a(/* word /* word */ word */ b)", "a(b)"),
            (r#"a("word \" word", b)"#, "a(,b)"),
            (r##"a(r#"word " word"#, b)"##, "a(,b)"),
            (r##"a(br#"word"#, r#word_)"##, "a(,r#word_)"),
            ("a('\"', 'w', '\\'', '\\u{77}', b)", "a(,,,,b)"),
            ("a<'w>(b: &'w c)", "a<'w>(b:&'wc)"),
            ("if c == r\"word\"", "ifc=="),
            ("var\"word\"", "var"),
            ("a /* ä\n word */ b\n\"word\nword\" c", "a\nb\n\nc"),
            ("a(\"never closed", "a("),
        ];
        for (source, expected) in cases {
            let code: Vec<_> = code_lines(source).iter().map(|line| line.replace(' ', "")).collect();
            assert_eq!(code.join("\n"), expected, "{source}");
        }
    }

    #[test]
    fn a_word_is_a_whole_identifier() {
        let cases = [
            ("sleep(1)", "sleep", "(", true),
            ("time::sleep(1)", "sleep", "(", true),
            ("oversleep(1)", "sleep", "(", false),
            ("sleep_until(t)", "sleep", "(", false),
            ("use time::sleep;", "sleep", "(", false),
            ("forbid(unsafe_code)", "unsafe", "", false),
            ("unsafe { }", "unsafe", "", true),
        ];
        for (line, word, then, expected) in cases {
            assert_eq!(has_word(line, word, then), expected, "{line}");
        }
    }
}
