//! What a person who waits for a run sees: on a terminal one line that changes, elsewhere a line now and then.

use crate::plan::{Block, Effort, Turn};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How far a run is, and how long the rest will take.
pub struct Progress {
    turns: Vec<Turn>,
    names: Vec<String>,
    rounds: u32,
    estimate: Estimate,
    bar: ProgressBar,
    started: Instant,
    /// The turn that runs, by its place, and since when.
    current: Option<(usize, Instant)>,
}

/// The bar's length. Its unit is a share of the time.
const WHOLE: u64 = 1_000;

impl Progress {
    /// The progress of these turns of the systems of these names.
    #[must_use]
    pub fn new(turns: &[Turn], names: Vec<String>, effort: &Effort) -> Self {
        let bar = ProgressBar::with_draw_target(Some(WHOLE), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3}%  {wide_msg}") {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        Self {
            turns: turns.to_vec(),
            names,
            rounds: effort.rounds,
            estimate: Estimate::new(effort),
            bar,
            started: Instant::now(),
            current: None,
        }
    }

    /// A turn begins.
    pub fn begin(&mut self, place: usize) {
        self.current = Some((place, Instant::now()));
        self.show("");
        let turn = self.turns[place];
        let first_of_block = place == 0 || {
            let before = self.turns[place - 1];
            (before.round, before.block) != (turn.round, turn.block)
        };
        if self.bar.is_hidden() && first_of_block {
            let (round, rounds, block) = (turn.round + 1, self.rounds, turn.block.title());
            let percent = self.position(place) * 100 / WHOLE;
            let rest = in_words(self.rest(place));
            self.say(&format!("{percent:>3}%  round {round} of {rounds}, {block}; {rest}"));
        }
    }

    /// The running turn does this now.
    pub fn step(&self, what: &str) {
        self.show(what);
    }

    /// The running turn is over. One that was left out says nothing about how long the others take.
    pub fn end(&mut self, left_out: bool) {
        if let Some((place, since)) = self.current.take().filter(|_| !left_out) {
            self.estimate.learn(self.turns[place], since.elapsed());
        }
    }

    /// Something that is to stay on the screen.
    pub fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Takes the display away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn show(&self, what: &str) {
        let Some((place, _)) = self.current else { return };
        let turn = self.turns[place];
        self.bar.set_position(self.position(place));
        let what = if what.is_empty() { String::new() } else { format!(": {what}") };
        self.bar.set_message(format!(
            "round {}/{}, {}, {}{what}; {}",
            turn.round + 1,
            self.rounds,
            turn.block.title(),
            self.names[turn.system],
            in_words(self.rest(place)),
        ));
    }

    fn rest(&self, place: usize) -> Duration {
        let running = self.current.map_or(Duration::ZERO, |(_, since)| since.elapsed());
        self.estimate.of(&self.turns[place..]).saturating_sub(running)
    }

    fn position(&self, place: usize) -> u64 {
        let (done, rest) = (self.elapsed().as_secs_f64(), self.rest(place).as_secs_f64());
        (WHOLE as f64 * done / (done + rest).max(1e-9)) as u64
    }
}

fn in_words(rest: Duration) -> String {
    match rest.as_secs() {
        0..=90 => format!("about {} s left", rest.as_secs().div_ceil(10) * 10),
        seconds => format!("about {} min left", (seconds + 30) / 60),
    }
}

/// How long turns take: as the same one did in an earlier round, else as it is with the others at this block.
struct Estimate {
    measurement_s: f64,
    path_measurement_s: f64,
    known: HashMap<(Block, usize), f64>,
    /// What took so long in all, and what had been guessed for it.
    took_s: f64,
    guessed_s: f64,
}

impl Estimate {
    fn new(effort: &Effort) -> Self {
        Self {
            measurement_s: effort.measurement.as_secs_f64(),
            path_measurement_s: effort.path_measurement.as_secs_f64(),
            known: HashMap::new(),
            took_s: 0.0,
            guessed_s: 0.0,
        }
    }

    fn learn(&mut self, turn: Turn, took: Duration) {
        self.took_s += took.as_secs_f64();
        self.guessed_s += self.guess_s(turn.block);
        self.known.insert((turn.block, turn.system), took.as_secs_f64());
    }

    fn of(&self, turns: &[Turn]) -> Duration {
        let off_by = if self.guessed_s > 0.0 { self.took_s / self.guessed_s } else { 1.0 };
        let of_one = |turn: &Turn| {
            let known = self.known.get(&(turn.block, turn.system)).copied();
            known.unwrap_or_else(|| self.guess_s(turn.block) * off_by)
        };
        Duration::try_from_secs_f64(turns.iter().map(of_one).sum()).unwrap_or_default()
    }

    /// Before anything is known. Measurements, with what warms them up, and what is done once.
    fn guess_s(&self, block: Block) -> f64 {
        let (measurement, path) = (self.measurement_s * 1.5, self.path_measurement_s * 1.5);
        match block {
            Block::OneProcess => 0.5 + 11.0 * measurement,
            Block::TwoProcesses => 0.5 + 12.0 * measurement,
            Block::Wire => 1.2,
            Block::FanOut => 1.0 + 2.0 * measurement,
            Block::Memory => 1.5,
            Block::Reconnect => 1.8,
            Block::Path => 3.0 + 6.0 * path,
            Block::PathFanOut => 3.0 + path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn turn(round: u32, block: Block, system: usize) -> Turn {
        Turn { round, block, system }
    }

    #[test]
    fn the_rest_is_what_earlier_rounds_took() {
        let mut estimate = Estimate::new(&Effort::FULL);
        let guessed = estimate.of(&[turn(0, Block::Wire, 0)]);
        estimate.learn(turn(0, Block::Wire, 0), guessed * 2);
        assert_eq!(estimate.of(&[turn(1, Block::Wire, 0)]), guessed * 2);
        // The machine is half as fast as it was taken for; so it will be with others.
        let other = estimate.of(&[turn(0, Block::Wire, 1)]);
        assert!(other.abs_diff(guessed * 2) < Duration::from_millis(1), "{other:?}");
    }

    #[test]
    fn the_rest_is_said_as_exactly_as_it_is_known() {
        let cases = [
            (0, "about 0 s left"),
            (11, "about 20 s left"),
            (95, "about 2 min left"),
            (1_439, "about 24 min left"),
        ];
        for (seconds, words) in cases {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
