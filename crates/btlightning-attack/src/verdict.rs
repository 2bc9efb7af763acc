//! What became of an attack.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// What goes wrong with an attack itself, in words: that is neither held nor not held.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What became of an attack: everything that was looked at, and whether it was as promised.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) held: bool,
    /// The figure, and what it was measured against.
    pub(crate) words: String,
    /// The same for a table, by names that end in their units.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Verdict {
    /// Notes something that has to hold.
    pub(crate) fn hold(&mut self, held: bool, words: impl Display) {
        self.measure(held, words, []);
    }

    /// Notes something that has to hold, with its figures.
    pub(crate) fn measure(
        &mut self,
        held: bool,
        words: impl Display,
        figures: impl IntoIterator<Item = (&'static str, f64)>,
    ) {
        let figures = figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect();
        self.findings.push(Finding { held, words: words.to_string(), figures });
    }

    /// Whether everything was as promised.
    pub(crate) fn held(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(|finding| finding.held)
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            let between = if index > 0 { "; " } else { "" };
            let failed = if finding.held { "" } else { "NOT: " };
            write!(f, "{between}{failed}{}", finding.words)?;
        }
        Ok(())
    }
}
