//! Who comes, is displaced, evicted and leaves, all at once and on several threads: nothing is left of anybody.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use btlightning::IoThreads;
use common::{Miner, Raw, config, socket_at};
use quinn::VarInt;

const MEMBERS_MAX: usize = 5;
const STRANGERS_MAX: usize = 8;
const VISITORS: usize = 16;
const ROUNDS: usize = 10;

/// What happened, so that a run in which nothing does is seen.
#[derive(Default)]
struct Seen {
    joined: AtomicUsize,
    refused: AtomicUsize,
    /// Evicted or displaced while they came.
    lost: AtomicUsize,
}

/// One of a few validators, from one of a few addresses: it comes in, or does not, and leaves in the middle of something.
async fn visit(miner: SocketAddr, visitor: usize, round: usize, seen: &Seen) {
    // All but a few from one address, so that the others evict its oldest.
    let host = if visitor.is_multiple_of(4) { 2 + visitor as u8 } else { 1 };
    let endpoint = socket_at(([127, 0, 0, host], 0).into());
    let Ok(raw) = Raw::connect_from(endpoint, miner).await else {
        seen.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (request, _) = raw.opening(["alice", "bob", "carol"][(visitor + round) % 3], |_| {});
    let handshake = btlightning_testkit::by_hand::Visitor::handshake(&raw, &request);
    match (visitor + 2 * round) % 5 {
        0 => {
            // Leaves while it is being looked at.
            let _ =
                tokio::time::timeout(std::time::Duration::from_micros(300 * round as u64), handshake).await;
        }
        1 => {}
        kind => match handshake.await {
            Ok(response) if response.accepted => {
                seen.joined.fetch_add(1, Ordering::Relaxed);
                if kind == 2 {
                    // Until a newer one of its hotkey, or another, takes its place; or a while.
                    let gone = raw.connection.closed();
                    let _ = tokio::time::timeout(std::time::Duration::from_millis(20), gone).await;
                }
            }
            Ok(_) => _ = seen.refused.fetch_add(1, Ordering::Relaxed),
            Err(_) => _ = seen.lost.fetch_add(1, Ordering::Relaxed),
        },
    }
    raw.connection.close(VarInt::from_u32(0), b"");
    raw.endpoint.wait_idle().await;
}

async fn nothing_is_left(io_threads: IoThreads) {
    let config = config()
        .io_threads(io_threads)
        .max_connections(MEMBERS_MAX)
        .max_connections_per_hotkey(2)
        .max_unauthenticated_connections(STRANGERS_MAX)
        .max_unauthenticated_connections_per_ip(STRANGERS_MAX)
        .max_handshake_attempts_per_minute(100_000);
    let miner = Miner::with(config, |_| {}).await;
    let seen = Arc::new(Seen::default());
    let visitors = (0..VISITORS).map(|visitor| {
        let (addr, seen) = (miner.addr, seen.clone());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                visit(addr, visitor, round, &seen).await;
            }
        })
    });
    for visitor in visitors.collect::<Vec<_>>() {
        common::within("a visitor", visitor).await.unwrap();
    }
    miner.members_are(0).await;
    let [joined, refused, lost] =
        [&seen.joined, &seen.refused, &seen.lost].map(|count| count.load(Ordering::Relaxed));
    assert!(joined > MEMBERS_MAX && refused + lost > 0, "{joined} joined, {refused} refused, {lost} lost");

    // All places of members are there, and none is anybody's any more.
    let mut members = Vec::new();
    for n in 0..MEMBERS_MAX {
        members.push(Raw::authenticated(&miner, &format!("late {n}")).await);
    }
    let stats = miner.server.get_connection_stats().await.unwrap();
    assert_eq!(stats["total_connections"], MEMBERS_MAX.to_string());
    assert!(members.iter().all(|member| member.is_open()));
    // So are those of strangers, but for the quarter that is kept for those who come back.
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS_MAX - STRANGERS_MAX / 4 {
        strangers.push(Raw::connect(&miner).await);
    }
    // An answer shows that the server still has the connection.
    for stranger in &strangers {
        assert_eq!(stranger.failure("x", &common::data([])).await, "authentication failed");
    }
    drop((members, strangers));
    miner.members_are(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_of_those_who_come_and_go_at_once() {
    nothing_is_left(IoThreads::Current).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_on_several_io_threads() {
    nothing_is_left(IoThreads::Own(3)).await;
}
