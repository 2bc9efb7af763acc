//! Who gets a place at a server when strangers, or hotkeys that anybody can make up, want them all.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use btlightning::Result;
use btlightning::server::{LightningServerConfigBuilder, ValidatorPermitResolver};
use common::sim::World;
use common::{Miner, Raw, client_config, config, data, eventually, hotkey};
use quinn::{ConnectionError, Endpoint, TransportConfig};
use tokio::task::JoinSet;

const MINUTE: Duration = Duration::from_secs(60);

/// A connection per hotkey is kept up for free.
fn pings(transport: &mut TransportConfig) {
    transport.keep_alive_interval(Some(Duration::from_secs(20)));
}

struct Host {
    world: World,
    ip: &'static str,
    ports: u16,
}

impl Host {
    fn new(world: &World, ip: &'static str) -> Self {
        Self { world: world.clone(), ip, ports: 9000 }
    }

    fn socket(&mut self) -> Endpoint {
        self.ports += 1;
        self.world.socket_at(self.ip, self.ports, client_config(b"btlightning", pings))
    }

    async fn connect(&mut self, miner: &Miner) -> Raw {
        Raw::connect_from(self.socket(), miner.addr).await.unwrap()
    }

    /// A connection, if there is a place for it.
    async fn knock(&mut self, miner: &Miner) -> Option<Raw> {
        match Raw::connect_from(self.socket(), miner.addr).await {
            Ok(raw) => Some(raw),
            Err(ConnectionError::ConnectionClosed(close)) => {
                assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
                None
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn is_refused(&mut self, miner: &Miner) -> bool {
        self.knock(miner).await.is_none()
    }

    async fn authenticated(&mut self, miner: &Miner, name: &str) -> Raw {
        let raw = self.connect(miner).await;
        raw.accepted(name).await;
        raw
    }

    /// As many throw-away hotkeys as are let in until one is not, at the pace that the handshake limiter leaves.
    async fn flood(&mut self, miner: &Miner) -> Vec<Raw> {
        let mut held = Vec::new();
        loop {
            let raw = self.connect(miner).await;
            let (request, _) = raw.opening(&format!("{}-{}", self.ip, self.ports), |_| {});
            if !raw.handshake(&request).await.accepted {
                // sleeps: in virtual time, until there may be more handshakes
                tokio::time::sleep(MINUTE).await;
                let again = self.connect(miner).await;
                let (request, _) = again.opening(&format!("{}-{}", self.ip, self.ports), |_| {});
                match again.handshake(&request).await.accepted {
                    true => held.push(again),
                    false => return held,
                }
                continue;
            }
            held.push(raw);
        }
    }
}

fn open(raws: &[Raw]) -> usize {
    raws.iter().filter(|raw| raw.is_open()).count()
}

struct Permits(&'static [&'static str]);

impl ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        Ok(self.0.iter().map(|name| hotkey(name).to_string()).collect())
    }
}

/// A server with no settings but the resolver.
async fn naming(
    world: &World,
    config: LightningServerConfigBuilder,
    names: &'static [&'static str],
) -> Miner {
    let mut server = world.started(config).await;
    server.set_validator_permit_resolver(Box::new(Permits(names)));
    let miner = Miner::serve(server);
    let count = async || (miner.server.get_permitted_validator_count().await == names.len()).then_some(());
    eventually("the permits", count).await;
    miner
}

#[tokio::test(start_paused = true)]
async fn one_address_of_throw_away_hotkeys_leaves_most_places_to_others() {
    let world = World::new();
    let miner = naming(&world, config(), &["alice"]).await;
    let mut flooding = Host::new(&world, "10.0.1.1");
    let flood = flooding.flood(&miner).await;
    assert_eq!((flood.len(), open(&flood)), (32, 32));
    let alice = flooding.authenticated(&miner, "alice").await;
    let bob = Host::new(&world, "10.0.2.2").authenticated(&miner, "bob").await;
    assert_eq!(miner.members().await, 34);
    assert!(alice.is_open() && bob.is_open());
}

