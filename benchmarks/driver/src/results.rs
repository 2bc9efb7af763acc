//! What a run found, as it is kept: one JSON file, of which every table and chart is made.

use crate::{
    machine::Machine,
    systems::{Language, Transport},
};
use serde::{Deserialize, Serialize};
use std::{fmt, fs, io, path::Path};

/// The version of this form. A file of another one is not read.
pub const FORMAT: u32 = 1;

/// Everything that a run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// When, as `2026-02-28`.
    pub date: String,
    /// The checkout's commit.
    pub commit: Option<String>,
    /// Whether counts were too small for figures to be relied on.
    pub quick: bool,
    /// How often every system had its turn.
    pub rounds: u32,
    /// How long it took.
    pub took_s: u64,
    /// Where.
    pub machine: Machine,
    /// Who.
    pub systems: Vec<Measured>,
    /// What was found.
    pub figures: Vec<Figure>,
    /// What was not, and why.
    pub not_measured: Vec<NotMeasured>,
}

/// A system that took part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// As peers know it.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// What its bytes go over.
    pub transport: Transport,
    /// Its package and version.
    pub version: Option<String>,
    /// How it was built, where that is not the same for all.
    pub build: Option<String>,
    /// The receive buffer that its server asked the kernel for, where it says.
    pub receive_buffer_asked_bytes: Option<u64>,
    /// The receive buffer that its server was granted, where it says.
    pub receive_buffer_bytes: Option<u64>,
    /// Why it did not run.
    pub unavailable: Option<String>,
}

/// Where client and server are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Both in one process.
    OneProcess,
    /// Each in its own.
    TwoProcesses,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneProcess => "one process",
            Self::TwoProcesses => "two processes",
        })
    }
}

/// What a figure is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The work: `latency`, `fan-out`.
    pub work: String,
    /// Where client and server are.
    pub layout: Layout,
    /// The payload of a request, and of its answer.
    pub bytes: Option<u64>,
}

impl Subject {
    /// The subject of this work.
    pub fn new(work: &str, layout: Layout, bytes: impl Into<Option<u64>>) -> Self {
        Self { work: work.to_owned(), layout, bytes: bytes.into() }
    }
}

/// One thing that was measured of one system, once a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The system's name.
    pub system: String,
    /// What it did.
    #[serde(flatten)]
    pub subject: Subject,
    /// What was measured, its unit last: `p50_us`.
    pub measure: String,
    /// Each round's value.
    pub samples: Vec<Sample>,
}

/// A figure's value in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which round, from 0.
    pub round: u32,
    /// The value.
    pub value: f64,
    /// Of how many requests, connections or rounds of requests it was made.
    pub of: u64,
}

/// Something that a system did not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMeasured {
    /// The system's name.
    pub system: String,
    /// What it did not do.
    #[serde(flatten)]
    pub subject: Subject,
    /// In which rounds.
    pub rounds: Vec<u32>,
    /// Whether it tried.
    pub failed: bool,
    /// Why, in its own words.
    pub why: String,
}

/// Why a file is not read, or not written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file system's reason.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// It is not what it should be.
    #[error("{0}: {1}")]
    Content(String, serde_json::Error),
    /// It is of another version of this program.
    #[error("{0}: has format {1}; this program reads {FORMAT}")]
    Format(String, u32),
}

