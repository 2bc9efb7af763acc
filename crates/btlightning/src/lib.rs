//! QUIC transport for Bittensor: one authenticated, encrypted, persistent connection per validator and miner.
//!
//! A validator is a [`LightningClient`]: it holds a connection to each of many miners and asks them things. A miner is a
//! [`LightningServer`]: it answers. Both are known to each other by their sr25519 hotkeys. The wire protocol and the API
//! are those of the published btlightning 0.2, so that either side can change to this one without asking the other.
//!
//! Two ways lead to the same wire:
//!
//! - [`LightningClient::call`], [`fan_out`](LightningClient::fan_out), [`LightningServer::register`]: values of your own
//!   types, encoded into the frame and decoded from it; precise errors; timings with every answer; handlers that are told
//!   who calls.
//! - [`LightningClient::query_axon`] and the published handler traits: maps of dynamic values, as existing programs use
//!   them.
//!
//! # Features
//! - `subtensor`: the chain ([`metagraph`]): miners found and followed by the metagraph, permits and stake, publishing.
//! - `sources-file`: [learned source allowlists](server::LearnedSources) that survive restarts in a file.
//! - `btwallet`: signers from Bittensor wallet files ([`BtWalletSigner`](signing)).

pub mod client;
mod compat;
mod draft;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hush;
mod limits;
#[cfg(feature = "subtensor")]
pub mod metagraph;
pub mod raw;
pub mod server;
pub mod signing;
#[cfg(test)]
mod testing;
#[doc(hidden)]
pub mod transport;
pub mod util;

pub(crate) use btlightning_proto::wire;

pub use btlightning_proto::identity::{Hotkey, HotkeyError, TlsKeyPin, TlsKeyPinError};
pub use btlightning_proto::peers::{PeerAddr, QuicAxonInfo};
pub use btlightning_proto::wire::{
    DEFAULT_MAX_FRAME_PAYLOAD, HandshakeRequest, HandshakeResponse, MessageType, QuicRequest, QuicResponse,
    SynapsePacket, SynapseResponse, parse_frame_header,
};

pub use self::client::{
    CallError, CallOptions, ChunkStream, DialError, FanOut, LightningClient, LightningClientConfig,
    LightningClientConfigBuilder, NamesMiner, Peer, PeerChanges, PeerChangesLagged, PeerError, PeerState,
    Phase, Reply, StreamingResponse, Timings,
};
pub use self::compat::types;
pub use self::error::{LightningError, Result};
#[cfg(feature = "subtensor")]
pub use self::metagraph::{
    FINNEY_ENDPOINT, Metagraph, MetagraphMonitorConfig, NeuronInfo, TESTNET_ENDPOINT, connect_subtensor,
    is_valid_ip,
};
pub use self::server::{
    AsyncSynapseHandler, HandshakeObserver, LearnedSources, LightningServer, LightningServerConfig,
    LightningServerConfigBuilder, SourceAddressResolver, SourceAllowlist, StreamingSynapseHandler,
    SynapseHandler, ValidatorPermitResolver, typed_async_handler, typed_handler,
};
#[cfg(feature = "btwallet")]
pub use self::signing::BtWalletSigner;
pub use self::signing::{CallbackSigner, Signer, Sr25519Signer};
pub use self::transport::io::IoThreads;

/// The README's examples are tests; one of them is of the chain.
#[cfg(all(doctest, feature = "subtensor"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
