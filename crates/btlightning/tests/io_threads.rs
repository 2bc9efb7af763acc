//! Which thread does what: handlers on the I/O thread while they are quick, and packets whatever handlers do.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use btlightning::server::{Call, Handler, Response};
use btlightning::{IoThreads, LightningServerConfig};
use common::{Door, Miner, Raw, config, data, request, within};
use rmpv::Value;
use tokio::runtime::{Builder, Handle};

/// The names of the threads that a handler ran on.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<String>>>);

impl Names {
    fn note(&self) {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        self.0.lock().unwrap().push(name);
    }

    fn on_io_thread(&self) -> Vec<bool> {
        self.0.lock().unwrap().iter().map(|name| name.starts_with("btlightning-server-io")).collect()
    }
}

fn echo(miner: &Miner) {
    miner.server.register("echo", Handler::blocking(|call| Response::from_map(&call.to_map()?)));
}

#[tokio::test]
async fn a_quick_handler_runs_on_the_io_thread_and_a_slow_one_leaves_it() {
    let miner = Miner::start().await;
    let (quick, slow) = (Names::default(), Names::default());
    let (noted, noted_slow) = (quick.clone(), slow.clone());
    miner.server.register(
        "quick",
        Handler::blocking(move |_| {
            noted.note();
            Response::from_map(&data([]))
        }),
    );
    miner.server.register(
        "slow",
        Handler::blocking(move |_| {
            noted_slow.note();
            // sleeps: what a slow handler is
            std::thread::sleep(Duration::from_millis(8));
            Response::from_map(&data([]))
        }),
    );
    let raw = Raw::authenticated(&miner, "alice").await;
    raw.answer("quick", &data([])).await;
    for _ in 0..3 {
        raw.answer("slow", &data([])).await;
    }
    assert_eq!(quick.on_io_thread(), [true]);
    assert_eq!(slow.on_io_thread(), [true, false, false]);
}

#[tokio::test]
async fn a_handler_that_hangs_stops_nobody() {
    let miner = Miner::start().await;
    echo(&miner);
    let door = Door::default();
    miner.server.register("hang", door.handler());
    let (alice, bob) = (Raw::authenticated(&miner, "alice").await, Raw::authenticated(&miner, "bob").await);
    let mut hanging = Vec::new();
    for count in 1..=3 {
        hanging.push(alice.send(&request("hang", &data([]))).await.1);
        door.begun_are(count).await;
        for raw in [&alice, &bob] {
            raw.answer("echo", &data([])).await;
        }
    }
    drop(door);
    for mut receive in hanging {
        assert_eq!(common::read(&mut receive).await.data(), data([]));
    }
}

#[tokio::test]
async fn a_handler_that_hangs_on_the_io_thread_is_out_of_time_as_any_other() {
    let miner = Miner::with(config().handler_timeout_secs(1), |_| {}).await;
    let door = Door::default();
    miner.server.register("hang", door.handler());
    let raw = Raw::authenticated(&miner, "alice").await;
    assert_eq!(raw.failure("hang", &data([])).await, "handler timed out");
    drop(door);
}

#[tokio::test]
async fn a_server_stops_though_a_handler_hangs_on_its_io_thread() {
    let miner = Miner::with(config().shutdown_grace_secs(0), |_| {}).await;
    let door = Door::default();
    miner.server.register("hang", door.handler());
    let raw = Raw::authenticated(&miner, "alice").await;
    let _hanging = raw.send(&request("hang", &data([]))).await;
    door.begun_are(1).await;
    within("the stop", miner.server.stop()).await.unwrap();
    assert_eq!(raw.closed_for().await, "server_shutdown");
    // The port is free: nothing of the connection is left to the handler.
    drop(std::net::UdpSocket::bind(miner.addr).unwrap());
    drop(door);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_find_the_programs_runtime_wherever_they_run() {
    let miner = Miner::start().await;
    let program = Handle::current().id();
    miner.server.register(
        "waits",
        Handler::unary(move |_| async move {
            assert_eq!(Handle::current().id(), program);
            // sleeps: the program's timers are what is tried
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(Handle::current().id(), program);
            let spawned = tokio::spawn(async { Handle::current().id() }).await?;
            assert_eq!(spawned, program);
            Response::from_map(&data([]))
        }),
    );
    miner.server.register(
        "blocks",
        Handler::blocking(move |_| {
            assert_eq!(Handle::current().id(), program);
            // sleeps: the program's timers are what is tried
            Handle::current().block_on(tokio::time::sleep(Duration::from_millis(1)));
            Response::from_map(&data([]))
        }),
    );
    miner.server.register(
        "in place",
        Handler::unary(|_| async {
            // sleeps: what may block in place
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(1)));
            Response::from_map(&data([]))
        }),
    );
    let raw = Raw::authenticated(&miner, "alice").await;
    for name in ["waits", "blocks", "in place"] {
        for _ in 0..4 {
            raw.answer(name, &data([])).await;
        }
    }
}

#[test]
fn a_large_request_is_parsed_where_no_packet_waits_for_it() {
    // The one thread on which that is can be kept from it.
    let program = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build();
    program.unwrap().block_on(async {
        let miner = Miner::with(config().handler_timeout_secs(1), |_| {}).await;
        let size =
            |call: Call| async move { Response::from_map(&data([("bytes", call.payload().len().into())])) };
        miner.server.register("size", Handler::unary(size));
        let raw = Raw::authenticated(&miner, "alice").await;
        let (small, large) = (Value::Binary(vec![7; 1 << 20]), Value::Binary(vec![7; 2 << 20]));
        let (release, held) = mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || held.recv());
        assert_eq!(raw.failure("size", &data([("b", large.clone())])).await, "handler timed out");
        assert_eq!(raw.answer("size", &data([("b", small)])).await, data([("bytes", 1_048_584.into())]));
        drop(release);
        within("the thread", held).await.unwrap().unwrap_err();
        assert_eq!(raw.answer("size", &data([("b", large)])).await, data([("bytes", 2_097_160.into())]));
    });
}

#[tokio::test]
async fn connections_are_spread_over_threads_of_ones_own() {
    let miner = Miner::with(config().io_threads(IoThreads::Own(3)), |_| {}).await;
    echo(&miner);
    let mut raws = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        raws.push(Raw::authenticated(&miner, name).await);
    }
    for _ in 0..20 {
        for raw in &raws {
            raw.answer("echo", &data([])).await;
        }
    }
    within("the stop", miner.server.stop()).await.unwrap();
    for raw in &raws {
        assert_eq!(raw.closed_for().await, "server_shutdown");
    }
}

#[test]
fn the_number_of_threads_is_bounded() {
    for count in [0, 65] {
        let error = LightningServerConfig::builder().io_threads(IoThreads::Own(count)).build().unwrap_err();
        assert!(error.to_string().contains("io_threads"), "{error}");
    }
    LightningServerConfig::builder().io_threads(IoThreads::Own(64)).build().unwrap();
}
