//! The lines between the driver and a peer, as `benchmarks/README.md` describes them.

use serde::{Deserialize, Serialize};

use crate::system::ServerAt;

/// A line from the driver.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    /// Become one client of all these servers.
    Connect {
        /// In the role `both` the peer's own when absent.
        servers: Option<Vec<ServerAt>>,
    },
    /// Fresh clients, one after another, each to its first answer.
    Setup {
        /// How many.
        repeat: usize,
        /// As in `Connect`.
        servers: Option<Vec<ServerAt>>,
    },
    /// The connected client hangs up and comes back, again and again, each time to its first answer.
    SetupAgain {
        /// How often.
        repeat: usize,
    },
    /// One echo after another.
    Latency {
        /// The payload's size.
        bytes: usize,
        /// How many.
        count: usize,
    },
    /// Echoes with several in flight.
    Throughput {
        /// The payload's size.
        bytes: usize,
        /// How many in all.
        count: usize,
        /// How many at once.
        in_flight: usize,
    },
    /// Echoes of all connected servers at once.
    FanOut {
        /// The payload's size.
        bytes: usize,
        /// How often.
        rounds: usize,
    },
    /// One echo after another while others of 1 MB are under way.
    BesideStream {
        /// The payload's size.
        bytes: usize,
        /// How many.
        count: usize,
    },
    /// Echoes until one succeeds.
    Reconnect {
        /// When to give up.
        until_ms: u64,
    },
    /// More clients, which stay.
    Idle {
        /// How many.
        connections: u32,
        /// As in `Connect`.
        servers: Option<Vec<ServerAt>>,
    },
    /// Stop the servers, wait, start them on the same ports.
    Restart {
        /// How long to wait.
        down_ms: u64,
    },
    /// What the process has used.
    Usage,
    /// End.
    Stop,
}

/// A line to the driver.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The peer can be given orders.
    Ready {
        /// What it is.
        ready: Ready,
    },
    /// The system cannot run here.
    Unavailable {
        /// Why.
        unavailable: String,
    },
    /// The order failed.
    Error {
        /// How.
        error: String,
    },
    /// To `connect` and `idle`.
    Connected {
        /// How many connections were made.
        connected: usize,
        /// How long that took.
        elapsed_s: f64,
    },
    /// To `setup` and `setup_again`.
    Setup {
        /// From nothing to the first answer, each.
        setup_ms: Vec<f64>,
    },
    /// To `throughput`.
    Throughput {
        /// From the first request to the last answer.
        elapsed_s: f64,
        /// The process's.
        cpu_s: f64,
        /// Samples, at most [`SAMPLES_MAX`].
        latency_us: Vec<f64>,
    },
    /// To `latency`.
    Latency {
        /// Every sample.
        latency_us: Vec<f64>,
        /// The process's.
        cpu_s: f64,
    },
    /// To `beside_stream`.
    BesideStream {
        /// Every sample.
        latency_us: Vec<f64>,
        /// How fast the large answers came meanwhile: small echoes can be quick at their cost.
        beside_bytes_per_s: f64,
    },
    /// To `fan_out`.
    FanOut {
        /// To the last answer, each round.
        elapsed_ms: Vec<f64>,
        /// The process's.
        cpu_s: f64,
    },
    /// To `reconnect`.
    Reconnect {
        /// From the order to the answer.
        elapsed_ms: f64,
        /// Echoes that failed before.
        failures: usize,
    },
    /// To `usage`.
    Usage {
        /// User and system time so far.
        cpu_s: f64,
        /// The resident set.
        rss_bytes: u64,
    },
    /// To `stop`.
    Stopped {
        /// Always true.
        stopped: bool,
    },
}

/// What a peer is, once it is there.
#[derive(Debug, Serialize)]
pub struct Ready {
    /// Its servers; none of a mere client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<ServerAt>>,
    /// The UDP receive buffer of the first server, as the kernel counts it.
    pub receive_buffer_bytes: Option<usize>,
    /// After a restart: for how long nobody listened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_ms: Option<f64>,
}

/// The most samples in an answer to `throughput`.
pub const SAMPLES_MAX: usize = 10_000;