impl Results {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read or is of another form.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| ResultsError::File(name.clone(), error))?;
        let results: Self =
            serde_json::from_str(&text).map_err(|error| ResultsError::Content(name.clone(), error))?;
        if results.format != FORMAT {
            return Err(ResultsError::Format(name, results.format));
        }
        Ok(results)
    }

    /// Writes the file, and its directory if that is not there.
    ///
    /// # Errors
    /// If the file system does not let it.
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let name = path.display().to_string();
        let text = self.to_text().map_err(|error| ResultsError::Content(name.clone(), error))?;
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(path, text))
            .map_err(|error| ResultsError::File(name, error))
    }

    /// The JSON, with a line for each field, and for each entry of a list: short enough to keep, and read well as a
    /// difference.
    fn to_text(&self) -> Result<String, serde_json::Error> {
        fn field<T: Serialize>(name: &str, value: &T) -> Result<String, serde_json::Error> {
            Ok(format!(" \"{name}\": {}", serde_json::to_string(value)?))
        }
        fn list<T: Serialize>(name: &str, entries: &[T]) -> Result<String, serde_json::Error> {
            let lines: Result<Vec<_>, _> = entries.iter().map(serde_json::to_string).collect();
            Ok(format!(" \"{name}\": [\n  {}\n ]", lines?.join(",\n  ")))
        }
        let Self { format, date, commit, quick, rounds, took_s, machine, systems, figures, not_measured } =
            self;
        let fields = [
            field("format", format)?,
            field("date", date)?,
            field("commit", commit)?,
            field("quick", quick)?,
            field("rounds", rounds)?,
            field("took_s", took_s)?,
            field("machine", machine)?,
            list("systems", systems)?,
            list("figures", figures)?,
            list("not_measured", not_measured)?,
        ];
        Ok(format!("{{\n{}\n}}\n", fields.join(",\n")))
    }

    /// A figure's values by round. Of a figure that was not taken, none.
    #[must_use]
    pub fn samples(&self, system: &str, subject: &Subject, measure: &str) -> Vec<(u32, f64)> {
        let wanted = |figure: &&Figure| {
            figure.system == system && figure.subject == *subject && figure.measure == measure
        };
        let figure = self.figures.iter().find(wanted);
        figure.map_or_else(Vec::new, |figure| {
            figure.samples.iter().map(|sample| (sample.round, sample.value)).collect()
        })
    }

    /// A figure's summary over the rounds.
    #[must_use]
    pub fn summary(
        &self,
        system: &str,
        subject: &Subject,
        measure: &str,
    ) -> Option<crate::statistics::Summary> {
        let values: Vec<f64> =
            self.samples(system, subject, measure).into_iter().map(|(_, value)| value).collect();
        crate::statistics::Summary::of(&values)
    }

    /// Takes in a value. What is no number is taken in as a failure.
    pub fn record(&mut self, system: &str, subject: &Subject, measure: &str, sample: Sample) {
        if !sample.value.is_finite() {
            let why = format!("{measure} came to no number");
            self.record_absence(system, subject, sample.round, true, &why);
            return;
        }
        // Five figures are more than any of them is good for, and keep the file short.
        let sample = Sample { value: rounded(sample.value), ..sample };
        let same = |figure: &&mut Figure| {
            figure.system == system && figure.subject == *subject && figure.measure == measure
        };
        match self.figures.iter_mut().find(same) {
            Some(figure) => figure.samples.push(sample),
            None => self.figures.push(Figure {
                system: system.to_owned(),
                subject: subject.clone(),
                measure: measure.to_owned(),
                samples: vec![sample],
            }),
        }
    }

    /// Takes in that there is no value.
    pub fn record_absence(&mut self, system: &str, subject: &Subject, round: u32, failed: bool, why: &str) {
        let same = |other: &&mut NotMeasured| {
            other.system == system && other.subject == *subject && other.failed == failed && other.why == why
        };
        match self.not_measured.iter_mut().find(same) {
            Some(other) => other.rounds.push(round),
            None => self.not_measured.push(NotMeasured {
                system: system.to_owned(),
                subject: subject.clone(),
                rounds: vec![round],
                failed,
                why: why.to_owned(),
            }),
        }
    }
}

/// To five significant figures.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return value;
    }
    let digits = 4 - value.abs().log10().floor() as i32;
    // By way of the decimal text, which has no more digits than that.
    if digits > 0 {
        format!("{value:.*}", digits as usize).parse().unwrap_or(value)
    } else {
        let unit = 10_f64.powi(-digits);
        (value / unit).round() * unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Results {
        Results {
            format: FORMAT,
            date: "2026-02-28".into(),
            commit: None,
            quick: false,
            rounds: 2,
            took_s: 9,
            machine: Machine::default(),
            systems: vec![],
            figures: vec![],
            not_measured: vec![],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut results = empty();
        let subject = Subject::new("latency", Layout::OneProcess, 1024);
        for round in 0..2 {
            let sample = Sample { round, value: 12.345_678 + f64::from(round), of: 100 };
            results.record("a", &subject, "p50_us", sample);
            results.record_absence("b", &subject, round, true, "why");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/results.json");
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
        assert_eq!(results.samples("a", &subject, "p50_us"), [(0, 12.346), (1, 13.346)]);
        assert_eq!(results.not_measured[0].rounds, [0, 1]);
        assert_eq!(results.samples("a", &Subject::new("latency", Layout::OneProcess, 256), "p50_us"), []);
    }

    #[test]
    fn what_is_no_number_is_a_failure() {
        let mut results = empty();
        let subject = Subject::new("latency", Layout::OneProcess, 1024);
        results.record("a", &subject, "p50_us", Sample { round: 0, value: f64::NAN, of: 0 });
        assert!(results.figures.is_empty() && results.not_measured[0].failed);
    }

    #[test]
    fn a_file_of_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        Results { format: FORMAT + 1, ..empty() }.write(&path).unwrap();
        assert!(matches!(Results::read(&path), Err(ResultsError::Format(..))));
        fs::write(&path, "{").unwrap();
        assert!(matches!(Results::read(&path), Err(ResultsError::Content(..))));
        assert!(matches!(Results::read(&dir.path().join("none")), Err(ResultsError::File(..))));
    }

    #[test]
    fn five_figures_are_kept() {
        let cases = [(0.0, 0.0), (0.123_456, 0.123_46), (-1.5, -1.5), (123_456.0, 123_460.0)];
        for (value, expected) in cases {
            assert_eq!(rounded(value), expected, "{value}");
        }
    }
}
