//! The state of every peer: read, subscribed to, and never parsed from an error's text.

use std::time::Duration;

use btlightning::server::LightningServerConfig;
use btlightning::{
    CallError, CallbackSigner, DialError, LightningClient, LightningClientConfig, LightningError, PeerState,
    Sr25519Signer,
};
use btlightning_testkit::keys;

use crate::world::{Ping, World, axon_at, change, config, hotkey};

#[tokio::test(start_paused = true)]
async fn a_peer_goes_through_its_states_in_order() {
    let world = World::new(20);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(config()).await;
    let mut changes = client.peer_changes();
    client.initialize_connections(vec![miner.axon()]).await.unwrap();

    let hotkey = miner.hotkey;
    let first = changes.next().await.unwrap().unwrap();
    assert_eq!(first.state.as_str(), "connecting");
    let connected = change(&mut changes, &hotkey, PeerState::is_connected).await;
    let PeerState::Connected { path_rtt, .. } = connected.state else { panic!("{:?}", connected.state) };
    assert!(path_rtt >= Duration::from_millis(20), "the path takes 10 ms each way: {path_rtt:?}");
    assert!(client.peer_state(&hotkey).unwrap().is_connected());

    miner.stop().await;
    change(&mut changes, &hotkey, |state| matches!(state, PeerState::Connecting { .. })).await;
    let away = change(&mut changes, &hotkey, |state| matches!(state, PeerState::BackingOff { .. })).await;
    let PeerState::BackingOff { until: Some(_), reason, .. } = away.state else { panic!("{:?}", away.state) };
    assert!(matches!(*reason, DialError::Unanswered { .. }), "{reason}");

    client.update_miner_registry(vec![]).await.unwrap();
    change(&mut changes, &hotkey, |state| matches!(state, PeerState::Closed)).await;
    assert!(client.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_apart_from_an_absence() {
    let world = World::new(21);
    let config_with_permits =
        LightningServerConfig::builder().require_validator_permit(true).build().unwrap();
    let miner = world.miner_with_permits("miner", "10.0.0.2:8443", config_with_permits, &[]).await;
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();

    let state = client.peer_state(&miner.hotkey).unwrap();
    let PeerState::Refused { until: Some(_), reason } = state else { panic!("{state:?}") };
    assert!(reason.is_refusal());
    assert_eq!(reason.reason(), "refused");

    let error = client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 0 }).await.unwrap_err();
    assert_eq!(error.reason(), "refused");
    assert!(!error.is_retryable());
    assert!(matches!(LightningError::from(error), LightningError::Handshake(_)));
}

#[tokio::test(start_paused = true)]
async fn a_hotkey_at_somebody_elses_address_is_told_whose_it_is() {
    let world = World::new(22);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client = world.client(config()).await;
    let impostor = axon_at(&hotkey("impostor"), miner.addr);
    client.initialize_connections(vec![impostor.clone(), miner.axon()]).await.unwrap();

    // Side by side: the honest miner is served, the other is told.
    client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 }).await.unwrap();
    let error = client.call::<_, Ping>(&impostor, "echo", &Ping { n: 1 }).await.unwrap_err();
    let CallError::Unavailable { source, .. } = &error else { panic!("{error}") };
    let DialError::WrongHotkey { proven, .. } = &**source else { panic!("{source}") };
    assert_eq!(*proven, miner.hotkey);
    let state = client.peer_state(&hotkey("impostor")).unwrap();
    assert!(matches!(state, PeerState::Refused { .. }), "{state:?}");
    assert_eq!(miner.server.get_active_nonce_count().await, 1, "one handshake settles who is there");
    let authenticated = client.authenticated_hotkeys().await;
    assert_eq!(authenticated, [miner.hotkey.to_string()].into());
}

#[tokio::test(start_paused = true)]
async fn an_impostor_alone_is_refused_and_the_right_hotkey_is_then_served_at_once() {
    let world = World::new(23);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let client = world.client(config()).await;
    let impostor = axon_at(&hotkey("impostor"), miner.addr);
    let error = client.call::<_, Ping>(&impostor, "echo", &Ping { n: 1 }).await.unwrap_err();
    assert_eq!(error.reason(), "wrong_hotkey");
    client.call::<_, Ping>(miner.axon(), "echo", &Ping { n: 2 }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_fails_or_signs_for_another_is_named() {
    let world = World::new(24);
    let miner = world.miner("miner", "10.0.0.2:8443").await;
    let mut client =
        LightningClient::with_network(hotkey("validator").to_string(), config(), world.host("10.0.0.1"))
            .unwrap();
    client.create_endpoint().await.unwrap();

    let error = client.call::<_, Ping>(miner.axon(), "echo", &Ping { n: 1 }).await.unwrap_err();
    assert_eq!(error.reason(), "signing_failed", "{error}");
    let unsigned = client.initialize_connections(vec![miner.axon()]).await;
    assert!(matches!(unsigned, Err(LightningError::Signing(_))), "{unsigned:?}");

    client.set_signer(Box::new(CallbackSigner::new(|_: &[u8]| {
        Err(LightningError::Signing("the wallet is locked".into()))
    })));
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let state = client.peer_state(&miner.hotkey).unwrap();
    let PeerState::BackingOff { reason, .. } = state else { panic!("{state:?}") };
    assert!(reason.to_string().contains("the wallet is locked"), "{reason}");

    client.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed("somebody else"))));
    client.update_miner_registry(vec![miner.axon()]).await.unwrap();
    let state = client.peer_state(&miner.hotkey).unwrap();
    assert!(matches!(state, PeerState::Refused { .. }), "the miner refuses the signature: {state:?}");

    client.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed("validator"))));
    client.update_miner_registry(vec![miner.axon()]).await.unwrap();
    assert!(client.peer_state(&miner.hotkey).unwrap().is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_what_it_missed() {
    let world = World::new(25);
    let client = world.client(LightningClientConfig { max_connections: 2000, ..config() }).await;
    let mut changes = client.peer_changes();
    let axons = (0..600u32)
        .map(|n| {
            axon_at(
                &hotkey(&format!("miner {n}")),
                format!("10.1.{}.{}:1", n / 250, n % 250 + 1).parse().unwrap(),
            )
        })
        .collect();
    client.update_miner_registry(axons).await.unwrap();
    client.update_miner_registry(vec![]).await.unwrap();
    let lagged = changes.next().await.unwrap().unwrap_err();
    assert!(lagged.missed > 0);
    changes.next().await.unwrap().unwrap();
}
