//! What one peer, or one handler that hangs, cannot take from the others; and what it may take.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use btlightning::server::{Handler, HandshakeObserver, Response, ValidatorPermitResolver};
use btlightning::{Result, Sr25519Signer};
use common::sim::World;
use common::{
    Door, Gate, Miner, Raw, client_config, config, data, eventually, hotkey, read, request, within,
};
use quinn::ConnectionError;
use rmpv::Value;

#[tokio::test]
async fn many_large_requests_are_served_at_once_and_a_small_one_beside_them() {
    let miner = Miner::with(config().max_frame_payload_bytes(1 << 20), |_| {}).await;
    let gate = Gate::new();
    let held = gate.clone();
    miner.server.register(
        "hold",
        Handler::unary(move |call| {
            let held = held.clone();
            async move {
                held.pass().await;
                // The request is kept to the end.
                Response::from_map(&data([("bytes", call.payload().len().into())]))
            }
        }),
    );
    miner.server.register("echo", Handler::unary(|call| async move { Response::from_map(&call.to_map()?) }));
    let raw = Raw::authenticated(&miner, "alice").await;
    let large = request("hold", &data([("b", Value::Binary(vec![7; 900_000]))]));
    let mut receiving = Vec::new();
    for _ in 0..40 {
        receiving.push(raw.send(&large).await.1);
    }
    gate.begun_are(40).await;
    let small = data([("b", Value::Binary(vec![7; 60_000]))]);
    assert_eq!(raw.answer("echo", &small).await, small);
    gate.open();
    for mut receive in receiving {
        assert_eq!(read(&mut receive).await.data(), data([("bytes", 900_008.into())]));
    }
}

#[tokio::test]
async fn the_windows_are_a_strangers_and_then_a_validators() {
    let miner = Miner::start().await;
    let megabyte = vec![0; 1 << 20];
    let stranger = Raw::connect(&miner).await;
    let (mut send, _receive) = stranger.connection.open_bi().await.unwrap();
    // What a write takes at once is what the windows leave.
    assert_eq!(send.write(&megabyte).await.unwrap(), 8 * 1024);
    let raw = Raw::authenticated(&miner, "alice").await;
    eventually("the window", async || (raw.connection.stats().frame_rx.max_data > 0).then_some(())).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(raw.connection.open_bi().await.unwrap());
    }
    // Nothing is read in between: this runs on one thread and does not wait.
    for (send, _) in &mut streams {
        assert_eq!(send.write(&megabyte).await.unwrap(), 1 << 20);
    }
}

/// A resolver that names as many validators as it was asked times.
struct Counting(Arc<AtomicUsize>);

impl ValidatorPermitResolver for Counting {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        let times = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Ok((0..times).map(|n| hotkey(&n.to_string()).to_string()).collect())
    }
}

#[tokio::test]
async fn handlers_that_hang_leave_threads_for_the_resolvers() {
    let asked = Arc::new(AtomicUsize::new(0));
    let resolver = Box::new(Counting(asked.clone()));
    let miner = Miner::with(config().validator_permit_refresh_secs(1), |server| {
        server.set_validator_permit_resolver(resolver);
    })
    .await;
    let door = Door::default();
    miner.server.register("hang", door.handler());
    let hang = request("hang", &data([]));
    let (mut raws, mut receiving) = (Vec::new(), Vec::new());
    for name in ["alice", "bob", "carol", "dave", "erin"] {
        let raw = Raw::authenticated(&miner, name).await;
        for _ in 0..104 {
            receiving.push(raw.send(&hang).await.1);
        }
        raws.push(raw);
    }
    // The first began on the I/O thread, which went on without it.
    door.begun_are(449).await;
    let before = asked.load(Ordering::SeqCst);
    eventually("another refresh", async || (asked.load(Ordering::SeqCst) > before).then_some(())).await;
    assert_eq!(door.begun(), 449);
    drop(door);
    for mut receive in receiving {
        assert_eq!(read(&mut receive).await.data(), data([]));
    }
}

