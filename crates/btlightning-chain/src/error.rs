//! [`ChainError`]: what went wrong with the chain, split by who is at fault.

use std::time::Duration;

use btlightning_proto::error::LightningError;

use crate::metagraph::NEURONS_MAX;
use crate::network::NetworkError;

/// Why the chain could not be asked, or what it said no to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The caller named no usable endpoints.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The caller set something that is out of its bounds.
    #[error("{setting} {problem}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// One node failed, the only one that could be asked.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Every node that could be asked failed; what each of them did, in the order they were asked.
    #[error("no node answers: {}", in_words(.0))]
    NoNode(Vec<EndpointFailure>),
    /// The chain answered: it has no such subnet.
    #[error("the chain has no subnet {netuid}")]
    NoSuchSubnet {
        /// The subnet that was asked for.
        netuid: u16,
    },
    /// A subnet of more neurons than are read.
    #[error("subnet {netuid} has {neurons} neurons; at most {NEURONS_MAX} are read")]
    TooManyNeurons {
        /// The subnet.
        netuid: u16,
        /// How many it is said to have.
        neurons: u64,
    },
    /// The runtime knows neither the call nor the storage that this needs: it is of another kind, or of another time.
    #[error("the chain's runtime (spec {spec_version}) does not have {what}")]
    NotInRuntime {
        /// Version of the runtime.
        spec_version: u32,
        /// What was looked for.
        what: &'static str,
    },
    /// There is no answer within the caller's own time.
    #[error("not done within {after:?}")]
    OutOfTime {
        /// The time that was given.
        after: Duration,
    },
    /// The runtime that this was to run on is shutting down.
    #[error("the tokio runtime is shutting down")]
    ShuttingDown,
}

impl ChainError {
    /// Whether another node might do better, as opposed to an answer that any node would give.
    pub fn is_fault_of_node(&self) -> bool {
        matches!(self, Self::Node(_) | Self::NoNode(_))
    }
}

fn in_words(failures: &[EndpointFailure]) -> String {
    let each: Vec<String> = failures.iter().map(ToString::to_string).collect();
    each.join("; ")
}

/// What the node at one endpoint did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint}: {error}")]
pub struct EndpointFailure {
    /// The endpoint, without what may be a secret in its URL.
    pub endpoint: String,
    /// What it did.
    pub error: NodeError,
}

/// What a node did wrong, or what happened on the way to it. Texts are short and printable, whatever the node wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No connection came about.
    #[error("cannot be reached: {reason}")]
    Unreachable {
        /// In the words of the operating system, TLS or WebSocket.
        reason: String,
    },
    /// The connection broke while it was in use.
    #[error("connection lost {doing}: {reason}")]
    Lost {
        /// What was going on.
        doing: &'static str,
        /// In the words of the transport.
        reason: String,
    },
    /// The node took too long.
    #[error("no answer within {after:?} {doing}")]
    TimedOut {
        /// What was going on.
        doing: &'static str,
        /// The time it had.
        after: Duration,
    },
    /// The node answered with something that cannot be read.
    #[error("unreadable answer {doing}: {reason}")]
    Garbage {
        /// What was going on.
        doing: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The node answered with an error of its own.
    #[error("refused {doing}: {reason}")]
    Refused {
        /// What was going on.
        doing: &'static str,
        /// In the words of the node.
        reason: String,
    },
    /// The node offers the methods of neither backend, or not those of the one that was asked for.
    #[error("offers no methods that can be used: {missing} is missing")]
    NoMethods {
        /// A method without which nothing can be done.
        missing: &'static str,
    },
    /// The node has not caught up with what was read before, from another node or from itself.
    #[error("is behind: its latest block is {block}, and {seen} was read before")]
    Behind {
        /// The latest block it has.
        block: u64,
        /// The latest block read before.
        seen: u64,
    },
    /// The node belongs to another chain than those that answered before.
    #[error("belongs to another chain (genesis {found}, not {expected})")]
    OtherChain {
        /// Genesis hash of the chain that answered first.
        expected: String,
        /// Genesis hash of this node's chain.
        found: String,
    },
}

impl From<NodeError> for LightningError {
    fn from(err: NodeError) -> Self {
        match err {
            NodeError::Garbage { .. } => Self::Serialization(err.to_string()),
            _ => Self::Connection(err.to_string()),
        }
    }
}

impl From<ChainError> for LightningError {
    fn from(err: ChainError) -> Self {
        match err {
            ChainError::Network(err) => err.into(),
            ChainError::Node(err) => err.into(),
            ChainError::Setting { .. } | ChainError::NoSuchSubnet { .. } => Self::Config(err.to_string()),
            ChainError::TooManyNeurons { .. } | ChainError::NotInRuntime { .. } => {
                Self::Serialization(err.to_string())
            }
            ChainError::NoNode(_) | ChainError::OutOfTime { .. } | ChainError::ShuttingDown => {
                Self::Connection(err.to_string())
            }
        }
    }
}
