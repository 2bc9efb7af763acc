//! Reconnecting as a supervisor does it.

use std::sync::Arc;
use std::time::Duration;

use btlightning::{CallError, CallOptions, LightningClient, LightningClientConfig, PeerState, Reply};
use btlightning_testkit::Link;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::world::{Ping, World, change, config, hotkey, within};

async fn echo(client: &LightningClient, miner: &str, n: u32) -> Result<Reply<Ping>, CallError> {
    client.call(hotkey(miner), "echo", &Ping { n }).await
}

#[tokio::test(start_paused = true)]
async fn queries_that_arrive_while_a_miner_restarts_wait_and_succeed() {
    let world = World::new(1);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    echo(&client, "miner", 0).await.unwrap();

    let client = Arc::new(client);
    let mut changes = client.peer_changes();
    miner.stop().await;
    change(&mut changes, &hotkey("miner"), |state| matches!(state, PeerState::Connecting { .. })).await;

    let mut queries = JoinSet::new();
    for n in 0..200 {
        let client = client.clone();
        queries.spawn(async move { echo(&client, "miner", n).await.map(|reply| reply.value.n) });
    }
    tokio::time::sleep(Duration::from_secs(2)).await; // virtual: the queries are waiting by now
    let again = world.miner("miner", "10.0.0.2:8443").await;
    let mut answers: Vec<u32> = within(queries.join_all()).await.into_iter().map(Result::unwrap).collect();
    answers.sort_unstable();
    assert_eq!(answers, (0..200).collect::<Vec<_>>());

    let stats = again.server.get_connection_stats().await.unwrap();
    assert_eq!(stats["total_connections"], "1", "one dial served them all");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_queries_on_demand_make_one_connection() {
    let world = World::new(2);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let client = Arc::new(world.client(config()).await);
    let mut queries = JoinSet::new();
    for n in 0..100 {
        let (client, axon) = (client.clone(), miner.axon());
        queries.spawn(async move { client.call::<_, Ping>(axon, "echo", &Ping { n }).await.unwrap() });
    }
    assert_eq!(within(queries.join_all()).await.len(), 100);
    assert_eq!(miner.server.get_active_nonce_count().await, 1, "one handshake was made");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_query_does_not_wedge_its_address() {
    let world = World::new(3);
    let client = Arc::new(world.client(config()).await);
    let axon = crate::world::axon_at(&hotkey("miner"), "10.0.0.2:8443".parse().unwrap());

    // Nobody is there yet. Queries begin to wait and are dropped at every stage of the dial.
    for pause_ms in [0, 1, 15, 25, 900, 2900] {
        let query = client.call::<_, Ping>(&axon, "echo", &Ping { n: 1 });
        let cancelled = tokio::time::timeout(Duration::from_millis(pause_ms), query).await;
        assert!(cancelled.is_err());
    }
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let options = CallOptions::new().timeout(Duration::from_secs(60));
    let reply = within(client.call_with::<_, Ping>(&axon, "echo", &Ping { n: 2 }, options)).await;
    // The query may have waited for the last dial that found nobody; the next one is due in a second or two.
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            within(client.call_with::<_, Ping>(&axon, "echo", &Ping { n: 2 }, options)).await.unwrap()
        }
    };
    assert_eq!(reply.value, Ping { n: 2 });
    drop(miner);
}

#[tokio::test(start_paused = true)]
async fn cancelled_queries_leave_the_connection_good() {
    let world = World::new(4);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    // More than the 128 streams that a server grants at once, each dropped while its answer is on the way.
    for n in 0..500 {
        let query = echo(&client, "miner", n);
        assert!(tokio::time::timeout(Duration::from_millis(15), query).await.is_err());
    }
    assert_eq!(echo(&client, "miner", 7).await.unwrap().value, Ping { n: 7 });
    assert_eq!(miner.server.get_active_nonce_count().await, 1, "the first connection is still the only one");
}

