//! What the demo's validators ask and its miners answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The name of the handler that answers a [`Question`] with a [`Summary`].
pub(super) const SUMMARISE: &str = "Summarise";

/// The name of the handler that answers with what it was asked, whatever that is.
pub(super) const ECHO: &str = "Echo";

/// The name of the handler that streams the words of a [`Question`].
pub(super) const WORDS: &str = "Words";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) words: u64,
    pub(super) distinct: u64,
    pub(super) longest: String,
    pub(super) commonest: String,
}

/// Counts the words of `text`.
pub(super) fn summarise(text: &str) -> Summary {
    let mut counts = BTreeMap::<String, u64>::new();
    for word in words(text) {
        *counts.entry(word).or_default() += 1;
    }
    let longest = counts.keys().max_by_key(|word| word.chars().count()).cloned().unwrap_or_default();
    let commonest =
        counts.iter().max_by_key(|(_, count)| **count).map(|(word, _)| word.clone()).unwrap_or_default();
    Summary { words: counts.values().sum(), distinct: counts.len() as u64, longest, commonest }
}

/// The words of `text` in order, in lower case.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_without_regard_to_case() {
        let summary = summarise("The cat, the dog -- and the mouse.");
        let expected =
            Summary { words: 7, distinct: 5, longest: "mouse".to_owned(), commonest: "the".to_owned() };
        assert_eq!(summary, expected);
        assert_eq!(summarise("").words, 0);
    }
}
