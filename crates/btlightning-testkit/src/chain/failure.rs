//! How a node can be told to fail.

use serde_json::{Value, json};
use std::time::Duration;

/// A way to fail, see [`Node::fail`](super::Node::fail).
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Connections are refused, and those that were open are closed. As a node that is down.
    Refuse,
    /// Connections are taken and closed before anything is said; those that were open are closed.
    HangUp,
    /// TCP connections are taken, and nothing is ever said on them, not even the WebSocket handshake. Those that were
    /// open are closed.
    Mute,
    /// Requests are taken and never answered; notifications are held back.
    Silent,
    /// A request closes the connection.
    Disconnect,
    /// Answers come so much later. Requests that follow do not wait for them.
    Delay(Duration),
    /// Every request is answered with this error.
    Error {
        /// JSON-RPC's code.
        code: i64,
        /// The text.
        message: String,
    },
    /// Answers are wrong in this way.
    Garbage(Garbage),
}

/// A way in which answers are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Text that is no JSON.
    NotJson,
    /// A binary message.
    Binary,
    /// JSON with an `id` that nobody asked under.
    WrongId,
    /// JSON in which the result is of another type than it should be.
    WrongType,
    /// A result that is a string of so many bytes.
    Oversized(usize),
    /// What the runtime answers, cut in half.
    Truncated,
    /// What the runtime answers, and eight bytes more.
    Trailing,
    /// As many bytes as the runtime answers, of noise.
    Noise,
    /// A vector that claims to have 2^30 elements, and ends there.
    EndlessLength,
}

/// A failure, and what it is of.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) failure: Failure,
    /// RPC methods and functions of the runtime; `None` is everything.
    pub(super) of: Option<Vec<String>>,
}

impl Fault {
    pub(super) fn concerns(&self, method: &str, function: Option<&str>) -> bool {
        let named =
            |names: &Vec<String>| names.iter().any(|name| name == method || Some(&**name) == function);
        self.of.as_ref().is_none_or(named)
    }
}

impl Failure {
    /// Whether nothing is said on a connection that is open.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Silent | Self::Refuse | Self::HangUp | Self::Mute)
    }
}

impl Garbage {
    /// Whether it is the runtime's answer that is wrong, and not the message around it.
    pub(super) fn is_of_runtime(self) -> bool {
        matches!(self, Self::Truncated | Self::Trailing | Self::Noise | Self::EndlessLength)
    }

    /// The runtime's answer, spoilt.
    pub(super) fn spoil_answer(self, answer: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Truncated => answer[..answer.len() / 2].to_vec(),
            Self::Trailing => [answer, vec![0xff; 8]].concat(),
            Self::Noise => noise(answer.len()),
            Self::EndlessLength => vec![0x02, 0x00, 0x00, 0xff],
            _ => answer,
        }
    }

    /// A JSON-RPC response, spoilt; those that are to be no JSON at all are made so later.
    pub(super) fn spoil_response(self, mut response: Value) -> Value {
        match self {
            Self::WrongId => response["id"] = json!(u32::MAX),
            Self::WrongType => {
                response["result"] = match &response["result"] {
                    Value::Array(_) | Value::Object(_) => json!("0xzz"),
                    _ => json!({ "garbage": [1, 2.5, null] }),
                };
            }
            Self::Oversized(bytes) => response["result"] = json!("0".repeat(bytes)),
            Self::NotJson | Self::Binary => {}
            Self::Truncated | Self::Trailing | Self::Noise | Self::EndlessLength => {}
        }
        response
    }
}

/// The same noise every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}
