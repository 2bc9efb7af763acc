//! What strangers have a server keep on the heap, as the allocator counts it. In a program of its own: whatever else runs
//! would be counted, too.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::print_stdout, reason = "the figures are worth a look")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use btlightning_testkit::by_hand::packet::{
    FIRST_DATAGRAM_BYTES, Long, LongKind, crypto_frame, initial_keys, retire_frame, stream_frame,
};
use common::by_hand::Stranger;
use common::sim::World;
use common::{Miner, config};
use peak_alloc::PeakAlloc;
use tokio::task::JoinSet;
use tokio::time::sleep;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const STRANGERS: u16 = 50;

/// What SECURITY.md promises.
const BYTES_MAX: usize = 64 * 1024;

const PING: u8 = 1;

const MOMENT: Duration = Duration::from_millis(300);

#[test]
fn a_stranger_holds_less_than_64_kib_whatever_it_sends() {
    let figures = [
        ("datagrams of which a byte is kept", measure(datagrams)),
        ("a bit of everything", measure(mixed)),
        ("a TLS handshake in pieces", measure(unfinished)),
    ];
    for (what, bytes) in figures {
        println!("{what}: {bytes} bytes for each stranger");
        assert!((8 * 1024..BYTES_MAX).contains(&bytes), "{what}: {bytes}");
    }
}

/// What each of [`STRANGERS`] has the server keep that does as `attack` does.
fn measure<F: Future<Output = ()> + Send + 'static>(attack: fn(World, SocketAddr, u16) -> F) -> usize {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        let strangers = config().require_address_validation(false).max_unauthenticated_connections_per_ip(64);
        let miner = world.miner(strangers).await;
        // What is set aside once and for all, for as many.
        all(&world, &miner, attack).await;
        while miner.server.holdings().strangers > 0 {
            sleep(MOMENT).await; // sleeps: virtual time, until their deadline
        }
        let before = HEAP.current_usage();
        all(&world, &miner, attack).await;
        assert_eq!(miner.server.holdings().strangers, usize::from(STRANGERS), "within the allowance");
        HEAP.current_usage().saturating_sub(before) / usize::from(STRANGERS)
    })
}

/// Has all of them attack, and forgets what is theirs.
async fn all<F: Future<Output = ()> + Send + 'static>(
    world: &World,
    miner: &Miner,
    attack: fn(World, SocketAddr, u16) -> F,
) {
    let mut attacks: JoinSet<()> = (0..STRANGERS).map(|n| attack(world.clone(), miner.addr, n)).collect();
    while let Some(ended) = attacks.join_next().await {
        ended.unwrap();
    }
    sleep(MOMENT).await; // sleeps: virtual time, until the server has it all
}

async fn datagrams(world: World, server: SocketAddr, _: u16) {
    let mut stranger = Stranger::connected(&world, "10.0.0.1", server).await;
    for n in 0..9 {
        let mut frames = stream_frame(n % 2 * 4, 2 + n * 2, &[3]);
        frames.resize(1200, 0);
        stranger.say(&frames);
    }
}

/// All at once, so that the server has the most events of one connection to deal with.
async fn mixed(world: World, server: SocketAddr, _: u16) {
    let mut stranger = Stranger::connected(&world, "10.0.0.1", server).await;
    stranger.say(&(1..5).flat_map(retire_frame).collect::<Vec<_>>());
    // Answers that it does not acknowledge.
    stranger.say(&[0x1a; 9].repeat(16));
    for n in 0..60 {
        let mut frames = match n {
            40.. => vec![PING; 4],
            n if n % 3 == 0 => crypto_frame(2 + n * 2, &[3]),
            n => stream_frame(n % 2 * 4, 2 + n * 2, &[3]),
        };
        if n < 8 {
            frames.resize(1200, 0);
        }
        stranger.say(&frames);
    }
}

async fn unfinished(world: World, server: SocketAddr, n: u16) {
    let socket = world.net().bind(SocketAddr::new("10.0.0.1".parse().unwrap(), 0)).unwrap();
    let destination = n.to_be_bytes().repeat(4);
    let keys = initial_keys(&destination).unwrap();
    for number in 0..11 {
        // Every second byte of a ClientHello.
        let pieces: Vec<_> = (0..4).flat_map(|n| crypto_frame(u64::from(number * 4 + n) * 2, &[1])).collect();
        let kind = LongKind::Initial { token: &[] };
        let packet = Long { kind, destination: &destination, source: &[], number, reserved: 0 };
        let datagram = packet.seal(&pieces, FIRST_DATAGRAM_BYTES, &keys.local).unwrap();
        socket.send_to(&datagram, server).unwrap();
    }
    sleep(MOMENT).await; // sleeps: virtual time, until they have arrived
}
