//! Counts, and what they were counted in.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

/// What instruction counts depend on beside the code. Counts of two environments differ by some percent without any
/// change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Environment {
    /// The compiler, with its commit.
    pub(super) rustc: String,
    pub(super) target: String,
    /// The C library: it allocates and copies.
    pub(super) libc: String,
    pub(super) valgrind: String,
    /// The features of valgrind's processor, by which ring and the C library choose their code.
    pub(super) cpu: String,
}

impl Environment {
    /// What is not the same in `other`, in words.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        [
            ("rustc", &self.rustc, &other.rustc),
            ("target", &self.target, &other.target),
            ("libc", &self.libc, &other.libc),
            ("valgrind", &self.valgrind, &other.valgrind),
            ("cpu", &self.cpu, &other.cpu),
        ]
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(what, ours, theirs)| format!("{what}: {ours}, not {theirs}"))
        .collect()
    }
}

/// The instructions of one run of each scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    pub(super) environment: Environment,
    pub(super) instructions: BTreeMap<String, u64>,
}

impl Baseline {
    /// Reads the file; an empty baseline if there is none yet.
    pub(super) fn read(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::BASELINE;

    #[test]
    fn the_committed_baseline_is_one_and_is_written_as_it_was_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(BASELINE);
        let committed = Baseline::read(&path).unwrap();
        assert!(!committed.instructions.is_empty());
        let copy = std::env::temp_dir().join(format!("btlightning-baseline-{}.json", std::process::id()));
        committed.write(&copy).unwrap();
        let [original, copied] = [&path, &copy].map(|path| fs::read_to_string(path).unwrap());
        fs::remove_file(&copy).unwrap();
        assert_eq!(copied, original);
    }

    #[test]
    fn no_file_is_an_empty_baseline_and_a_file_with_something_else_is_an_error() {
        assert_eq!(Baseline::read(Path::new("no/such/baseline.json")), Ok(Baseline::default()));
        assert!(Baseline::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).is_err());
    }

    #[test]
    fn environments_differ_in_what_differs() {
        let ours =
            Environment { rustc: "rustc 1.95.0".into(), libc: "glibc 2.36".into(), ..Default::default() };
        let theirs = Environment { rustc: "rustc 1.96.0".into(), ..ours.clone() };
        assert_eq!(ours.differences(&theirs), ["rustc: rustc 1.95.0, not rustc 1.96.0"]);
        assert!(ours.differences(&ours).is_empty());
    }
}
