//! A peer is a child process: it is told what to do, bounded in time, and does not outlive the driver's interest.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use bench_driver::{
    peer::{Launch, Peer, PeerError},
    protocol::{Connected, Latency, Order, Role},
};
use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

const LATENCY: Order<'_> = Order::Latency { bytes: 256, count: 5 };

fn launch() -> Launch {
    Launch { program: env!("CARGO_BIN_EXE_echo-peer").into(), args: vec![] }
}

fn start(system: &str) -> Peer {
    let mut peer = Peer::start(&launch(), system, Role::Both).unwrap();
    peer.ready().unwrap();
    peer
}

fn lost(outcome: Result<Latency, PeerError>) -> String {
    match outcome {
        Err(PeerError::Lost(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn orders_are_answered() {
    let mut server = Peer::start(&launch(), "tcp", Role::Server { servers: 3 }).unwrap();
    let mut client = Peer::start(&launch(), "tcp", Role::Client).unwrap();
    let servers = server.ready().unwrap().servers;
    client.ready().unwrap();
    assert_eq!(servers.len(), 3);
    let connected: Connected = client.ask(&Order::Connect { servers: Some(&servers) }, PATIENCE).unwrap();
    assert_eq!(connected.connected, 3);
    let latency: Latency = client.ask(&LATENCY, PATIENCE).unwrap();
    assert!(latency.latency_us.len() == 5 && latency.latency_us.iter().all(|time| *time > 0.0));
    #[cfg(target_os = "linux")]
    assert!(server.usage().unwrap().rss_bytes > 100_000);
}

#[test]
fn a_system_that_cannot_run_here_says_why() {
    let mut peer = Peer::start(&launch(), "tcp-unavailable", Role::Client).unwrap();
    assert_eq!(peer.ready().unwrap_err(), PeerError::Unavailable("not on this machine".into()));
}

#[test]
fn an_order_that_fails_is_not_the_end_of_the_peer() {
    let mut peer = start("tcp-failing");
    let failed = peer.ask::<Latency>(&LATENCY, PATIENCE).unwrap_err();
    assert_eq!(failed, PeerError::Failed("no such echo".into()));
    peer.usage().unwrap();
}

#[test]
fn a_peer_that_ends_is_lost_with_its_last_words() {
    let why = lost(start("tcp-crashing").ask(&LATENCY, PATIENCE));
    assert!(why.contains("exit status: 3") && why.contains("out of luck"), "{why}");
}

#[test]
fn a_peer_that_says_nothing_is_lost_after_its_time() {
    let started = Instant::now();
    let why = lost(start("tcp-silent").ask(&LATENCY, Duration::from_millis(50)));
    assert!(why.contains("did not answer within 0.05 s"), "{why}");
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn a_peer_that_speaks_something_else_is_lost() {
    let why = lost(start("tcp-babbling").ask(&LATENCY, PATIENCE));
    assert!(why.contains("latency is fine"), "{why}");
}

#[test]
fn a_program_that_is_not_there_is_said_to_be() {
    let launch = Launch { program: "/no/such/peer".into(), args: vec![] };
    let error = Peer::start(&launch, "tcp", Role::Client).unwrap_err();
    assert!(matches!(&error, PeerError::Lost(why) if why.contains("/no/such/peer")), "{error}");
}

#[test]
fn a_peer_that_is_dropped_is_gone() {
    let mut server = Peer::start(&launch(), "tcp", Role::Server { servers: 1 }).unwrap();
    let addr = server.ready().unwrap().servers[0].addr;
    assert!(TcpStream::connect(addr).is_ok());
    drop(server);
    assert!(TcpStream::connect(addr).is_err());
}
