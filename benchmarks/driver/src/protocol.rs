//! What the driver and a peer say to each other: one JSON object a line, over the peer's standard input and output.
//!
//! A peer first says that it is [ready](Ready), or that its system cannot run here. Then it answers each [`Order`] with
//! exactly one line.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::net::SocketAddr;

/// What a peer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// So many servers in one process.
    Server {
        /// How many, each on a port of its own.
        servers: usize,
    },
    /// A client.
    Client,
    /// A server and a client in one process.
    Both,
}

impl Role {
    /// The command line that makes a peer of `system` take this role.
    #[must_use]
    pub fn args(self, system: &str) -> Vec<String> {
        let mut args = vec!["--system".to_owned(), system.to_owned(), "--role".to_owned()];
        match self {
            Self::Server { servers } => {
                args.extend(["server".to_owned(), "--servers".to_owned(), servers.to_string()]);
            }
            Self::Client => args.push("client".to_owned()),
            Self::Both => args.push("both".to_owned()),
        }
        args
    }
}

/// A server, as a peer that runs it describes it and a peer that connects to it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Where it listens, or where a relay to it does.
    pub addr: SocketAddr,
    /// What else the system's client needs to know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a peer tells to do.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order<'a> {
    /// One client, connected to all of them; without servers, to those of the peer itself.
    Connect {
        /// To whom.
        #[serde(skip_serializing_if = "Option::is_none")]
        servers: Option<&'a [Server]>,
    },
    /// Again and again a new client that connects, has one echo of 1,024 bytes, and closes.
    Setup {
        /// How often.
        repeat: u64,
        /// To whom.
        #[serde(skip_serializing_if = "Option::is_none")]
        servers: Option<&'a [Server]>,
    },
    /// The connected client closes its connections and makes them again, again and again.
    SetupAgain {
        /// How often.
        repeat: u64,
    },
    /// One echo after another.
    Latency {
        /// Of the payload.
        bytes: u64,
        /// How many.
        count: u64,
    },
    /// Echoes, several at a time.
    Throughput {
        /// Of the payload.
        bytes: u64,
        /// How many in all.
        count: u64,
        /// How many at a time.
        in_flight: u64,
    },
    /// An echo to each of the connected servers at once.
    FanOut {
        /// Of the payload.
        bytes: u64,
        /// How often.
        rounds: u64,
    },
    /// One echo after another, while answers of 1 MB come on the same connection.
    BesideStream {
        /// Of the payload.
        bytes: u64,
        /// How many.
        count: u64,
    },
    /// Asks for an echo of 1 KB until it is answered.
    Reconnect {
        /// When to give up, from now.
        until_ms: u64,
    },
    /// Opens connections, each of a client of its own, and keeps them.
    Idle {
        /// How many.
        connections: u64,
        /// To whom.
        servers: &'a [Server],
    },
    /// A server stops, and starts again at the same port.
    Restart {
        /// How long it is gone.
        down_ms: u64,
    },
    /// What the process has used so far.
    Usage,
    /// Ends the process. The end of its input ends it too.
    Stop,
}

/// What a peer says when it can be given orders.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Ready {
    /// Its servers.
    #[serde(default)]
    pub servers: Vec<Server>,
    /// The receive buffer that the kernel granted to a server's socket.
    #[serde(default)]
    pub receive_buffer_bytes: Option<u64>,
    /// The receive buffer that was asked for, from systems that say.
    #[serde(default)]
    pub receive_buffer_asked_bytes: Option<u64>,
}

/// The answer to [`Order::Connect`] and [`Order::Idle`].
#[derive(Debug, Deserialize)]
pub struct Connected {
    /// How many connections there are.
    pub connected: u64,
    /// How long it took to make them all.
    #[serde(default)]
    pub elapsed_s: Option<f64>,
}

/// The answer to [`Order::Setup`] and [`Order::SetupAgain`].
#[derive(Debug, Deserialize)]
pub struct SetUp {
    /// Each client's time from its making to its first answer.
    pub setup_ms: Vec<f64>,
}

/// The answer to [`Order::Latency`] and [`Order::BesideStream`].
#[derive(Debug, Deserialize)]
pub struct Latency {
    /// Each echo's time.
    pub latency_us: Vec<f64>,
    /// How fast the large answers came meanwhile, from systems that say. Small echoes can be quick at their cost.
    #[serde(default)]
    pub beside_bytes_per_s: Option<f64>,
}

/// The answer to [`Order::Throughput`].
#[derive(Debug, Deserialize)]
pub struct Throughput {
    /// From the first request to the last answer.
    pub elapsed_s: f64,
    /// Times of some of the echoes.
    pub latency_us: Vec<f64>,
}

/// The answer to [`Order::FanOut`].
#[derive(Debug, Deserialize)]
pub struct FanOut {
    /// From the first request to the last answer, each time.
    pub elapsed_ms: Vec<f64>,
}

