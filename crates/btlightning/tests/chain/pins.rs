//! TLS keys that miners publish, and clients check.

use btlightning::PeerState;
use btlightning::metagraph::{Axon, MetagraphMonitorConfig, Published, TLS_KEY_PIN_ALGORITHM};
use btlightning_testkit::chain::{self as testkit, Failure};

use crate::world::{
    Miner, NETUID, account, ask, chain_with, change, connected, following, neuron, ours, subnet_of, until,
    validator, within,
};

#[cfg(target_os = "linux")] // 127.0.0.2 is an address everywhere else only if somebody has made it one.
#[tokio::test]
async fn a_miner_announces_itself_with_its_key_and_is_found_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("tls.pem");
    let chain = chain_with([validator("validator", 9), neuron("miner")]).await;
    change(&chain, |subnet| subnet.hyperparameters.serving_rate_limit = 0);
    let miner = Miner::with_key("miner", &key).await;
    let axon = Axon::new(miner.addr.ip(), miner.addr.port());
    let published = within(miner.server.publish_axon(&ours(&chain), NETUID, axon)).await.unwrap();
    assert!(matches!(published, Published::Included { .. }), "{published:?}");
    let again = within(miner.server.publish_axon(&ours(&chain), NETUID, axon)).await.unwrap();
    assert_eq!(again, Published::Unchanged);

    let client = following("validator", subnet_of(&chain)).await;
    ask(&client, miner.hotkey).await.unwrap();
    let pin = miner.server.tls_key_pin().unwrap();
    assert_eq!(client.metagraph().unwrap().tls_keys[&miner.hotkey], pin);

    // The key outlives a restart, and with it the pin.
    miner.stop().await;
    let restarted = Miner::with_key("miner", &key).await;
    assert_eq!(restarted.server.tls_key_pin(), Some(pin));
    let axon = Axon::new(restarted.addr.ip(), restarted.addr.port());
    within(restarted.server.publish_axon(&ours(&chain), NETUID, axon)).await.unwrap();
    client.refresh_metagraph();
    until(&client, |peers| {
        connected(peers) == [restarted.hotkey] && peers[0].addr.socket_addr() == Ok(restarted.addr)
    })
    .await;
}

#[tokio::test]
async fn a_server_with_another_key_than_the_published_one_is_turned_away() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    publish_another_key(&chain);
    let client = following("validator", subnet_of(&chain)).await;
    let PeerState::Refused { reason, .. } = &client.peers()[0].state else { panic!("{:?}", client.peers()) };
    assert_eq!(reason.reason(), "wrong_tls_key");
    assert_eq!(miner.server.get_active_nonce_count().await, 0, "no handshake has reached the server");

    // Who does not care about pins is not kept away by them.
    let config = MetagraphMonitorConfig { check_tls_keys: false, ..subnet_of(&chain) };
    within(client.start_metagraph_monitor(config)).await.unwrap();
    until(&client, |peers| connected(peers) == [miner.hotkey]).await;
}

#[tokio::test]
async fn a_miner_that_keeps_its_key_no_longer_takes_the_pin_back() {
    let directory = tempfile::tempdir().unwrap();
    let chain = chain_with([validator("validator", 9), neuron("miner")]).await;
    change(&chain, |subnet| subnet.hyperparameters.serving_rate_limit = 0);
    let axon = Axon::new("203.0.114.7".parse().unwrap(), 8443);
    let kept = Miner::with_key("miner", &directory.path().join("tls.pem")).await;
    within(kept.server.publish_axon(&ours(&chain), NETUID, axon)).await.unwrap();
    assert_eq!(within(ours(&chain).tls_key_pins(NETUID)).await.unwrap().len(), 1);
    kept.stop().await;

    let forgetful = Miner::start("miner").await;
    let published = within(forgetful.server.publish_axon(&ours(&chain), NETUID, axon)).await.unwrap();
    assert!(matches!(published, Published::Included { .. }), "{published:?}");
    assert!(within(ours(&chain).tls_key_pins(NETUID)).await.unwrap().is_empty());
    let again = within(forgetful.server.publish_axon(&ours(&chain), NETUID, axon)).await.unwrap();
    assert_eq!(again, Published::Unchanged);
}

#[tokio::test]
async fn published_keys_count_no_longer_than_the_metagraph_is_followed() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    publish_another_key(&chain);
    let client = following("validator", subnet_of(&chain)).await;
    assert!(connected(&client.peers()).is_empty());
    assert!(client.metagraph().unwrap().tls_keys_block.is_some());
    client.stop_metagraph_monitor().await;
    until(&client, |peers| connected(peers) == [miner.hotkey]).await;
}

#[tokio::test]
async fn neurons_are_followed_though_their_keys_cannot_be_read() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    let error = Failure::Error { code: -32000, message: "no keys today".into() };
    chain.node().fail_only(&["state_getKeysPaged"], error);
    let client = following("validator", subnet_of(&chain)).await;
    ask(&client, miner.hotkey).await.unwrap();
    assert_eq!(client.metagraph().unwrap().tls_keys_block, None);
    assert!(chain.requests().count("state_getKeysPaged") > 0);
}

/// The chain says that the miner has a key that it does not have.
fn publish_another_key(chain: &testkit::Chain) {
    let other = [vec![TLS_KEY_PIN_ALGORITHM], vec![7; 32]].concat();
    change(chain, |subnet| {
        subnet.by_hotkey_mut(&account("miner")).unwrap().certificate =
            testkit::Certificate::from_call(&other);
    });
}
