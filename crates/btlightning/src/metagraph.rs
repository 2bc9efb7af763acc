//! The chain (feature `subtensor`): which miners a subnet has, who may validate, and how a miner announces itself.
//!
//! [`Metagraph`] and its neighbours are the published API. [`Chain`] asks one of several nodes and fails over between them;
//! [`MetagraphWatch`] keeps a subnet's metagraph in sync; [`MinerFilter`] says which neurons are miners. A client that is to
//! follow a subnet is told so by [`MetagraphMonitorConfig`].

pub use btlightning_chain::address::is_valid_ip;
pub use btlightning_chain::chain::{Backend, Chain, ChainConfig, ChainStatus, connect_subtensor};
pub use btlightning_chain::error::{ChainError, NodeError};
pub use btlightning_chain::metagraph::{Metagraph, NeuronInfo};
pub use btlightning_chain::miners::{MinerFilter, permitted_hotkeys};
pub use btlightning_chain::network::{
    FINNEY_ENDPOINT, FINNEY_GENESIS, LOCAL_ENDPOINT, Network, NetworkError, TESTNET_ENDPOINT,
};
pub use btlightning_chain::publish::{
    Axon, AxonError, HotkeySigner, PublishError, Published, Publisher, TLS_KEY_PIN_ALGORITHM,
};
/// The version of `subxt` whose types are in the calls above.
pub use btlightning_chain::subxt;
pub use btlightning_chain::watch::{MetagraphWatch, Snapshot, WatchStatus};

pub use crate::client::{MetagraphMonitorConfig, MetagraphStatus};
pub use crate::server::SubnetPermits;
