//! [`ChainConfig`], how a chain is asked.

use std::time::Duration;

use crate::error::ChainError;
use crate::network::Network;

/// Which methods of a node are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The legacy methods where the node lists them, else `chainHead`. Never `archive`, which pruned nodes list and
    /// refuse.
    #[default]
    Auto,
    /// `chain_*` and `state_*`.
    Legacy,
    /// `chainHead_v1_*`.
    ChainHead,
}

/// How a chain is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainConfig {
    /// The nodes to ask, best first: 1 to 16 `ws://` or `wss://` URLs of nodes of one chain. Default: mainnet's.
    pub endpoints: Vec<String>,
    /// How long it may take to connect to one node, until it has said which chain it belongs to. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long one question may take; the first one of a runtime fetches the metadata. Default: 30 s.
    pub call_timeout: Duration,
    /// How long one node may take for all questions of one operation, such as reading a metagraph. Default: 120 s.
    pub operation_timeout: Duration,
    /// Which methods are used. Default: [`Backend::Auto`].
    pub backend: Backend,
}

/// The longest that any of the timeouts may be.
const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

impl Default for ChainConfig {
    fn default() -> Self {
        Self::new(&Network::finney())
    }
}

impl ChainConfig {
    /// The defaults for a network.
    pub fn new(network: &Network) -> Self {
        Self {
            endpoints: network.endpoints().to_vec(),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            operation_timeout: Duration::from_secs(120),
            backend: Backend::Auto,
        }
    }

    /// The same with each endpoint once.
    ///
    /// # Errors
    /// The setting that is out of its bounds.
    pub(crate) fn checked(mut self) -> Result<Self, ChainError> {
        self.endpoints = Network::from_endpoints(&self.endpoints)?.endpoints().to_vec();
        let timeouts = [
            ("connect_timeout", self.connect_timeout),
            ("call_timeout", self.call_timeout),
            ("operation_timeout", self.operation_timeout),
        ];
        for (setting, value) in timeouts {
            if value.is_zero() {
                return Err(ChainError::Setting { setting, problem: "is zero" });
            }
            if value > TIMEOUT_MAX {
                return Err(ChainError::Setting { setting, problem: "is longer than an hour" });
            }
        }
        Ok(self)
    }
}