#[tokio::test(start_paused = true)]
async fn throw_away_hotkeys_of_many_addresses_make_way_for_permits_and_for_who_was_here() {
    let world = World::new();
    let miner = naming(&world, config(), &["alice"]).await;
    let mut bobs = Host::new(&world, "10.0.9.9");
    let bob = bobs.authenticated(&miner, "bob").await;
    // sleeps: in virtual time, until bob was here for long
    tokio::time::sleep(10 * MINUTE).await;
    assert!(bob.is_open());
    bob.connection.close(0_u32.into(), b"");
    miner.members_are(0).await;

    let mut flood = Vec::new();
    for ip in ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4"] {
        flood.extend(Host::new(&world, ip).flood(&miner).await);
    }
    assert_eq!((flood.len(), open(&flood), miner.members().await), (128, 128, 128));
    // Alice has a permit, bob was here, and carol is nobody, but from an address that has no place yet.
    let mut held = vec![Host::new(&world, "10.0.3.3").authenticated(&miner, "alice").await];
    held.push(bobs.authenticated(&miner, "bob").await);
    held.push(Host::new(&world, "10.0.4.4").authenticated(&miner, "carol").await);
    assert_eq!((open(&held), open(&flood), miner.members().await), (3, 125, 128));
    for raw in flood.iter().filter(|raw| !raw.is_open()) {
        assert_eq!(raw.closed_for().await, "displaced");
    }
    // The flood takes none of these back, whatever it tries.
    for ip in ["10.0.1.1", "10.0.1.4"] {
        Host { ports: 20_000, ..Host::new(&world, ip) }.flood(&miner).await;
    }
    assert_eq!((open(&held), miner.members().await), (3, 128));
    for raw in &held {
        assert_eq!(raw.failure("echo", &data([])).await, "unrecognized synapse type");
    }
}

#[tokio::test(start_paused = true)]
async fn the_places_of_an_address_are_the_users_to_set() {
    let world = World::new();
    let miner = naming(&world, config().max_connections_per_ip(Some(2)), &[]).await;
    assert_eq!(Host::new(&world, "10.0.1.1").flood(&miner).await.len(), 2);
    assert_eq!(Host::new(&world, "10.0.1.2").flood(&miner).await.len(), 2);
}

fn strangers(in_all: usize, per_ip: usize) -> LightningServerConfigBuilder {
    config().max_unauthenticated_connections(in_all).max_unauthenticated_connections_per_ip(per_ip)
}

#[tokio::test(start_paused = true)]
async fn strangers_are_counted_by_address() {
    let world = World::new();
    let miner = world.miner(strangers(256, 2)).await;
    let (mut here, mut elsewhere) = (Host::new(&world, "10.0.1.1"), Host::new(&world, "10.0.1.2"));
    let mut held = vec![here.connect(&miner).await, here.connect(&miner).await];
    held.extend(here.knock(&miner).await);
    assert_eq!(open(&held), 2, "it has found no place, or taken that of the first");
    elsewhere.connect(&miner).await;
    let last = held.len() - 1;
    held[last].accepted("alice").await;
    for _ in 0..2 {
        held.extend(here.knock(&miner).await);
    }
    assert_eq!(open(&held), 3, "two strangers, and alice");
}

#[tokio::test(start_paused = true)]
async fn who_idles_at_an_address_does_not_keep_a_validator_there_out() {
    let world = World::new();
    let miner = world.miner(strangers(256, 2)).await;
    let mut here = Host::new(&world, "10.0.1.1");
    let mut idle = vec![here.connect(&miner).await, here.connect(&miner).await];
    // sleeps: in virtual time, until the idle ones have had theirs
    tokio::time::sleep(Duration::from_secs(2)).await;
    let alice = here.authenticated(&miner, "alice").await;
    idle.remove(0).connection.closed().await;
    assert!(alice.is_open() && idle[0].is_open());
}

