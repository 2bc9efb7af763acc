//! What btlightning needs of the Bittensor chain.
//!
//! [`Chain`](chain::Chain) asks the nodes of a [`Network`](network::Network), whichever of them answers;
//! [`MetagraphWatch`](watch::MetagraphWatch) keeps the [`Metagraph`](metagraph::Metagraph) of a subnet in sync and its
//! age in sight; [`MinerFilter`](miners::MinerFilter) says which of its neurons are miners to connect to.
//!
//! Nothing here knows of QUIC, of the client or of the server. A node is believed what it says about the chain, and
//! nothing else: its answers are bounded in size and checked in form, and every wait for one has a deadline.

pub mod address;
pub mod chain;
pub mod error;
pub mod metagraph;
pub mod miners;
pub mod network;
pub mod publish;
pub mod watch;

mod chain_head;
mod config;
mod layout;
mod neurons;
mod node;
mod reading;
mod runtimes;
mod words;

pub use subxt;
