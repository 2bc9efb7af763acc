//! Random schedules over the simulated network: connects, queries, cancels, restarts, rebindings, changed permits and
//! pins, strangers that mean harm. Nobody waits for ever, nothing leaks, and no query is answered by the wrong peer.
//!
//! A schedule is drawn from its seed ([`plan`]), carried out in virtual time ([`run`]), and ends with everything healed
//! and everybody gone ([`ending`]); whatever must not be is written down by the [`oracle`]. `cargo xtask schedules` runs
//! thousands. One, or some, again:
//!
//! ```text
//! BTLIGHTNING_SCHEDULES=17 cargo test -p btlightning --test schedules
//! BTLIGHTNING_SCHEDULES=0..500 cargo test -p btlightning --test schedules
//! ```
//!
//! # What a seed determines
//!
//! The schedule, to the last action and its millisecond, and the fate of the n-th datagram from one host to another. Not
//! which datagrams there are: the product draws the jitter of its pauses, nonces, connection ids and TLS keys from the
//! operating system, tokio draws which branch of a `select!` is looked at first, and blocking handlers have threads of
//! their own. `BTLIGHTNING_SCHEDULES_DIGESTS=1` prints a digest of all that happened in each: of 60 seeds that were run
//! three times, 9 ran the same to the millisecond. What a seed has found it mostly finds again: of the first 11 that
//! failed, 10 failed each of three times more. So run a seed some times before it counts as mended.
//! `BTLIGHTNING_SCHEDULES_ALOUD=1` prints what happens while it does.
//!
//! # What it does not see
//!
//! All of it runs on one thread, so that virtual time stands still while there is work: the I/O threads, the short way
//! of quick requests and races between processors are for `server_handlers`, `io_threads` and `loopback`. A blocking
//! handler that hangs would stop virtual time for good; here they return at once.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by the one and reports by the other"
)]

#[path = "../common/mod.rs"]
mod common;
mod ending;
mod hostile;
mod miner;
mod network;
mod oracle;
mod plan;
mod query;
mod run;
mod runner;
mod validator;

use btlightning::Hotkey;
use btlightning_proto::identity::Keypair;
use btlightning_testkit::keys;

pub(crate) fn hotkey(name: &str) -> Hotkey {
    Keypair::from_seed(keys::seed(name)).hotkey()
}

/// One test for each processor that is likely to be there.
#[test]
fn schedules_keep_what_is_promised_1_of_4() {
    runner::part(0, 4);
}

#[test]
fn schedules_keep_what_is_promised_2_of_4() {
    runner::part(1, 4);
}

#[test]
fn schedules_keep_what_is_promised_3_of_4() {
    runner::part(2, 4);
}

#[test]
fn schedules_keep_what_is_promised_4_of_4() {
    runner::part(3, 4);
}

#[test]
fn a_seed_is_one_schedule() {
    for seed in 0..50 {
        let drawn = |seed| format!("{:?}", plan::Schedule::draw(seed));
        assert_eq!(drawn(seed), drawn(seed));
        assert_ne!(drawn(seed), drawn(seed + 1));
    }
}