#[tokio::test(start_paused = true)]
async fn garbage_from_an_address_takes_no_places_from_a_validator_there() {
    let world = World::new();
    let miner = naming(&world, config(), &["alice"]).await;
    let mut here = Host::new(&world, "10.0.1.1");
    let mut flood = JoinSet::new();
    for n in 0..300 {
        let (socket, addr) = (here.socket(), miner.addr);
        flood.spawn(async move {
            let raw = Raw::connect_from(socket, addr).await.ok()?;
            let (mut request, _) = raw.opening("alice", |_| {});
            request.signature = request.signature.chars().rev().collect();
            assert!(!(*raw).handshake(&request).await.ok()?.accepted);
            // It stays as long as it may.
            Some(raw.connection.closed().await)
        });
        // sleeps: in virtual time, fifty connections a second
        tokio::time::sleep(Duration::from_millis(20)).await;
        if n >= 100 && n % 20 == 0 {
            drop(here.authenticated(&miner, "alice").await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_from_one_address_does_not_keep_others_out() {
    let world = World::new();
    let miner = naming(&world, strangers(8, 8), &["alice"]).await;
    let (mut here, mut elsewhere) = (Host::new(&world, "10.0.1.1"), Host::new(&world, "10.0.1.2"));
    let mut crowd = Vec::new();
    for _ in 0..6 {
        crowd.push(here.connect(&miner).await);
    }
    assert!(here.is_refused(&miner).await, "the rest is for those who come back");
    let alice = elsewhere.connect(&miner).await;
    // The oldest has made room. It is forgotten at once, so that its answer to the close is answered by a reset.
    crowd.remove(0).connection.closed().await;
    alice.accepted("alice").await;
    assert!(crowd.iter().all(Raw::is_open));
    // Whoever has authenticated from an address comes back to a place that is kept for it.
    crowd.push(here.connect(&miner).await);
    assert!(here.is_refused(&miner).await);
    elsewhere.authenticated(&miner, "alice").await;
    assert!(crowd.iter().all(Raw::is_open));
}

/// From as many addresses as there are places.
#[tokio::test(start_paused = true)]
async fn throw_away_hotkeys_do_not_take_the_places_of_those_who_come_back() {
    let world = World::new();
    let miner = naming(&world, strangers(4, 4), &["alice"]).await;
    let mut alices = Host::new(&world, "10.0.2.1");
    drop(alices.authenticated(&miner, "alice").await);
    let mut flooding = ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4"].map(|ip| Host::new(&world, ip));
    for host in &mut flooding {
        drop(host.authenticated(&miner, host.ip).await);
    }
    let mut held = Vec::new();
    for host in &mut flooding {
        held.extend(Raw::connect_from(host.socket(), miner.addr).await.ok());
    }
    assert_eq!(held.len(), 3, "nobody comes back who has made up a hotkey");
    alices.authenticated(&miner, "alice").await;
}

/// Three hosts of which the first two are in one /64, and a miner.
async fn at_ipv6(config: LightningServerConfigBuilder) -> ([Host; 3], Miner) {
    let world = World::new();
    let miner = Miner::serve(world.started_at("2001:db8::2", config).await);
    assert!(miner.addr.is_ipv6());
    let hosts = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:3::1"];
    (hosts.map(|ip| Host::new(&world, ip)), miner)
}

#[tokio::test(start_paused = true)]
async fn a_64_of_ipv6_is_one_address_to_strangers() {
    let ([mut here, mut next_door, mut elsewhere], miner) = at_ipv6(strangers(256, 2)).await;
    let mut held = vec![here.connect(&miner).await, next_door.connect(&miner).await];
    held.extend(next_door.knock(&miner).await);
    assert_eq!(open(&held), 2, "it has found no place, or taken that of the first");
    held.push(elsewhere.connect(&miner).await);
    held.push(elsewhere.connect(&miner).await);
    assert_eq!(open(&held), 4);
}

#[tokio::test(start_paused = true)]
async fn a_64_of_ipv6_is_one_address_to_members() {
    let ([mut here, mut next_door, mut elsewhere], miner) =
        at_ipv6(config().max_connections_per_ip(Some(2))).await;
    let _held = [here.authenticated(&miner, "alice").await, next_door.authenticated(&miner, "bob").await];
    next_door.connect(&miner).await.refused("carol").await;
    elsewhere.authenticated(&miner, "carol").await;
}

#[tokio::test(start_paused = true)]
async fn a_64_of_ipv6_is_one_address_to_the_limiter_of_handshakes() {
    let ([mut here, mut next_door, mut elsewhere], miner) =
        at_ipv6(config().max_handshake_attempts_per_minute(2)).await;
    let _held = [here.authenticated(&miner, "alice").await, next_door.authenticated(&miner, "bob").await];
    here.connect(&miner).await.refused("carol").await;
    next_door.connect(&miner).await.refused("carol").await;
    elsewhere.authenticated(&miner, "carol").await;
}
