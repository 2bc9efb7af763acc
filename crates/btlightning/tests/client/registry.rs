//! The registry: new, gone, moved, dead, limits; both address families; orderly close.

use std::collections::HashMap;
use std::time::Duration;

use btlightning::{CallError, LightningClientConfig, LightningError, PeerState, QuicAxonInfo, QuicRequest};
use tokio::time::Instant;

use crate::world::{Ping, World, axon_at, change, config, hotkey, within};

#[tokio::test(start_paused = true)]
async fn reconciling_opens_what_is_new_closes_what_is_gone_and_follows_who_moved() {
    let world = World::new(50);
    let stays = world.miner("stays", "10.0.0.2:1").await;
    let goes = world.miner("goes", "10.0.0.3:1").await;
    let moves = world.miner("moves", "10.0.0.4:1").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![stays.axon(), goes.axon(), moves.axon()]).await.unwrap();
    assert_eq!(client.get_connection_stats().await.unwrap()["total_connections"], "3");

    let comes = world.miner("comes", "10.0.0.5:1").await;
    let moved = world.miner("moves", "10.0.0.6:1").await;
    client.update_miner_registry(vec![stays.axon(), comes.axon(), moved.axon()]).await.unwrap();

    let stats = client.get_connection_stats().await.unwrap();
    let expected: HashMap<String, String> = [
        ("total_connections", "3"),
        ("active_miners", "3"),
        ("connection_10.0.0.2:1", "active"),
        ("connection_10.0.0.5:1", "active"),
        ("connection_10.0.0.6:1", "active"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    assert_eq!(stats, expected);
    for miner in [&stays, &comes, &moved] {
        client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 }).await.unwrap();
    }
    let error = client.call::<_, Ping>(goes.hotkey, "echo", &Ping { n: 1 }).await.unwrap_err();
    assert!(matches!(error, CallError::UnknownPeer(_)), "{error}");
    assert_eq!(stays.server.get_active_nonce_count().await, 1, "who stays is not dialled again");
    for left in [&goes, &moves] {
        within(async {
            while left.server.get_connection_stats().await.unwrap()["total_connections"] != "0" {
                tokio::time::sleep(Duration::from_millis(10)).await; // virtual
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_miner_is_dialled_at_once_when_the_registry_names_it_again() {
    let world = World::new(51);
    let never =
        LightningClientConfig { reconnect_slow_probe_interval: None, reconnect_max_retries: 1, ..config() };
    let mut client = world.client(never).await;
    let mut changes = client.peer_changes();
    let axon = axon_at(&hotkey("miner"), "10.0.0.2:1".parse().unwrap());
    client.initialize_connections(vec![axon.clone()]).await.unwrap();
    change(&mut changes, &hotkey("miner"), |state| {
        matches!(state, PeerState::BackingOff { until: None, .. })
    })
    .await;
    let error = client.call::<_, Ping>(hotkey("miner"), "echo", &Ping { n: 1 }).await.unwrap_err();
    assert!(!error.is_retryable(), "nothing will be tried until the registry says so: {error}");

    let _miner = world.miner("miner", "10.0.0.2:1").await;
    client.update_miner_registry(vec![axon]).await.unwrap();
    client.call::<_, Ping>(hotkey("miner"), "echo", &Ping { n: 1 }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_followed_leaves_who_is_down_to_its_back_off() {
    let world = World::new(60);
    let stays = world.miner("stays", "10.0.0.2:1").await;
    let goes = world.miner("goes", "10.0.0.3:1").await;
    let mut client = world.client(config()).await;
    let dead = axon_at(&hotkey("dead"), "10.0.0.4:1".parse().unwrap());
    client.initialize_connections(vec![stays.axon(), goes.axon(), dead.clone()]).await.unwrap();

    // Named every ten seconds for an hour. Without a back-off there would be 360 dials.
    let mut changes = client.peer_changes();
    let mut dials = 0;
    for _ in 0..360 {
        client.follow_miners(vec![stays.axon(), dead.clone()]).unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await; // virtual
        while let Ok(Some(change)) = tokio::time::timeout(Duration::ZERO, changes.next()).await {
            let change = change.unwrap();
            dials += usize::from(
                change.hotkey == hotkey("dead") && matches!(change.state, PeerState::Connecting { .. }),
            );
        }
    }
    assert!((5..25).contains(&dials), "{dials} dials of a dead miner in an hour");
    assert_eq!(stays.server.get_active_nonce_count().await, 1, "who is connected is not dialled again");
    assert!(client.peer_state(&goes.hotkey).is_none());

    // Who comes and who moves is dialled at once.
    let comes = world.miner("comes", "10.0.0.5:1").await;
    let moved = world.miner("stays", "10.0.0.6:1").await;
    client.follow_miners(vec![moved.axon(), comes.axon()]).unwrap();
    client.call::<_, Ping>(comes.hotkey, "echo", &Ping { n: 1 }).await.unwrap();
    client.call::<_, Ping>(moved.hotkey, "echo", &Ping { n: 1 }).await.unwrap();
    assert_eq!(client.peers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_followed_miner_that_was_given_up_is_dialled_when_it_is_named_again() {
    let world = World::new(61);
    let never =
        LightningClientConfig { reconnect_slow_probe_interval: None, reconnect_max_retries: 1, ..config() };
    let mut client = world.client(never).await;
    let mut changes = client.peer_changes();
    let axon = axon_at(&hotkey("miner"), "10.0.0.2:1".parse().unwrap());
    client.initialize_connections(vec![axon.clone()]).await.unwrap();
    change(&mut changes, &hotkey("miner"), |state| {
        matches!(state, PeerState::BackingOff { until: None, .. })
    })
    .await;

    let _miner = world.miner("miner", "10.0.0.2:1").await;
    client.follow_miners(vec![axon]).unwrap();
    client.call::<_, Ping>(hotkey("miner"), "echo", &Ping { n: 1 }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn initialize_adds_and_update_replaces() {
    let world = World::new(52);
    let one = world.miner("one", "10.0.0.2:1").await;
    let two = world.miner("two", "10.0.0.3:1").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![one.axon()]).await.unwrap();
    client.initialize_connections(vec![two.axon()]).await.unwrap();
    assert_eq!(client.authenticated_hotkeys().await.len(), 2);
    assert_eq!(one.server.get_active_nonce_count().await, 1);
    client.update_miner_registry(vec![two.axon()]).await.unwrap();
    assert_eq!(client.authenticated_hotkeys().await, [two.hotkey.to_string()].into());
}

#[tokio::test(start_paused = true)]
async fn addresses_beyond_the_limit_are_left_out_in_the_registry_and_on_demand() {
    let world = World::new(53);
    let one = world.miner("one", "10.0.0.2:1").await;
    let two = world.miner("two", "10.0.0.3:1").await;
    let mut client = world.client(LightningClientConfig { max_connections: 1, ..config() }).await;
    client.initialize_connections(vec![one.axon(), two.axon()]).await.unwrap();
    assert_eq!(client.peers().len(), 1);
    client.call::<_, Ping>(one.axon(), "echo", &Ping { n: 1 }).await.unwrap();
    let error = client.call::<_, Ping>(two.axon(), "echo", &Ping { n: 1 }).await.unwrap_err();
    assert!(matches!(error, CallError::ConnectionLimit { max: 1 }), "{error}");
    // Removals make room first.
    client.update_miner_registry(vec![two.axon()]).await.unwrap();
    client.call::<_, Ping>(two.axon(), "echo", &Ping { n: 1 }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn entries_that_cannot_be_dialled_are_left_out_and_the_others_served() {
    let world = World::new(54);
    let miner = world.miner("miner", "10.0.0.2:1").await;
    let mut client = world.client(config()).await;
    let bad = |hotkey: &str, ip: &str, port| QuicAxonInfo::new(hotkey.into(), ip.into(), port, 4);
    let somebody = hotkey("somebody").to_string();
    client
        .initialize_connections(vec![
            bad("not a hotkey", "10.0.0.2", 1),
            bad(&somebody, "localhost", 1),
            bad(&somebody, "10.0.0.9", 0),
            bad(&somebody, "0.0.0.0", 1),
            bad(&somebody, "", 1),
            miner.axon(),
        ])
        .await
        .unwrap();
    assert_eq!(client.peers().len(), 1);
    let query = |axon| client.query_axon(axon, QuicRequest::new("echo".into(), HashMap::new()));
    let error = query(bad(&somebody, "localhost", 1)).await.unwrap_err();
    assert!(matches!(error, LightningError::Connection(_)), "{error}");
    let error = query(bad("not a hotkey", "10.0.0.2", 1)).await.unwrap_err();
    assert!(matches!(error, LightningError::Handshake(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_hotkey_that_leaves_an_address_takes_its_connection_with_it() {
    let world = World::new(55);
    let miner = world.miner("miner", "10.0.0.2:1").await;
    let mut client = world.client(config()).await;
    let other = axon_at(&hotkey("other"), miner.addr);
    client.initialize_connections(vec![miner.axon(), other.clone()]).await.unwrap();
    assert!(client.peer_state(&miner.hotkey).unwrap().is_connected());

    let mut changes = client.peer_changes();
    client.update_miner_registry(vec![other]).await.unwrap();
    change(&mut changes, &miner.hotkey, |state| matches!(state, PeerState::Closed)).await;
    change(&mut changes, &hotkey("other"), |state| matches!(state, PeerState::Refused { .. })).await;
    assert!(client.peer_state(&miner.hotkey).is_none());
    assert!(client.authenticated_hotkeys().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_axon_is_reached_as_an_ipv4_one_is() {
    let world = World::new(56);
    let miner = world.miner("miner", "[fd00::2]:8443").await;
    let mut client = world.client_at("validator", "fd00::1", config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let stats = client.get_connection_stats().await.unwrap();
    assert_eq!(stats["connection_[fd00::2]:8443"], "active");
    client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 }).await.unwrap();

    // A host without IPv4 says so instead of waiting for an answer.
    let axon = axon_at(&hotkey("v4 only"), "10.0.0.2:1".parse().unwrap());
    let error = client.call::<_, Ping>(axon, "echo", &Ping { n: 1 }).await.unwrap_err();
    assert!(error.to_string().contains("IPv4"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn closing_tells_the_peers_and_the_client_can_go_on() {
    let world = World::new(57);
    let miner = world.miner("miner", "10.0.0.2:1").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let closing = Instant::now();
    client.close_all_connections().await.unwrap();
    assert!(closing.elapsed() <= Duration::from_secs(1));
    assert!(client.peers().is_empty());
    assert_eq!(miner.server.get_connection_stats().await.unwrap()["total_connections"], "0");
    client.call::<_, Ping>(miner.axon(), "echo", &Ping { n: 1 }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_queries_that_wait() {
    let world = World::new(58);
    let client = world.client(config()).await;
    let axon = axon_at(&hotkey("miner"), "10.0.0.2:1".parse().unwrap());
    let query = client.call::<_, Ping>(&axon, "echo", &Ping { n: 1 });
    let (answer, closed) = tokio::join!(query, async {
        tokio::time::sleep(Duration::from_millis(100)).await; // virtual: the query is waiting by now
        client.close_all_connections().await
    });
    closed.unwrap();
    assert!(matches!(answer.unwrap_err(), CallError::Closed(_)));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_client_closes_its_connections() {
    let world = World::new(59);
    let miner = world.miner("miner", "10.0.0.2:1").await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    drop(client);
    within(async {
        while miner.server.get_connection_stats().await.unwrap()["total_connections"] != "0" {
            tokio::time::sleep(Duration::from_millis(10)).await; // virtual
        }
    })
    .await;
}
