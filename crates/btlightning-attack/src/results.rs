//! What a run found, as lines and as JSON.

use std::fmt::{self, Display};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::run::Attack;
use crate::verdict::{Failure, Finding, Verdict};

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Whether it was the smaller one.
    pub(crate) quick: bool,
    /// The machine, as far as the figures depend on it.
    pub(crate) machine: String,
    pub(crate) attacks: Vec<Carried>,
}

/// One attack that was carried out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) name: String,
    pub(crate) promise: String,
    pub(crate) held: bool,
    pub(crate) findings: Vec<Finding>,
    /// Why it could not be carried out.
    pub(crate) failure: Option<String>,
    pub(crate) took_secs: f64,
}

impl Results {
    pub(crate) fn begin(quick: bool) -> Self {
        Self { quick, machine: machine(), attacks: Vec::new() }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?)
    }
}

impl Carried {
    pub(crate) fn new(attack: &Attack, outcome: Result<Verdict, String>, took: Duration) -> Self {
        let held = outcome.as_ref().is_ok_and(Verdict::held);
        let (findings, failure) = match outcome {
            Ok(verdict) => (verdict.findings, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let (name, promise) = (attack.name.to_owned(), attack.promise.to_owned());
        Self { name, promise, held, findings, failure, took_secs: took.as_secs_f64() }
    }

    /// What was found, or why nothing was.
    pub(crate) fn words(&self) -> String {
        match &self.failure {
            Some(failure) => failure.clone(),
            None => Verdict { findings: self.findings.clone() }.to_string(),
        }
    }
}

impl Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match (&self.failure, self.held) {
            (Some(_), _) => "FAILED",
            (None, true) => "held",
            (None, false) => "NOT",
        };
        write!(f, "{outcome:<7}{:<26}{:>6.1} s  ", self.name, self.took_secs)?;
        f.write_str(&self.words())
    }
}

/// Processors and kernel.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = rustix::system::uname();
    format!(
        "{processors} processors, {} {} {}",
        kernel.sysname().to_string_lossy(),
        kernel.release().to_string_lossy(),
        kernel.machine().to_string_lossy(),
    )
}
