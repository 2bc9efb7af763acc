//! The simulated network, as its users see it: by the datagram, and under quinn.

// Helpers outside of `#[test]` functions are tests too, and clippy cannot tell.
#![allow(clippy::unwrap_used)]

mod datagrams;
mod determinism;
mod faults;
mod hosts;
mod quic;
mod tls;
