//! A run: every system in turn, round after round.

use crate::{
    machine::Machine,
    peer::PeerError,
    plan::{self, Block, Effort, Work},
    progress::Progress,
    results::{FORMAT, Measured, Results},
    systems::System,
    work,
};
use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

/// A block in which a system loses its peers that often is left out in later rounds: each time costs a timeout.
const LOSSES_MAX: u32 = 2;

/// What is run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Who takes part.
    pub systems: Vec<System>,
    /// What is measured.
    pub works: Vec<Work>,
    /// How much is done.
    pub effort: Effort,
    /// Whether the results are for a look only.
    pub quick: bool,
    /// When.
    pub date: String,
    /// Of what.
    pub commit: Option<String>,
    /// Where what is there after each round is kept, in case the run does not come to its end.
    pub kept: Option<PathBuf>,
}

impl Run {
    /// Measures everything. A system that fails is reported and does not end the run.
    #[must_use]
    pub fn run(&self) -> Results {
        let turns = plan::turns(self.effort.rounds, self.systems.len(), &self.works);
        let names = self.systems.iter().map(|system| system.name.clone()).collect();
        let mut progress = Progress::new(&turns, names, &self.effort);
        let mut results = self.nothing_yet();
        for system in &results.systems {
            if let Some(why) = &system.unavailable {
                progress.say(&format!("{} is left out: {why}", system.name));
            }
        }
        let mut left_out = LeftOut::default();
        for (place, turn) in turns.iter().enumerate() {
            let system = &self.systems[turn.system];
            progress.begin(place);
            let launch = system.launch.as_ref().ok().filter(|_| !left_out.contains(turn.block, turn.system));
            let Some(launch) = launch else {
                progress.end(true);
                continue;
            };
            let failures_before = results.not_measured.len();
            let outcome = work::Turn {
                system: &system.name,
                language: system.language,
                transport: system.transport,
                launch,
                round: turn.round,
                effort: self.effort,
                works: &self.works,
                results: &mut results,
                progress: &mut |what| progress.step(what),
            }
            .run(turn.block);
            progress.end(outcome.is_err());
            for absence in &results.not_measured[failures_before..] {
                let how = if absence.failed { "failed" } else { "does not do" };
                let (system, work, why) = (&absence.system, &absence.subject.work, &absence.why);
                progress.say(&format!("{system} {how} {work}: {why}"));
            }
            if let Err(error) = outcome {
                if let PeerError::Unavailable(why) = &error {
                    progress.say(&format!("{} is left out: {why}", system.name));
                    let of_it = results.systems.iter_mut().find(|other| other.name == system.name);
                    of_it.into_iter().for_each(|measured| measured.unavailable = Some(why.clone()));
                }
                left_out.learn(turn.block, turn.system, &error);
            }
            let round_ends = turns.get(place + 1).is_none_or(|next| next.round != turn.round);
            if let Some(path) = self.kept.as_ref().filter(|_| round_ends) {
                results.took_s = progress.elapsed().as_secs();
                if let Err(error) = results.write(path) {
                    progress.say(&format!("what is there so far is not kept: {error}"));
                }
            }
        }
        progress.finish();
        results.took_s = progress.elapsed().as_secs();
        results
    }

    fn nothing_yet(&self) -> Results {
        let measured = |system: &System| Measured {
            name: system.name.clone(),
            language: system.language,
            transport: system.transport,
            version: system.version.clone(),
            build: system.build.clone(),
            receive_buffer_asked_bytes: None,
            receive_buffer_bytes: None,
            unavailable: system.launch.as_ref().err().cloned(),
        };
        Results {
            format: FORMAT,
            date: self.date.clone(),
            commit: self.commit.clone(),
            quick: self.quick,
            rounds: self.effort.rounds,
            took_s: 0,
            machine: Machine::here(),
            systems: self.systems.iter().map(measured).collect(),
            figures: Vec::new(),
            not_measured: Vec::new(),
        }
    }
}

/// Whom not to ask again.
#[derive(Default)]
struct LeftOut {
    systems: HashSet<usize>,
    blocks: HashSet<(Block, usize)>,
    losses: HashMap<(Block, usize), u32>,
}

impl LeftOut {
    fn contains(&self, block: Block, system: usize) -> bool {
        self.systems.contains(&system) || self.blocks.contains(&(block, system))
    }

    fn learn(&mut self, block: Block, system: usize, error: &PeerError) {
        match error {
            PeerError::Unavailable(_) => {
                self.systems.insert(system);
            }
            PeerError::Skipped(_) => {
                self.blocks.insert((block, system));
            }
            PeerError::Failed(_) | PeerError::Lost(_) => {
                let losses = self.losses.entry((block, system)).or_default();
                *losses += 1;
                if *losses == LOSSES_MAX {
                    self.blocks.insert((block, system));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_is_not_asked_again_and_who_fails_has_a_second_try() {
        let mut left_out = LeftOut::default();
        left_out.learn(Block::Path, 0, &PeerError::Skipped(String::new()));
        assert!(left_out.contains(Block::Path, 0) && !left_out.contains(Block::Wire, 0));
        left_out.learn(Block::Wire, 0, &PeerError::Lost(String::new()));
        assert!(!left_out.contains(Block::Wire, 0));
        left_out.learn(Block::Wire, 0, &PeerError::Failed(String::new()));
        assert!(left_out.contains(Block::Wire, 0));
        left_out.learn(Block::Wire, 1, &PeerError::Unavailable(String::new()));
        assert!(left_out.contains(Block::Memory, 1) && !left_out.contains(Block::Memory, 0));
    }
}