#[tokio::test]
async fn a_validator_whose_handlers_hang_leaves_threads_for_others() {
    let miner = Miner::start().await;
    let door = Door::default();
    miner.server.register("hang", door.handler());
    let hang = request("hang", &data([]));
    let (mut connections, mut held) = (Vec::new(), Vec::new());
    for n in 0..4 {
        let raw = Raw::authenticated(&miner, "alice").await;
        for _ in 0..100 {
            held.push(raw.send(&hang).await);
        }
        // The first began on the I/O thread, which went on without it.
        door.begun_are((100 * (n + 1)).min(337)).await;
        connections.push(raw);
    }
    let bob = Raw::authenticated(&miner, "bob").await;
    let asked = bob.send(&hang).await;
    door.begun_are(338).await;
    assert_eq!(door.begun(), 338, "the others of alice wait");
    drop((door, asked));
}

#[tokio::test]
async fn handshakes_do_not_wait_for_the_blocking_pool() {
    let miner = Miner::with(config(), |server| {
        // Asked on a thread apart, since it may take its time.
        let signer = Sr25519Signer::from_seed(btlightning_testkit::keys::seed("miner"));
        let sign = move |text: &[u8]| btlightning::Signer::sign(&signer, text);
        server.set_miner_signer(Box::new(btlightning::CallbackSigner::new(sign)));
    })
    .await;
    // As many as the pool of a runtime has threads.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begun, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(held)));
    for _ in 0..512 {
        let (begun, held) = (begun.clone(), held.clone());
        tokio::task::spawn_blocking(move || {
            begun.fetch_add(1, Ordering::SeqCst);
            let _ = held.lock().map(|held| held.recv());
        });
    }
    eventually("the threads", async || (begun.load(Ordering::SeqCst) == 512).then_some(())).await;
    let late = tokio::task::spawn_blocking(|| ());
    Raw::authenticated(&miner, "alice").await;
    assert!(!late.is_finished(), "the pool is full");
    drop(release);
}

#[tokio::test]
async fn an_observer_that_hangs_is_not_called_without_end() {
    struct Hangs(Gate);
    #[async_trait]
    impl HandshakeObserver for Hangs {
        async fn observe_successful_handshake(&self, _: &str, _: IpAddr) {
            self.0.pass().await;
        }
    }
    let gate = Gate::new();
    let observer = Arc::new(Hangs(gate.clone()));
    let miner = Miner::with(config().max_handshake_attempts_per_minute(100), |server| {
        server.set_handshake_observer(observer);
    })
    .await;
    let raw = Raw::connect(&miner).await;
    for _ in 0..66 {
        raw.accepted("alice").await;
    }
    gate.begun_are(64).await;
    gate.open();
    eventually("the observer", async || {
        raw.accepted("alice").await;
        (gate.begun() > 64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_server_does_not_ask_its_signer() {
    let signed = Arc::new(AtomicUsize::new(0));
    let count = signed.clone();
    let miner = Miner::with(config().max_connections(1), |server| {
        let signer = Sr25519Signer::from_seed(btlightning_testkit::keys::seed("miner"));
        server.set_miner_signer(Box::new(btlightning::CallbackSigner::new(move |text: &[u8]| {
            count.fetch_add(1, Ordering::SeqCst);
            btlightning::Signer::sign(&signer, text)
        })));
    })
    .await;
    let _alice = Raw::authenticated(&miner, "alice").await;
    Raw::connect(&miner).await.refused("bob").await;
    assert_eq!(signed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_nobody_decides_on_are_kept_up_to_a_bound() {
    let world = World::new();
    let config = config().max_unauthenticated_connections(1).require_address_validation(false);
    let server = world.started(config).await;
    let addr = server.local_addr().unwrap();
    let endpoint = world.socket(client_config(b"btlightning", |_| {}));
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..5 {
        attempts.spawn(endpoint.connect(addr, "127.0.0.1").unwrap());
    }
    // sleeps: in virtual time, until all have knocked once and none twice
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _miner = Miner::serve(server);
    // sleeps: in virtual time, until those that were kept have their answers
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut decided = Vec::new();
    while let Some(attempt) = attempts.try_join_next() {
        decided.push(attempt.unwrap());
    }
    let is_refused = |attempt: &&std::result::Result<_, ConnectionError>| attempt.is_err();
    assert_eq!((decided.len(), decided.iter().filter(is_refused).count()), (4, 3));
    // The fifth was not heard; it knocks again, and gets its answer too.
    let fifth = within("the fifth", attempts.join_next()).await.unwrap().unwrap();
    assert!(matches!(fifth, Err(ConnectionError::ConnectionClosed(_))), "{fifth:?}");
}
