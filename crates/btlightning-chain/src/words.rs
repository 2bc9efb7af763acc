//! Texts from elsewhere, made fit for a log line.

/// The longest text kept, in characters.
const CHARS_MAX: usize = 240;

/// `text` without control characters and not longer than a log line bears. What a node or a user wrote ends up in
/// errors, statuses and logs; none of them may grow, or be broken into lines, by it.
pub(crate) fn printable(text: impl AsRef<str>) -> String {
    let text = text.as_ref().trim();
    let mut kept: String =
        text.chars().take(CHARS_MAX).map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        kept.push_str("...");
    }
    kept
}

/// Not a control character, and none of those that turn the direction of a line or hide in it.
fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_lines_is_replaced_and_what_is_long_is_cut() {
        assert_eq!(printable(" plain words "), "plain words");
        assert_eq!(printable("a\nb\x1b[2Jc\u{202e}d"), "a\u{fffd}b\u{fffd}[2Jc\u{fffd}d");
        assert_eq!(printable("x".repeat(240)).len(), 240);
        assert_eq!(printable("ü".repeat(241)), format!("{}...", "ü".repeat(240)));
    }
}
