//! Calls: values of the user's own types, bounds, timings, errors, fan-out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use btlightning::server::{Handler, LightningServerConfig};
use btlightning::{CallError, CallOptions, PeerError, QuicRequest};
use btlightning_testkit::Link;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::world::{Ping, World, axon_at, config, hotkey, within};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    id: u64,
    text: Option<String>,
    kind: Kind,
    pairs: Vec<(i32, f32)>,
    nested: HashMap<String, Vec<Kind>>,
    addr: std::net::IpAddr,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Number(i64),
    Pair(u8, String),
    Record { name: String, flag: bool },
}

fn everything() -> Everything {
    Everything {
        id: u64::MAX,
        text: None,
        kind: Kind::Record { name: "ü".into(), flag: true },
        pairs: vec![(-1, 0.5), (i32::MIN, f32::MAX)],
        nested: HashMap::from([("k".into(), vec![Kind::Plain, Kind::Number(-7), Kind::Pair(3, "x".into())])]),
        addr: "2001:db8::1".parse().unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn every_serde_shape_comes_back_as_it_was_sent() {
    let world = World::new(30);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    miner.server.register("same", Handler::typed(|_, it: Everything| async move { Ok::<_, String>(it) }));
    let client = world.client(config()).await;
    let reply = client.call::<_, Everything>(miner.axon(), "same", &everything()).await.unwrap();
    assert_eq!(reply.value, everything());
    assert_eq!(reply.hotkey, miner.hotkey);
}

#[tokio::test(start_paused = true)]
async fn timings_keep_the_validators_own_waiting_apart() {
    let world = World::new(31);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    miner.server.register(
        "slow",
        Handler::typed(|_, ping: Ping| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok::<_, String>(ping)
        }),
    );
    let client = world.client(config()).await;
    // The first call dials: at least two round trips of 20 ms before anything is sent.
    let first = client.call::<_, Ping>(miner.axon(), "slow", &Ping { n: 1 }).await.unwrap().timings;
    assert!(first.waited >= Duration::from_millis(40), "{first:?}");
    let second = client.call::<_, Ping>(miner.axon(), "slow", &Ping { n: 1 }).await.unwrap().timings;
    assert!(second.waited < Duration::from_millis(5), "{second:?}");
    for timings in [first, second] {
        assert!(timings.first_byte >= Duration::from_millis(320), "{timings:?}");
        assert!(timings.first_byte < Duration::from_millis(400), "no dial is in it: {timings:?}");
        assert!(timings.last_byte >= timings.first_byte);
        assert!(timings.sent < Duration::from_millis(5), "a small request goes out at once: {timings:?}");
        assert!(timings.path_rtt >= Duration::from_millis(20), "{timings:?}");
        let shortest = Duration::from_millis(20)..=timings.path_rtt.max(Duration::from_millis(25));
        assert!(shortest.contains(&timings.path_rtt_min), "{timings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_stream_is_the_validators_own_time_too() {
    let world = World::new(32);
    let limits = LightningServerConfig::builder().max_concurrent_bidi_streams(1).build().unwrap();
    let miner = world.miner_with("miner", "10.0.0.2:8443", limits).await;
    miner.server.register(
        "slow",
        Handler::typed(|_, ping: Ping| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, String>(ping)
        }),
    );
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let mut answers = client
        .fan_out::<_, Ping>((0..12).map(|_| miner.hotkey), "slow", &Ping { n: 1 }, CallOptions::new())
        .unwrap();
    let mut waited_longest = Duration::ZERO;
    while let Some((_, reply)) = within(answers.next()).await {
        let timings = reply.unwrap().timings;
        assert!(timings.last_byte < Duration::from_millis(1500), "{timings:?}");
        waited_longest = waited_longest.max(timings.waited);
    }
    assert!(waited_longest > Duration::from_secs(1), "{waited_longest:?}");
}

#[tokio::test(start_paused = true)]
async fn each_bound_ends_the_call_and_names_its_phase() {
    let world = World::new(33);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    miner.server.register(
        "hang",
        Handler::typed(|_, _: Ping| async move { std::future::pending::<Result<Ping, String>>().await }),
    );
    let client = world.client(config()).await;
    client.call::<_, Ping>(miner.axon(), "echo", &Ping { n: 0 }).await.unwrap();

    let asked = Instant::now();
    let options = CallOptions::new().first_byte_timeout(Duration::from_secs(2));
    let error = client.call_with::<_, Ping>(miner.hotkey, "hang", &Ping { n: 0 }, options).await.unwrap_err();
    assert_eq!(error.reason(), "first_byte_timeout", "{error}");
    assert!(asked.elapsed() < Duration::from_secs(3));

    let asked = Instant::now();
    let options = CallOptions::new().timeout(Duration::from_secs(7));
    let error = client.call_with::<_, Ping>(miner.hotkey, "hang", &Ping { n: 0 }, options).await.unwrap_err();
    assert_eq!(error.reason(), "first_byte_timeout", "{error}");
    assert!(asked.elapsed() >= Duration::from_secs(7) && asked.elapsed() < Duration::from_secs(8));

    // Without a bound of its own, the miner's handler timeout of 30 s comes first.
    let error = client.call::<_, Ping>(miner.hotkey, "hang", &Ping { n: 0 }).await.unwrap_err();
    assert!(matches!(error, CallError::Rejected(PeerError::HandlerTimedOut)), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn the_default_timeout_ends_a_call_to_a_miner_that_never_answers() {
    let world = World::new(34);
    let patient =
        LightningServerConfig::builder().idle_timeout_secs(400).handler_timeout_secs(390).build().unwrap();
    let miner = world.miner_with("miner", "10.0.0.2:8443", patient).await;
    miner.server.register(
        "hang",
        Handler::typed(|_, _: Ping| async move { std::future::pending::<Result<Ping, String>>().await }),
    );
    let client = world.client(config()).await;
    let asked = Instant::now();
    let error = client.call::<_, Ping>(miner.axon(), "hang", &Ping { n: 0 }).await.unwrap_err();
    assert_eq!(error.reason(), "first_byte_timeout", "{error}");
    assert_eq!(asked.elapsed().as_secs(), 150);
    let request = QuicRequest::from_typed("hang", &Ping { n: 0 }).unwrap();
    let error = client.query_axon(miner.axon(), request).await.unwrap_err();
    assert!(error.to_string().starts_with("transport error: timed out"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_cancels_the_handler() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let world = World::new(35);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, drops) = (begun.clone(), dropped.clone());
    miner.server.register(
        "hang",
        Handler::typed(move |_, _: Ping| {
            let guard = Dropped(drops.clone());
            begins.notify_one();
            async move {
                let _guard = guard;
                std::future::pending::<Result<Ping, String>>().await
            }
        }),
    );
    let client = world.client(config()).await;
    tokio::select! {
        answered = client.call::<_, Ping>(miner.axon(), "hang", &Ping { n: 0 }) => panic!("{answered:?}"),
        () = begun.notified() => {}
    }
    let cancelled = Instant::now();
    within(dropped.notified()).await;
    assert!(cancelled.elapsed() < Duration::from_secs(1), "long before the handler's timeout");
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_yields_answers_as_they_come_and_every_miner_once() {
    let world = World::new(36);
    let mut miners = Vec::new();
    for n in 0..8u64 {
        let addr = format!("10.0.1.{}:8443", n + 1);
        let miner = world.miner(&format!("miner {n}"), &addr).await;
        let far = Link { delay: Duration::from_millis(10 * (8 - n)), ..Link::default() };
        world.net.set_link("10.0.0.1".parse().unwrap(), miner.addr.ip(), far);
        miners.push(miner);
    }
    let client = world.client(config()).await;
    let mut axons: Vec<_> = miners.iter().map(|miner| miner.axon()).collect();
    client.update_miner_registry(axons.clone()).await.unwrap();
    axons.push(axon_at(&hotkey("nobody"), "10.0.9.9:1".parse().unwrap()));

    let options = CallOptions::new().timeout(Duration::from_secs(2));
    let asked = Instant::now();
    let mut answers = client.fan_out::<_, Ping>(&axons, "echo", &Ping { n: 5 }, options).unwrap();
    assert_eq!(answers.len(), 9);
    let mut order = Vec::new();
    while let Some((name, reply)) = within(answers.next()).await {
        match reply {
            Ok(reply) => {
                assert_eq!(reply.value, Ping { n: 5 });
                assert_eq!(name, reply.hotkey.to_string());
            }
            Err(error) => {
                assert_eq!((name, error.reason()), (hotkey("nobody").to_string(), "connect_timeout"))
            }
        }
        order.push(asked.elapsed());
    }
    assert!(asked.elapsed() <= Duration::from_millis(2050), "one deadline for all");
    assert_eq!(order.len(), 9);
    assert!(order[0] < Duration::from_millis(40), "the nearest does not wait for the farthest: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn bad_names_and_unknown_miners_are_answers_of_a_fan_out() {
    let world = World::new(37);
    let client = world.client(config()).await;
    let names = vec!["nonsense".to_owned(), hotkey("nobody").to_string()];
    let mut answers = client.fan_out::<_, Ping>(&names, "echo", &Ping { n: 5 }, CallOptions::new()).unwrap();
    let mut reasons = HashMap::new();
    while let Some((name, reply)) = answers.next().await {
        reasons.insert(name, reply.unwrap_err().reason());
    }
    assert_eq!(
        reasons,
        HashMap::from([(names[0].clone(), "invalid_hotkey"), (names[1].clone(), "unknown_peer")])
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_encoded_or_understood_is_an_error_of_its_own() {
    let world = World::new(38);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let client = world.client(config()).await;
    let error = client.call::<_, Ping>(miner.axon(), "echo", &[1, 2, 3][..]).await.unwrap_err();
    assert!(matches!(error, CallError::Encode(_)), "{error}");
    let error = client.call::<_, Everything>(miner.axon(), "echo", &Ping { n: 1 }).await.unwrap_err();
    assert!(matches!(error, CallError::Decode(_)), "{error}");
    let error = client.call::<_, Ping>(miner.axon(), "echo", &HashMap::from([("m", 1)])).await.unwrap_err();
    assert!(matches!(error, CallError::Rejected(PeerError::ProcessingFailed)), "{error}");
    let error = client.call::<_, Ping>(miner.axon(), "no such", &Ping { n: 1 }).await.unwrap_err();
    assert!(matches!(error, CallError::Rejected(PeerError::UnrecognizedSynapse)), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn before_there_is_an_endpoint_calls_say_so() {
    let world = World::new(39);
    let client = btlightning::LightningClient::with_network(
        hotkey("validator").to_string(),
        config(),
        world.host("10.0.0.1"),
    )
    .unwrap();
    let axon = axon_at(&hotkey("miner"), "10.0.0.2:1".parse().unwrap());
    let error = client.query_axon(axon, QuicRequest::new("x".into(), HashMap::new())).await.unwrap_err();
    assert!(error.to_string().contains("endpoint not initialized"), "{error}");
    let error = client.call::<_, Ping>(hotkey("miner"), "x", &Ping { n: 1 }).await.unwrap_err();
    assert_eq!(error.reason(), "not_started");
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_the_limit_fails_its_call_and_not_the_connection() {
    let world = World::new(40);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    miner.server.register(
        "big",
        Handler::typed(|_, _: Ping| async move {
            Ok::<_, String>(HashMap::from([("blob".to_owned(), "x".repeat(2 << 20))]))
        }),
    );
    let mut small = config();
    small.max_frame_payload_bytes = 1 << 20;
    let client = world.client(small).await;
    let error =
        client.call::<_, HashMap<String, String>>(miner.axon(), "big", &Ping { n: 1 }).await.unwrap_err();
    assert!(matches!(error, CallError::Frame(_)), "{error}");
    client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 }).await.unwrap();
    assert_eq!(miner.server.get_active_nonce_count().await, 1);
}

#[tokio::test(start_paused = true)]
async fn bounds_without_end_are_no_bounds() {
    let world = World::new(41);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut endless = config();
    endless.connect_timeout = Duration::MAX;
    endless.query_timeout = Duration::MAX;
    let mut client = world.client(endless).await;
    within(client.initialize_connections(vec![miner.axon()])).await.unwrap();
    let options = CallOptions::new().timeout(Duration::MAX).first_byte_timeout(Duration::MAX);
    client.call_with::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 }, options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_can_be_made_outside_of_a_runtime() {
    let world = World::new(42);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let client = world.client(config()).await;
    let axon = miner.axon();
    let mut answers = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            client.fan_out::<_, Ping>([&axon], "echo", &Ping { n: 1 }, CallOptions::new()).unwrap()
        });
        made.join().unwrap()
    });
    within(answers.next()).await.unwrap().1.unwrap();
}