/// The answer to [`Order::Reconnect`].
#[derive(Debug, Deserialize)]
pub struct Reconnected {
    /// From the order to the answer.
    pub elapsed_ms: f64,
    /// Requests that failed before.
    pub failures: u64,
}

/// The answer to [`Order::Usage`].
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Usage {
    /// User and system time of the process so far.
    pub cpu_s: f64,
    /// Its resident set.
    pub rss_bytes: u64,
}

/// A peer's first line, and the answer to [`Order::Restart`].
#[derive(Debug, Deserialize)]
pub struct Started {
    /// What started.
    pub ready: Ready,
}

/// A line of a peer, by what kind of answer it is.
#[derive(Debug)]
pub enum Line {
    /// The answer that the order asked for.
    Answer(Value),
    /// It failed, in the system's words.
    Failed(String),
    /// The system has no notion of it.
    Skipped(String),
    /// The system cannot run here.
    Unavailable(String),
}

impl Line {
    /// What kind of answer a line is.
    ///
    /// # Errors
    /// If it is not a JSON object; with what it is.
    pub fn read(line: &str) -> Result<Self, String> {
        let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(line) else {
            return Err(format!("wrote a line that is not a JSON object: {line}"));
        };
        let words =
            |key: &str| value.get(key).map(|said| said.as_str().map_or(said.to_string(), String::from));
        Ok(if let Some(why) = words("error") {
            Self::Failed(why)
        } else if let Some(why) = words("skipped") {
            Self::Skipped(why)
        } else if let Some(why) = words("unavailable") {
            Self::Unavailable(why)
        } else {
            Self::Answer(value)
        })
    }
}

/// An answer's object as what it should be.
///
/// # Errors
/// If it is not; with what it is.
pub fn answer<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    // Samples would bury what is wrong with them.
    let shown: String = value.to_string().chars().take(200).collect();
    serde_json::from_value(value).map_err(|error| format!("wrote an answer that is none ({error}): {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(order: &Order<'_>) -> String {
        serde_json::to_string(order).unwrap()
    }

    #[test]
    fn orders_are_the_lines_that_peers_know() {
        let servers: Vec<Server> = serde_json::from_str(r#"[{"addr":"127.0.0.1:7","key":"5F..."}]"#).unwrap();
        let servers = Some(&*servers);
        let cases = [
            (Order::Connect { servers: None }, r#"{"do":"connect"}"#),
            (
                Order::Connect { servers },
                r#"{"do":"connect","servers":[{"addr":"127.0.0.1:7","key":"5F..."}]}"#,
            ),
            (Order::Setup { repeat: 3, servers: None }, r#"{"do":"setup","repeat":3}"#),
            (Order::SetupAgain { repeat: 3 }, r#"{"do":"setup_again","repeat":3}"#),
            (Order::Latency { bytes: 256, count: 5 }, r#"{"do":"latency","bytes":256,"count":5}"#),
            (
                Order::Throughput { bytes: 1, count: 2, in_flight: 32 },
                r#"{"do":"throughput","bytes":1,"count":2,"in_flight":32}"#,
            ),
            (Order::FanOut { bytes: 1024, rounds: 9 }, r#"{"do":"fan_out","bytes":1024,"rounds":9}"#),
            (Order::BesideStream { bytes: 1, count: 2 }, r#"{"do":"beside_stream","bytes":1,"count":2}"#),
            (Order::Reconnect { until_ms: 9 }, r#"{"do":"reconnect","until_ms":9}"#),
            (Order::Restart { down_ms: 500 }, r#"{"do":"restart","down_ms":500}"#),
            (Order::Usage, r#"{"do":"usage"}"#),
            (Order::Stop, r#"{"do":"stop"}"#),
        ];
        for (order, line) in cases {
            assert_eq!(json(&order), line);
        }
    }

    #[test]
    fn a_line_is_an_answer_or_says_why_it_is_none() {
        assert!(matches!(Line::read(r#"{"connected":1}"#), Ok(Line::Answer(_))));
        assert!(matches!(Line::read(r#"{"error":"no"}"#), Ok(Line::Failed(why)) if why == "no"));
        assert!(matches!(Line::read(r#"{"error":{"a":1}}"#), Ok(Line::Failed(why)) if why == r#"{"a":1}"#));
        assert!(matches!(Line::read(r#"{"skipped":"one"}"#), Ok(Line::Skipped(why)) if why == "one"));
        assert!(matches!(Line::read(r#"{"unavailable":"x"}"#), Ok(Line::Unavailable(why)) if why == "x"));
        for wrong in ["", "warning: x", "[1]", "3"] {
            assert!(Line::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_an_error() {
        assert!(answer::<SetUp>(serde_json::json!({"setup_ms": [1.5]})).is_ok());
        assert!(answer::<SetUp>(serde_json::json!({"latency_us": [1.5]})).is_err());
        assert!(answer::<Started>(serde_json::json!({"ready": {}})).is_ok());
        assert!(answer::<Started>(serde_json::json!({})).is_err());
    }
}
