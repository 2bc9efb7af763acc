//! The client against a real server, over a simulated network in virtual time: an hour of backoff takes no time, and
//! nothing is waited for by sleeping and hoping.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod by_hand;
mod calls;
mod hostile_answers;
mod hostile_calls;
mod hostile_dials;
mod hostile_floods;
mod hostile_links;
mod pins;
mod reconnect;
mod registry;
mod states;
mod streams;
mod world;
