//! What is done, how much of it, and in which order.

use std::time::Duration;

/// Sizes of payloads.
pub const SIZES_BYTES: [u64; 5] = [256, 1_024, 10_240, 102_400, 1_048_576];

/// Requests at a time when throughput is measured.
pub const IN_FLIGHT: u64 = 32;

/// The payload of works that have one size only.
pub const ONE_KB: u64 = 1_024;

/// A large payload.
pub const ONE_MB: u64 = 1_048_576;

/// The payload of the requests that large answers stand in the way of.
pub const BESIDE_BYTES: u64 = 256;

/// Servers that are asked at once.
pub const FAN_OUT_SERVERS: usize = 256;

/// Connections that do nothing.
pub const IDLE_CONNECTIONS: u64 = 256;

/// How long a server is gone.
pub const DOWN: Duration = Duration::from_millis(500);

/// One way over the simulated path.
pub const PATH_DELAY: Duration = Duration::from_millis(25);

/// What gets lost on the simulated path, each way.
pub const PATH_LOSS: f64 = 0.01;

/// A thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A new client's way to its first answer.
    Setup,
    /// One request after another.
    Latency,
    /// Many requests at a time, and what they cost.
    Throughput,
    /// Bytes on the wire.
    Wire,
    /// Many servers at once.
    FanOut,
    /// What an idle connection holds.
    Memory,
    /// The way back after a restart of the server.
    Reconnect,
    /// Small requests while large answers come.
    BesideStream,
    /// A long and lossy path.
    Path,
}

/// Every work.
pub const WORKS: [Work; 9] = [
    Work::Setup,
    Work::Latency,
    Work::Throughput,
    Work::Wire,
    Work::FanOut,
    Work::Memory,
    Work::Reconnect,
    Work::BesideStream,
    Work::Path,
];

impl Work {
    /// As the command line and the results name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Wire => "wire",
            Self::FanOut => "fan-out",
            Self::Memory => "memory",
            Self::Reconnect => "reconnect",
            Self::BesideStream => "beside-stream",
            Self::Path => "path",
        }
    }
}

/// Works that share processes. A block is one system's; then it is the next system's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// Set-up, latency and throughput within one process.
    OneProcess,
    /// The same, and what else two connected processes can do.
    TwoProcesses,
    /// Two processes with a counting relay between them.
    Wire,
    /// A client and a process of many servers.
    FanOut,
    /// A server with idle connections.
    Memory,
    /// A server that restarts.
    Reconnect,
    /// Two processes with a long path between them.
    Path,
    /// A client and a process of many servers, with a long path to each.
    PathFanOut,
}

/// Every block, in the order of a round.
pub const BLOCKS: [Block; 8] = [
    Block::OneProcess,
    Block::TwoProcesses,
    Block::Wire,
    Block::FanOut,
    Block::Memory,
    Block::Reconnect,
    Block::Path,
    Block::PathFanOut,
];

impl Block {
    /// The works that it can do.
    #[must_use]
    pub fn works(self) -> &'static [Work] {
        match self {
            Self::OneProcess => &[Work::Setup, Work::Latency, Work::Throughput],
            Self::TwoProcesses => &[Work::Setup, Work::Latency, Work::Throughput, Work::BesideStream],
            Self::Wire => &[Work::Wire],
            Self::FanOut => &[Work::FanOut],
            Self::Memory => &[Work::Memory],
            Self::Reconnect => &[Work::Reconnect],
            Self::Path | Self::PathFanOut => &[Work::Path],
        }
    }

    /// As the progress display names it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::OneProcess => "one process",
            Self::TwoProcesses => "two processes",
            Self::Wire => "wire bytes",
            Self::FanOut => "fan-out",
            Self::Memory => "idle connections",
            Self::Reconnect => "reconnect",
            Self::Path => "long path",
            Self::PathFanOut => "fan-out, long path",
        }
    }

    /// Whether it has a turn in this round. Bytes hardly differ from round to round, and the long path takes its time.
    #[must_use]
    pub fn in_round(self, round: u32) -> bool {
        let in_every_round = !matches!(self, Self::Wire | Self::Memory | Self::Path | Self::PathFanOut);
        in_every_round || round.is_multiple_of(2)
    }
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How often every system has its turn.
    pub rounds: u32,
    /// What a measurement is to take. Counts follow from it and from how fast the system is.
    pub measurement: Duration,
    /// The same for a measurement over the long path.
    pub path_measurement: Duration,
}

impl Effort {
    /// For figures to be relied on.
    pub const FULL: Self = Self {
        rounds: 5,
        measurement: Duration::from_millis(300),
        path_measurement: Duration::from_millis(2_000),
    };

    /// For a look.
    pub const QUICK: Self = Self {
        rounds: 1,
        measurement: Duration::from_millis(100),
        path_measurement: Duration::from_millis(600),
    };
}

/// A turn: this system does this block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Which round, from 0.
    pub round: u32,
    /// What is done.
    pub block: Block,
    /// By which system, by its place in the list.
    pub system: usize,
}

/// All turns in order: system after system does a block, so that what disturbs the machine for a while disturbs all of
/// them; and each round starts with another system, so that none is always the one after the same.
#[must_use]
pub fn turns(rounds: u32, systems: usize, works: &[Work]) -> Vec<Turn> {
    let mut turns = Vec::new();
    for round in 0..rounds {
        let first = round as usize * systems / rounds as usize;
        for block in BLOCKS {
            if block.in_round(round) && block.works().iter().any(|work| works.contains(work)) {
                let order = (0..systems).map(|place| (first + place) % systems);
                turns.extend(order.map(|system| Turn { round, block, system }));
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_take_turns_at_each_block_and_another_one_starts_each_round() {
        let turns = turns(2, 4, &[Work::FanOut, Work::Path]);
        let order = |round, block| -> Vec<usize> {
            let wanted = |turn: &&Turn| turn.round == round && turn.block == block;
            turns.iter().filter(wanted).map(|turn| turn.system).collect()
        };
        assert_eq!(order(0, Block::FanOut), [0, 1, 2, 3]);
        assert_eq!(order(1, Block::FanOut), [2, 3, 0, 1]);
        assert_eq!(order(0, Block::Path), [0, 1, 2, 3]);
        assert_eq!(order(0, Block::PathFanOut), [0, 1, 2, 3]);
        assert!(order(1, Block::Path).is_empty() && order(0, Block::TwoProcesses).is_empty());
        let blocks: Vec<Block> = turns.iter().map(|turn| turn.block).collect();
        assert_eq!(blocks[..12], [[Block::FanOut; 4], [Block::Path; 4], [Block::PathFanOut; 4]].concat());
    }

    #[test]
    fn every_work_is_in_a_block() {
        for work in WORKS {
            assert!(BLOCKS.iter().any(|block| block.works().contains(&work)), "{work:?}");
        }
    }
}
