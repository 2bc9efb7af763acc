//! An in-memory Subtensor: the chain to test on.
//!
//! [`Chain`] is a WebSocket server on loopback that speaks JSON-RPC as a Substrate node does, serves the metadata of the
//! main network's runtime (spec 365) and answers from a [`State`] of subnets and neurons, which lies under real storage
//! keys. It knows nothing of subxt: it is a check on those who use it.
//!
//! What is real: the metadata, in versions 14, 15 and 16; storage keys and values; the answers of runtime calls; header
//! hashes; extrinsics, which are read by the metadata and whose signature, nonce, era, genesis and versions are checked;
//! the rules for publishing an axon, with the codes and errors that the chain has for those who break them. What is not:
//! consensus, the trie (state roots are made up and there are no proofs), epochs (permits and scores change when a test
//! changes them), balances, and every call but `serve_axon` and `serve_axon_tls`.

mod block;
mod events;
mod extrinsic;
mod failure;
mod handle;
mod ledger;
mod metadata;
mod node;
mod requests;
mod rpc;
mod runtime;
mod shared;
mod ss58;
mod state;
mod storage;
mod world;

pub use block::Hash;
pub use extrinsic::Call;
pub use failure::{Failure, Garbage};
pub use handle::{Chain, ChainBuilder, ChainError};
pub use metadata::{Hostility, METADATA_VARIABLE, MetadataError};
pub use node::Node;
pub use requests::Requests;
pub use rpc::RpcMethods;
pub use runtime::RuntimeOptions;
pub use ss58::{AccountId, ss58};
pub use state::{
    AXON_PROTOCOL, Account, Axon, Certificate, Hyperparameters, Neuron, Pool, Prometheus, State, Subnet,
};
pub use world::{Outcome, Submission};
