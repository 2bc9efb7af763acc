//! What a stranger may send, packet by packet: little, and what is kept of it is less.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use btlightning::LightningServerConfigBuilder;
use btlightning_proto::identity::Keypair;
use btlightning_testkit::by_hand::Visitor;
use btlightning_testkit::by_hand::packet::{
    FIRST_DATAGRAM_BYTES, Long, LongKind, crypto_frame, initial_keys, retire_frame, stream_frame,
};
use btlightning_testkit::{Link, keys};
use common::by_hand::Stranger;
use common::sim::{VALIDATOR_IP, World};
use common::{Miner, Raw, client_config, config};
use quinn::ConnectionError;
use tokio::time::{sleep, timeout};

const MOMENT: Duration = Duration::from_millis(100);

const PING: u8 = 1;

/// A server with room for one stranger.
fn narrow() -> LightningServerConfigBuilder {
    config().require_address_validation(false).max_unauthenticated_connections(1)
}

async fn connect(world: &World, miner: &Miner) -> Result<Raw, ConnectionError> {
    let socket = world.socket_at(VALIDATOR_IP, 0, client_config(b"btlightning", |_| {}));
    Raw::connect_from(socket, miner.addr).await
}

/// Whether the one place for strangers is taken.
async fn is_full(world: &World, miner: &Miner) -> bool {
    sleep(MOMENT).await; // sleeps: virtual time, until what was sent has arrived
    match connect(world, miner).await {
        Err(ConnectionError::ConnectionClosed(_)) => true,
        Ok(raw) => {
            raw.accepted("alice").await;
            false
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_clienthello_that_does_not_end_is_not_waited_for() {
    let world = World::new();
    let miner = world.miner(narrow()).await;
    let socket = world.net().bind(SocketAddr::new(VALIDATOR_IP.parse().unwrap(), 0)).unwrap();
    let destination = [9; 8];
    let keys = initial_keys(&destination).unwrap();
    let mut hello = vec![0; 1 << 16];
    hello[..4].copy_from_slice(&[1, 0, 0xff, 0xff]);
    for (number, piece) in (0..).zip(hello.chunks(1100)) {
        if number == 14 {
            assert!(is_full(&world, &miner).await, "16 KiB are not used up yet");
        } else if number == 15 {
            assert!(!is_full(&world, &miner).await);
            return;
        }
        let kind = LongKind::Initial { token: &[] };
        let packet = Long { kind, destination: &destination, source: &[], number, reserved: 0 };
        let frames = crypto_frame(u64::from(number) * 1100, piece);
        let datagram = packet.seal(&frames, FIRST_DATAGRAM_BYTES, &keys.local).unwrap();
        socket.send_to(&datagram, miner.addr).unwrap();
        sleep(Duration::from_millis(1)).await; // sleeps: virtual time, so that they arrive in their order
    }
}

#[tokio::test(start_paused = true)]
async fn packets_that_hold_little_are_counted() {
    let world = World::new();
    let miner = world.miner(narrow()).await;
    let mut stranger = Stranger::connected(&world, VALIDATOR_IP, miner.addr).await;
    for _ in 0..60 {
        stranger.say(&[PING; 4]);
    }
    assert!(is_full(&world, &miner).await);
    for _ in 0..30 {
        stranger.say(&[PING; 4]);
    }
    stranger.closed().await;
    assert!(!is_full(&world, &miner).await);
}

#[tokio::test(start_paused = true)]
async fn packets_of_which_one_byte_is_kept_count_as_a_whole() {
    let world = World::new();
    let miner = world.miner(narrow()).await;
    let mut stranger = Stranger::connected(&world, VALIDATOR_IP, miner.addr).await;
    for number in 0..12 {
        if number == 8 {
            assert!(is_full(&world, &miner).await);
        }
        let mut frames = stream_frame(0, 2 + number * 2, &[3]);
        frames.resize(1200, 0);
        stranger.say(&frames);
    }
    stranger.closed().await;
    assert!(!is_full(&world, &miner).await);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_that_hold_nothing() {
    let world = World::new();
    let miner = world.miner(narrow()).await;
    let mut stranger = Stranger::connected(&world, VALIDATOR_IP, miner.addr).await;
    for number in 0..28 {
        if number == 20 {
            assert!(is_full(&world, &miner).await);
        }
        stranger.say(&[PING; 1200]);
        sleep(Duration::from_millis(1)).await; // sleeps: virtual time, so that they arrive one by one
    }
    stranger.closed().await;
    assert!(!is_full(&world, &miner).await);
}

#[tokio::test(start_paused = true)]
async fn connection_ids_that_are_given_up_are_counted() {
    let world = World::new();
    let miner = world.miner(narrow()).await;
    let mut stranger = Stranger::connected(&world, VALIDATOR_IP, miner.addr).await;
    // Of others than the one that packets arrive by.
    stranger.say(&(1..5).flat_map(retire_frame).collect::<Vec<_>>());
    assert!(is_full(&world, &miner).await);
    stranger.say(&retire_frame(5));
    stranger.closed().await;
    assert!(!is_full(&world, &miner).await);
}

#[tokio::test(start_paused = true)]
async fn pieces_of_a_stream_are_counted() {
    let world = World::new();
    let miner = world.miner(narrow()).await;
    let mut stranger = Stranger::connected(&world, VALIDATOR_IP, miner.addr).await;
    let pieces =
        |from: u64| (from..from + 40).flat_map(|n| stream_frame(0, 2 + n * 2, &[3])).collect::<Vec<_>>();
    stranger.say(&pieces(0));
    assert!(is_full(&world, &miner).await);
    stranger.say(&pieces(40));
    stranger.closed().await;
    assert!(!is_full(&world, &miner).await);
}

#[tokio::test(start_paused = true)]
async fn other_frames_about_addresses_are_counted() {
    let world = World::new();
    let miner = world.miner(narrow()).await;
    let mut stranger = Stranger::connected(&world, VALIDATOR_IP, miner.addr).await;
    let challenges = [0x1a; 9].repeat(120);
    for _ in 0..2 {
        stranger.say(&challenges);
    }
    assert!(is_full(&world, &miner).await);
    stranger.say(&challenges);
    stranger.closed().await;
    assert!(!is_full(&world, &miner).await);
}

#[tokio::test(start_paused = true)]
async fn who_loses_a_fifth_of_all_packets_comes_in_all_the_same() {
    let world = World::new();
    let delay = Duration::from_millis(100);
    world.net().set_default_link(Link { delay, loss: 0.2, ..Link::default() });
    let patience = Duration::from_secs(140);
    let config = config().handshake_timeout_secs(patience.as_secs()).max_handshake_attempts_per_minute(1000);
    let miner = world.miner(config).await;
    let alice = Keypair::from_seed(keys::seed("alice"));
    for _ in 0..40 {
        let comes_in = async {
            let config = client_config(b"btlightning", |transport| {
                transport.max_idle_timeout(Some(patience.try_into().unwrap()));
            });
            let socket = world.socket_at(VALIDATOR_IP, 0, config);
            Visitor::connect(socket, miner.addr).await.unwrap().authenticate(&alice).await.unwrap();
        };
        // Who waits twice as long after each loss may need most of it.
        timeout(patience, comes_in).await.unwrap();
    }
}
