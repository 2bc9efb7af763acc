//! What a server keeps of connections that have ended, and for how long: nothing of it is up to the peer.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use btlightning::LightningServerConfigBuilder;
use btlightning_testkit::by_hand::packet::{FIRST_DATAGRAM_BYTES, Long, LongKind, close_frame, initial_keys};
use btlightning_testkit::{Link, SimSocket};
use common::sim::{MINER_IP, VALIDATOR_IP, World};
use common::{Miner, Raw, client_config, config};
use quinn::ConnectionError;
use tokio::time::{Instant, sleep, timeout};

/// The most that a server keeps a connection after its end.
const FAREWELL: Duration = Duration::from_secs(1);

const MOMENT: Duration = Duration::from_millis(100);

fn open_door() -> LightningServerConfigBuilder {
    config().require_address_validation(false)
}

fn stranger(world: &World) -> Arc<SimSocket> {
    world.net().bind(SocketAddr::new(VALIDATOR_IP.parse().unwrap(), 0)).unwrap()
}

async fn connect(world: &World, miner: &Miner) -> Result<Raw, ConnectionError> {
    let socket = world.socket_at(VALIDATOR_IP, 0, client_config(b"btlightning", |_| {}));
    Raw::connect_from(socket, miner.addr).await
}

/// A first packet that closes the connection which it begins.
fn stillborn(number: u8) -> Vec<u8> {
    let destination = [number; 8];
    let packet = Long {
        kind: LongKind::Initial { token: &[] },
        destination: &destination,
        source: &[],
        number: 0,
        reserved: 0,
    };
    let keys = initial_keys(&destination).unwrap();
    packet.seal(&close_frame(), FIRST_DATAGRAM_BYTES, &keys.local).unwrap()
}

/// Stops a server without connections, and says how long that took until its socket was closed.
async fn stopped_after(world: &World, miner: &Miner) -> Duration {
    let began = Instant::now();
    miner.server.stop().await.unwrap();
    let addr = SocketAddr::new(MINER_IP.parse().unwrap(), miner.addr.port());
    timeout(Duration::from_secs(60), world.net().released(addr)).await.expect("the socket is still in use");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_its_first_packet_closes_is_forgotten_and_has_a_strangers_place_until_then() {
    let world = World::new();
    // Three quarters are for those who come for the first time. None is given to a newcomer from the same source.
    let miner = world.miner(open_door().max_unauthenticated_connections(16)).await;
    let stranger = stranger(&world);
    for number in 0..12 {
        stranger.send_to(&stillborn(number), miner.addr).unwrap();
    }
    sleep(MOMENT).await; // sleeps: virtual time, until they have arrived
    assert!(matches!(connect(&world, &miner).await, Err(ConnectionError::ConnectionClosed(_))));
    sleep(FAREWELL).await; // sleeps: virtual time
    connect(&world, &miner).await.unwrap().accepted("alice").await;
}

#[tokio::test(start_paused = true)]
async fn connections_that_their_first_packets_close_do_not_hold_up_a_stop() {
    let world = World::new();
    let miner = world.miner(open_door()).await;
    let stranger = stranger(&world);
    for number in 0..9 {
        stranger.send_to(&stillborn(number), miner.addr).unwrap();
    }
    sleep(MOMENT).await; // sleeps: virtual time, until they have arrived
    let took = stopped_after(&world, &miner).await;
    assert!(took <= FAREWELL, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_forgotten_however_far_its_peer_is() {
    let world = World::new();
    let delay = Duration::from_secs(1);
    world.net().set_default_link(Link { delay, ..Link::default() });
    let miner = world.miner(open_door()).await;
    for authenticates in [true, false] {
        let raw = connect(&world, &miner).await.unwrap();
        if authenticates {
            raw.accepted("alice").await;
        }
        raw.connection.close(0u8.into(), b"");
    }
    sleep(delay + MOMENT).await; // sleeps: virtual time, until they are closed on the other side
    let took = stopped_after(&world, &miner).await;
    assert!(took <= FAREWELL, "{took:?}");
}
