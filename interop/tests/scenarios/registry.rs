//! The miners that a validator wants: more, fewer, elsewhere.

use std::collections::HashSet;

use btlightning_interop::{Class, data, eventually, within};

use super::stage::{
    Miner, VALIDATOR, answer, ask, client_config, connected, error, server_config, validator,
};
use crate::peers::{CLIENT, Make, client};

async fn other() -> Miner {
    Miner::made("other miner", server_config(), |_| {}).await
}

async fn update(validator: &client::LightningClient, miners: &[&Miner]) {
    let axons = miners.iter().map(|miner| miner.axon()).collect();
    within("an update", validator.update_miner_registry(axons)).await.expect("updated");
    let expected: HashSet<_> = miners.iter().map(|miner| miner.keys.hotkey.clone()).collect();
    assert_eq!(validator.authenticated_hotkeys().await, expected);
}

async fn left(miner: &Miner) {
    eventually("the miner to be left", async || (miner.connections().await == 0).then_some(())).await;
}

#[tokio::test]
async fn miners_come_and_go() {
    let (miner, other) = (Miner::start().await, other().await);
    let validator = connected(&miner).await;
    let id = miner.connection_of(VALIDATOR).await;
    update(&validator, &[&miner, &other]).await;
    answer(&validator, &other, "echo", data([])).await;
    assert_eq!(miner.connection_of(VALIDATOR).await, id, "the same connection");

    let stats = validator.get_connection_stats().await.expect("stats");
    assert_eq!((stats["total_connections"].as_str(), stats["active_miners"].as_str()), ("2", "2"));
    for addr in [miner.addr, other.addr] {
        assert_eq!(stats[&format!("connection_{addr}")], "active");
    }

    update(&validator, &[&other]).await;
    left(&miner).await;
    answer(&validator, &other, "echo", data([])).await;
    update(&validator, &[]).await;
    left(&other).await;
    let stats = validator.get_connection_stats().await.expect("stats");
    assert_eq!((stats["total_connections"].as_str(), stats["active_miners"].as_str()), ("0", "0"));
}

#[tokio::test]
async fn a_miner_moves() {
    let (here, there) = (Miner::start().await, Miner::start().await);
    let validator = connected(&here).await;
    update(&validator, &[&there]).await;
    left(&here).await;
    answer(&validator, &there, "echo", data([])).await;
}

#[tokio::test]
async fn more_miners_are_added_by_initializing_again() {
    let (miner, other) = (Miner::start().await, other().await);
    let mut validator = connected(&miner).await;
    within("a connection", validator.initialize_connections(vec![other.axon()])).await.expect("initialized");
    answer(&validator, &miner, "echo", data([])).await;
    answer(&validator, &other, "echo", data([])).await;
    assert_eq!(validator.authenticated_hotkeys().await.len(), 2);
}

#[tokio::test]
async fn a_miner_that_is_asked_without_being_registered_is_dialled() {
    let miner = Miner::start().await;
    let validator = validator(VALIDATOR, client_config()).await;
    assert!(validator.authenticated_hotkeys().await.is_empty());
    answer(&validator, &miner, "echo", data([])).await;
    assert_eq!(validator.authenticated_hotkeys().await.len(), 1);
}

#[tokio::test]
async fn a_validator_that_has_closed_can_go_on() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    within("close", validator.close_all_connections()).await.expect("closed");
    left(&miner).await;
    assert!(validator.authenticated_hotkeys().await.is_empty());
    answer(&validator, &miner, "echo", data([])).await;
    within("close", validator.close_all_connections()).await.expect("closed");
    within("close", validator.close_all_connections()).await.expect("closed");
}

#[tokio::test]
async fn a_validator_that_is_dropped_is_gone() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    assert_eq!(miner.connections().await, 1);
    drop(validator);
    left(&miner).await;
}

#[tokio::test]
async fn not_more_connections_than_the_validator_may_have() {
    let (miner, other) = (Miner::start().await, other().await);
    let config = client::LightningClientConfig { max_connections: 1, ..client_config() };
    let mut validator = validator(VALIDATOR, config).await;
    let both = vec![miner.axon(), other.axon()];
    within("a connection", validator.initialize_connections(both)).await.expect("initialized");
    assert_eq!(validator.authenticated_hotkeys().await.len(), 1);
    assert_eq!(miner.connections().await + other.connections().await, 1);

    // A published client dials for a query all the same. Ours does not.
    let left_out = if miner.connections().await == 0 { &miner } else { &other };
    let asked = ask(&validator, left_out, "echo", data([])).await;
    match CLIENT {
        Make::Ours => assert_eq!(error(asked).0, Class::Connection),
        Make::Theirs => assert!(asked.expect("an answer").success),
    }
}

#[tokio::test]
async fn addresses_that_cannot_be_dialled_spoil_nothing() {
    let miner = Miner::start().await;
    let mut validator = validator(VALIDATOR, client_config()).await;
    let nowhere = ["nonsense", "", "localhost", "256.1.1.1"]
        .map(|ip| client::QuicAxonInfo::new(super::stage::MINER.into(), ip.into(), miner.addr.port(), 4));
    let mut axons = nowhere.to_vec();
    axons.push(miner.axon());
    within("a connection", validator.initialize_connections(axons)).await.expect("initialized");
    answer(&validator, &miner, "echo", data([])).await;

    let mut nowhere = miner.axon();
    nowhere.ip = "nonsense".into();
    let request = client::QuicRequest::new("echo".into(), data([]));
    let (class, words) = error(within("an error", validator.query_axon(nowhere, request)).await);
    assert_eq!(class, Class::Connection, "{words}");
    assert!(ask(&validator, &miner, "echo", data([])).await.expect("an answer").success);
}
