//! What a validator and a miner do together, told once, in the published API, for peers of either make. The test that
//! includes this says in its `peers` which package is which.

mod allowlist;
mod concurrency;
mod errors;
mod handlers;
mod handshake;
mod hotkeys;
mod large;
mod limits;
mod permits;
mod registry;
mod restart;
mod retry;
mod stage;
mod streaming;
mod timeouts;
mod values;
