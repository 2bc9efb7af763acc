//! The in-memory Subtensor, seen from outside: by subxt with both of its backends, and by a client that knows nothing
//! but JSON-RPC.

mod chain_head;
mod clients;
mod failures;
mod json_rpc;
mod metadata;
mod publishing;
mod reading;
mod refusals;
mod vectors;
