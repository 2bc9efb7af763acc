//! A whole subnet on one machine: an in-memory Subtensor, miners that announce themselves, validators that follow the
//! metagraph. Over the operating system's own sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::print_stdout, reason = "the README's example prints")]

mod allowlist;
mod following;
mod outages;
mod permits;
mod pins;
mod published;
mod readme;
mod signers;
mod starting;
mod world;
