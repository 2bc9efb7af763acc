//! The list of attacks, and carrying them out one after another.

use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::results::{Carried, Results};
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::{flood, known, miners, soak, strangers};

/// After this an attack is stuck, which none may be.
const PATIENCE: Duration = Duration::from_secs(600);

/// An attack.
pub(crate) struct Attack {
    /// What it is called, in one word.
    pub(crate) name: &'static str,
    /// What has to hold.
    pub(crate) promise: &'static str,
    /// Carries it out.
    pub(crate) carry_out: fn(Scale) -> Outcome,
}

/// What becomes of an attack.
pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<Verdict, Failure>>>>;

/// All of them.
fn attacks() -> impl Iterator<Item = &'static Attack> {
    [strangers::ATTACKS, known::ATTACKS, miners::ATTACKS, flood::ATTACKS, soak::ATTACKS].into_iter().flatten()
}

/// Prints what there is.
pub(crate) fn list() {
    for attack in attacks() {
        println!("{:<28} {}", attack.name, attack.promise);
    }
}

/// Carries out the attacks whose names contain one of `only`, or all of them. Says whether all of them were held.
pub(crate) fn run(quick: bool, only: &[String], json: Option<&Path>) -> Result<bool, Failure> {
    let scale = if quick { Scale::Quick } else { Scale::Full };
    let wanted =
        |attack: &&Attack| only.is_empty() || only.iter().any(|part| attack.name.contains(part.as_str()));
    let wanted: Vec<_> = attacks().filter(wanted).collect();
    if wanted.is_empty() {
        return Err(format!("no attack is called {}", only.join(" or ")).into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut results = Results::begin(quick);
    for attack in wanted {
        let began = Instant::now();
        // Within the runtime, whose timers it needs.
        let carried_out = async { tokio::time::timeout(PATIENCE, (attack.carry_out)(scale)).await };
        let outcome = match runtime.block_on(carried_out) {
            Ok(outcome) => outcome.map_err(|failure| failure.to_string()),
            Err(_) => Err(format!("not done after {PATIENCE:?}")),
        };
        let result = Carried::new(attack, outcome, began.elapsed());
        println!("{result}");
        results.attacks.push(result);
    }
    let failed: Vec<_> =
        results.attacks.iter().filter(|result| !result.held).map(|r| r.name.as_str()).collect();
    match failed[..] {
        [] => println!("{} attacks, all held", results.attacks.len()),
        _ => println!("{} attacks, {} NOT held: {}", results.attacks.len(), failed.len(), failed.join(", ")),
    }
    if let Some(path) = json {
        results.write(path)?;
    }
    Ok(failed.is_empty())
}
