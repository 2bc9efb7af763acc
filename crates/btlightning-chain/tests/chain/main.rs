//! The chain's side against an in-memory Subtensor, over real sockets: what is read, from whom, and what happens when
//! nodes fail.

#![allow(clippy::unwrap_used)]

mod failing;
mod hostile_metadata;
mod other_runtimes;
mod publishing;
mod reading;
mod size;
mod subnet;
mod watching;
