//! The btlightning protocol without I/O: what the bytes mean, who is who, when to dial again, and who may knock.
//!
//! Nothing in this crate opens a socket, reads a clock, waits or takes a lock. Time and randomness are arguments, so
//! every decision can be tested by calling a function. The published crate `btlightning` puts quinn and tokio under it.
//!
//! Direction of knowledge: [`error`] <- [`wire`] <- [`identity`] <- [`peers`]; [`identity`] <- [`sources`].

pub mod error;
pub mod identity;
pub mod peers;
pub mod sources;
pub mod wire;
