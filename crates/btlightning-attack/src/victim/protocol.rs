//! What victims are told, and what they say.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::Usage;

/// What a server is to be; the first line that it is told. What is not named is as the library has it by default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Hotkeys that hold a permit. `Some` requires one.
    pub(crate) permitted: Option<Vec<String>>,
    /// Hotkeys that are known to hold a permit, where none is required.
    pub(crate) known_permitted: Vec<String>,
    /// Addresses that may connect. `Some` enforces them.
    pub(crate) allowed: Option<Vec<IpAddr>>,
    pub(crate) require_address_validation: Option<bool>,
    pub(crate) max_unauthenticated_connections: Option<usize>,
    pub(crate) max_unauthenticated_connections_per_ip: Option<usize>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_handshake_attempts_per_minute: Option<u32>,
    pub(crate) max_tracked_rate_ips: Option<usize>,
    pub(crate) handshake_timeout_secs: Option<u64>,
    pub(crate) handler_timeout_secs: Option<u64>,
    pub(crate) max_concurrent_bidi_streams: Option<u32>,
}

/// What a server is asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// [`Report`].
    Report,
    /// Forgets how much memory it has had at most; [`Report`].
    ForgetPeak,
    /// Lets the handlers at the door through; [`Report`].
    OpenDoor,
    /// Stops in good order, and says what is left; [`Report`]. The process ends.
    Stop,
}

/// A server that serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) addr: SocketAddr,
    pub(crate) hotkey: String,
}

/// What a server costs, and what it does, at one moment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) usage: Usage,
    /// Authenticated connections.
    pub(crate) members: usize,
    /// Connections that have not authenticated.
    pub(crate) strangers: usize,
    /// Requests that are being read or worked on.
    pub(crate) requests_held: usize,
    /// Connections that were let in as strangers, since the start.
    pub(crate) admitted: u64,
    /// Handlers that have begun since the start.
    pub(crate) handlers_begun: usize,
    /// Handlers that are alive.
    pub(crate) handlers_alive: usize,
    /// Lines logged since the start, from INFO up.
    pub(crate) log_lines: usize,
    /// The longest of them, in bytes.
    pub(crate) log_line_bytes_max: usize,
    /// Lines with a character in them that is not printable.
    pub(crate) log_lines_unprintable: usize,
    /// Tasks, connections and others that know the server.
    pub(crate) holders: usize,
    /// Tasks that are alive, on the victim's runtime and on those of its packets.
    pub(crate) tasks: usize,
}

/// What a validator is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ValidatorOrder {
    /// Wants these miners from now on, and no others: hotkeys and addresses. Does not wait for them.
    Follow(Vec<(String, SocketAddr)>),
    /// Asks one of them so many times, `at_once` at a time, each time within so long.
    Ask { hotkey: String, addr: SocketAddr, count: usize, at_once: usize, timeout: Duration },
    /// Asks one of them for so long, one question after another with a pause in between.
    AskFor { hotkey: String, addr: SocketAddr, lasting: Duration, pause: Duration },
    /// Asks one of them so many times, one after another, and has the answers decoded into dynamic values, or into a type.
    Decode { hotkey: String, addr: SocketAddr, count: usize, into: Decoded },
    /// From now on asks each of these all the time, one question after another, each within so long, whatever becomes of
    /// it. Does not wait for them.
    Pester { miners: Vec<(String, SocketAddr)>, timeout: Duration },
    /// Only says what it costs.
    Report,
}

/// What an answer is decoded into.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Decoded {
    /// A map of dynamic values.
    Values,
    /// A type with a list of elements that are larger than what they are on the wire.
    Typed,
}

/// How the questions were answered, and what the validator costs since it was last asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) answered: usize,
    /// Why others were not, one of them.
    pub(crate) failure: Option<String>,
    /// How long each answer took, in order.
    pub(crate) times: Vec<Duration>,
    /// How long all of it took.
    pub(crate) elapsed: Duration,
    pub(crate) usage: Usage,
}

impl Asked {
    /// What became of one question.
    pub(crate) fn words(&self) -> String {
        let what = self.failure.as_deref().unwrap_or("was answered");
        format!("{what} after {:.0} ms, dial included", self.elapsed.as_secs_f64() * 1e3)
    }
}
