//! A miner that lets in whom the chain permits, and learns where they come from.

use std::time::Duration;

use btlightning::metagraph::SubnetPermits;
use btlightning::server::{LearnedSources, PermittedStakes, SourcesMode, ValidatorPermitResolver};
use btlightning::{LightningClient, LightningClientConfig, LightningServerConfig, PeerState};
use btlightning_testkit::chain::Neuron;

use crate::world::{
    Miner, SELDOM, account, ask, chain_with, change, client, connected, neuron, until, validator, watch,
    within,
};

/// A miner that lets in whom `permits` names, once it knows that they are `count`.
async fn letting_in(permits: SubnetPermits, count: usize) -> Miner {
    let config = LightningServerConfig::builder().require_validator_permit(true).build().unwrap();
    let miner = Miner::start_with("miner", config, |server| {
        server.set_validator_permit_resolver(Box::new(permits));
    })
    .await;
    // The permits are asked for when the server begins to serve.
    within(async {
        while miner.server.get_permitted_validator_count().await != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
    miner
}

async fn connecting(name: &str, miner: &Miner) -> LightningClient {
    let config = LightningClientConfig {
        reconnect_initial_backoff: Duration::from_millis(20),
        reconnect_max_backoff: Duration::from_millis(50),
        reconnect_slow_probe_interval: Some(Duration::from_millis(50)),
        ..Default::default()
    };
    let mut client = client(name, config);
    within(client.initialize_connections(vec![miner.axon()])).await.unwrap();
    client
}

#[tokio::test]
async fn permits_are_gained_and_lost_with_the_chain() {
    let chain = chain_with([validator("holder", 9), neuron("hopes"), neuron("miner")]).await;
    let watch = watch(&chain);
    let permits = SubnetPermits::of(&watch);
    let miner = letting_in(permits, 1).await;
    let (holder, hopes) = (connecting("holder", &miner).await, connecting("hopes", &miner).await);
    ask(&holder, miner.hotkey).await.unwrap();
    assert!(connected(&hopes.peers()).is_empty());

    change(&chain, |subnet| {
        subnet.by_hotkey_mut(&account("holder")).unwrap().validator_permit = false;
        subnet.by_hotkey_mut(&account("hopes")).unwrap().validator_permit = true;
    });
    watch.refresh_now();
    until(&hopes, |peers| connected(peers) == [miner.hotkey]).await;
    ask(&hopes, miner.hotkey).await.unwrap();
    until(&holder, |peers| !matches!(peers[0].state, PeerState::Connected { .. })).await;
}

#[tokio::test]
async fn a_stake_floor_keeps_small_holders_out() {
    let chain = chain_with([validator("large", 1000), validator("small", 999), neuron("miner")]).await;
    let watch = watch(&chain);
    let permits = SubnetPermits::of(&watch).min_stake(1000);
    let miner = letting_in(permits, 1).await;
    let (large, small) = (connecting("large", &miner).await, connecting("small", &miner).await);
    ask(&large, miner.hotkey).await.unwrap();
    assert!(connected(&small.peers()).is_empty());

    change(&chain, |subnet| {
        let small = subnet.by_hotkey_mut(&account("small")).unwrap();
        *small = Neuron { stake: 2000, ..small.clone() };
    });
    watch.refresh_now();
    until(&small, |peers| connected(peers) == [miner.hotkey]).await;
}

#[tokio::test]
async fn a_miner_without_a_node_keeps_the_permits_it_knows() {
    let chain = chain_with([validator("holder", 9), neuron("miner")]).await;
    let watch = watch(&chain);
    let permits = SubnetPermits::of(&watch);
    let miner = letting_in(permits, 1).await;
    chain.node().stop().await.unwrap();
    within(watch.refreshed(Duration::from_secs(30))).await.unwrap_err();
    let holder = connecting("holder", &miner).await;
    ask(&holder, miner.hotkey).await.unwrap();
    assert_eq!(miner.server.get_permitted_validator_count().await, 1);
}

#[tokio::test]
async fn stakes_that_are_old_are_told_no_more_but_permits_are() {
    let chain = chain_with([validator("holder", 9), neuron("miner")]).await;
    let watch = watch(&chain);
    let permits = SubnetPermits::of(&watch);
    within(watch.first_attempt()).await.unwrap();
    chain.node().stop().await.unwrap();
    tokio::time::pause();
    tokio::time::advance(SELDOM * 2 - Duration::from_secs(60)).await;
    assert_eq!(permits.permitted_stakes().unwrap().len(), 1);
    tokio::time::advance(Duration::from_secs(120)).await;
    assert!(permits.permitted_stakes().is_none());
    assert_eq!(permits.resolve_permitted_validators().unwrap().len(), 1);
}

#[tokio::test]
async fn the_learned_allowlist_counts_the_chains_stake() {
    let chain = chain_with([validator("large", 900), validator("small", 100), neuron("miner")]).await;
    let watch = watch(&chain);
    within(watch.first_attempt()).await.unwrap();
    let sources = LearnedSources::builder(SubnetPermits::of(&watch))
        .learning_time_min(Duration::ZERO)
        .coverage_to_enforce_permille(950)
        .build()
        .unwrap();
    let learned = sources.clone();
    let config = LightningServerConfig::builder().enforce_source_allowlist(true).build().unwrap();
    let miner = Miner::start_with("miner", config, |server| server.learn_sources(learned)).await;
    until_status(&sources, |status| status.permitted_hotkeys == 2).await;

    let large = connecting("large", &miner).await;
    ask(&large, miner.hotkey).await.unwrap();
    until_status(&sources, |status| status.coverage_permille == 900).await;
    assert_eq!(sources.status().mode, SourcesMode::Learning);
    let small = connecting("small", &miner).await;
    ask(&small, miner.hotkey).await.unwrap();
    until_status(&sources, |status| status.mode == SourcesMode::Enforcing).await;
    assert_eq!(sources.status().coverage_permille, 1000);
}

async fn until_status(
    sources: &LearnedSources,
    holds: impl Fn(&btlightning::server::LearnedSourcesStatus) -> bool,
) {
    within(async {
        while !holds(&sources.status()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
