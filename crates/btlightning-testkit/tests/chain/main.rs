//! The in-memory Subtensor, seen from outside: by subxt with both of its backends, and by a client that knows nothing
//! but JSON-RPC.

// Helpers outside of `#[test]` functions are tests too, and clippy cannot tell.
#![allow(clippy::unwrap_used)]

mod chain_head;
mod clients;
mod failures;
mod json_rpc;
mod metadata;
mod publishing;
mod reading;
mod refusals;
mod vectors;