#[tokio::test(start_paused = true)]
async fn a_crashed_miner_is_noticed_by_its_silence_long_before_the_idle_timeout() {
    let world = World::new(5);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    echo(&client, "miner", 0).await.unwrap();

    miner.crash().await;
    let _again = world.miner("miner", "10.0.0.2:8443").await;
    let crashed = Instant::now();
    let failed = within(echo(&client, "miner", 1)).await.unwrap_err();
    assert!(matches!(failed, CallError::ConnectionLost { .. }), "{failed}");
    assert!(failed.is_retryable());
    assert!(crashed.elapsed() < Duration::from_secs(15), "{:?}", crashed.elapsed());
    assert_eq!(within(echo(&client, "miner", 2)).await.unwrap().value, Ping { n: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_query_to_a_dead_address_waits_for_one_dial_and_then_says_why() {
    let world = World::new(6);
    let client = world.client(config()).await;
    let axon = crate::world::axon_at(&hotkey("miner"), "10.0.0.9:1".parse().unwrap());
    let asked = Instant::now();
    let error = client.call::<_, Ping>(&axon, "echo", &Ping { n: 0 }).await.unwrap_err();
    assert_eq!(error.reason(), "unanswered", "{error}");
    assert!(error.is_retryable());
    assert!(asked.elapsed() < Duration::from_secs(5), "one connect timeout, not the query's own");
}

#[tokio::test(start_paused = true)]
async fn a_query_with_less_time_than_the_dial_times_out_as_connecting() {
    let world = World::new(7);
    let client = world.client(config()).await;
    let axon = crate::world::axon_at(&hotkey("miner"), "10.0.0.9:1".parse().unwrap());
    let options = CallOptions::new().timeout(Duration::from_millis(500));
    let error = client.call_with::<_, Ping>(&axon, "echo", &Ping { n: 0 }, options).await.unwrap_err();
    assert_eq!(error.reason(), "connect_timeout", "{error}");
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_with_jitter_and_end_in_slow_probes() {
    let world = World::new(8);
    let config = LightningClientConfig {
        connect_timeout: Duration::from_secs(1),
        reconnect_initial_backoff: Duration::from_secs(1),
        reconnect_max_backoff: Duration::from_secs(8),
        reconnect_max_retries: 5,
        reconnect_slow_probe_interval: Some(Duration::from_secs(60)),
        ..Default::default()
    };
    let mut client = world.client(config).await;
    let mut changes = client.peer_changes();
    client
        .initialize_connections(vec![crate::world::axon_at(&hotkey("miner"), "10.0.0.9:1".parse().unwrap())])
        .await
        .unwrap();

    let mut pauses = Vec::new();
    for _ in 0..8 {
        let peer =
            change(&mut changes, &hotkey("miner"), |state| matches!(state, PeerState::BackingOff { .. }))
                .await;
        let PeerState::BackingOff { until: Some(until), failures, reason } = peer.state else {
            panic!("{:?}", peer.state)
        };
        assert_eq!(failures as usize, pauses.len() + 1);
        assert_eq!(reason.reason(), "unanswered");
        pauses.push(until.duration_since(Instant::now().into_std()).as_secs_f64());
    }
    for (pause, longest) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0]) {
        assert!(*pause > 0.0 && *pause <= longest, "{pauses:?}");
    }
    assert!(pauses[5..].iter().all(|pause| *pause > 50.0), "slow probes after five retries: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_miner_that_comes_back_is_found_by_a_slow_probe() {
    let world = World::new(9);
    let config = LightningClientConfig {
        connect_timeout: Duration::from_secs(1),
        reconnect_max_retries: 1,
        ..Default::default()
    };
    let mut client = world.client(config).await;
    let mut changes = client.peer_changes();
    let axon = crate::world::axon_at(&hotkey("miner"), "10.0.0.2:8443".parse().unwrap());
    client.initialize_connections(vec![axon]).await.unwrap();
    for _ in 0..2 {
        change(&mut changes, &hotkey("miner"), |state| matches!(state, PeerState::BackingOff { .. })).await;
    }
    // On slow probes a query fails at once instead of waiting for a minute.
    let asked = Instant::now();
    let error = echo(&client, "miner", 0).await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable { retry_at: Some(_), .. }), "{error}");
    assert_eq!(asked.elapsed(), Duration::ZERO);

    let _miner = world.miner("miner", "10.0.0.2:8443").await;
    change(&mut changes, &hotkey("miner"), PeerState::is_connected).await;
    echo(&client, "miner", 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn queries_survive_loss_reordering_and_duplicates() {
    let world = World::new(10);
    world.net.set_default_link(Link {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(20),
        loss: 0.1,
        duplicate: 0.05,
        reorder: 0.1,
        ..Link::default()
    });
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(LightningClientConfig::default()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    for n in 0..200 {
        assert_eq!(within(echo(&client, "miner", n)).await.unwrap().value, Ping { n });
    }
}

#[tokio::test(start_paused = true)]
async fn authentication_survives_nat_rebinding() {
    let world = World::new(11);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    echo(&client, "miner", 0).await.unwrap();

    let tap = world.net.tap();
    echo(&client, "miner", 1).await.unwrap();
    let bound = tap.records().iter().find(|record| record.to == miner.addr).unwrap().from;
    world.net.rebind(bound, "10.0.0.77:40000".parse().unwrap()).unwrap();
    for n in 2..20 {
        assert_eq!(within(echo(&client, "miner", n)).await.unwrap().value, Ping { n });
    }
    assert_eq!(miner.server.get_active_nonce_count().await, 1, "nobody had to authenticate again");
}

#[tokio::test(start_paused = true)]
async fn a_flapping_miner_is_not_dialled_in_a_hot_loop() {
    let world = World::new(12);
    let mut client = world.client(config()).await;
    let mut changes = client.peer_changes();
    let addr = "10.0.0.2:8443";
    let axon = crate::world::axon_at(&hotkey("miner"), addr.parse().unwrap());
    let mut pauses = 0;
    for round in 0..4 {
        let miner = world.miner("miner", addr).await;
        if round == 0 {
            client.initialize_connections(vec![axon.clone()]).await.unwrap();
        }
        change(&mut changes, &hotkey("miner"), PeerState::is_connected).await;
        miner.stop().await;
        let after = change(&mut changes, &hotkey("miner"), |state| !state.is_connected()).await;
        pauses += u32::from(matches!(after.state, PeerState::BackingOff { .. }));
    }
    assert!(pauses >= 2, "short-lived connections count as failures: {pauses} pauses");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_alive_for_hours() {
    let world = World::new(13);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await; // virtual
    assert!(client.peer_state(&miner.hotkey).unwrap().is_connected());
    echo(&client, "miner", 1).await.unwrap();
    assert_eq!(miner.server.get_active_nonce_count().await, 1, "nobody had to dial again");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_thinks_for_long_is_not_taken_for_a_dead_link() {
    let world = World::new(14);
    let patient = btlightning::LightningServerConfig::builder().handler_timeout_secs(140).build().unwrap();
    let miner = world.miner_with("miner", "10.0.0.2:8443", patient).await;
    miner.server.register(
        "think",
        btlightning::server::Handler::typed(|_, ping: Ping| async move {
            tokio::time::sleep(Duration::from_secs(16)).await;
            Ok::<_, String>(ping)
        }),
    );
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let client = Arc::new(client);
    // Other calls come and go at every distance from the moments when the waiting one looks at the link; what goes out
    // last is then an acknowledgement, which nobody answers.
    for millis in (2400..2560).step_by(4).chain((4950..5060).step_by(4)) {
        let thinking = tokio::spawn({
            let client = client.clone();
            async move { client.call::<_, Ping>(hotkey("miner"), "think", &Ping { n: 1 }).await }
        });
        tokio::time::sleep(Duration::from_millis(millis)).await; // virtual
        echo(&client, "miner", 2).await.unwrap();
        thinking.await.unwrap().unwrap_or_else(|error| panic!("echo after {millis} ms: {error}"));
    }
    assert_eq!(miner.server.get_active_nonce_count().await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_pauses_of_different_addresses_differ() {
    let world = World::new(15);
    let mut client = world.client(config()).await;
    let mut changes = client.peer_changes();
    let axons = (0..8u8).map(|n| {
        crate::world::axon_at(&hotkey(&format!("miner {n}")), format!("10.0.9.{}:1", n + 1).parse().unwrap())
    });
    client.initialize_connections(axons.collect()).await.unwrap();
    let mut pauses = std::collections::HashSet::new();
    for _ in 0..8 {
        let away = within(async {
            loop {
                let peer = changes.next().await.unwrap().unwrap();
                if let PeerState::BackingOff { until: Some(until), .. } = peer.state {
                    return until;
                }
            }
        });
        pauses.insert(away.await);
    }
    assert!(
        pauses.len() > 4,
        "eight addresses that failed together are not dialled together again: {pauses:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_stream_move_on_to_the_next_connection() {
    let world = World::new(16);
    let narrow =
        btlightning::LightningServerConfig::builder().max_concurrent_bidi_streams(1).build().unwrap();
    let miner = world.miner_with("miner", "10.0.0.2:8443", narrow).await;
    miner.server.register(
        "hang",
        btlightning::server::Handler::typed(|_, _: Ping| std::future::pending::<Result<Ping, String>>()),
    );
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let client = Arc::new(client);
    let mut hanging = JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        hanging.spawn(async move { client.call::<_, Ping>(hotkey("miner"), "hang", &Ping { n: 1 }).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await; // virtual: all streams are taken
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { echo(&client, "miner", 5).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await; // virtual: the echo waits for a stream
    miner.stop().await;
    let _again = world.miner("miner", "10.0.0.2:8443").await;
    assert_eq!(within(waiting).await.unwrap().unwrap().value, Ping { n: 5 });
}

#[tokio::test(start_paused = true)]
async fn a_server_starts_again_at_once_however_late_its_peers_acknowledge() {
    let world = World::new(17);
    // A closed connection lives on for three probe timeouts, each longer than a round trip.
    world.net.set_default_link(Link { delay: Duration::from_millis(1500), ..Link::default() });
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let patient = LightningClientConfig { connect_timeout: Duration::from_secs(60), ..Default::default() };
    let mut client = world.client(patient).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    assert!(client.peer_state(&miner.hotkey).unwrap().is_connected());

    within(miner.server.stop()).await.unwrap();
    within(miner.server.listen()).await.unwrap();
    within(miner.server.stop()).await.unwrap();
    let _other = world.miner("other", "10.0.0.2:8443").await;
}
