//! Nodes that go away: the last metagraph stays in use, and is followed again when a node is back.

use std::time::Duration;

use btlightning::metagraph::MetagraphMonitorConfig;
use btlightning_testkit::chain::Axon;

use crate::world::{
    Miner, ask, chain_with, change, connected, following, subnet_of, until, validator, within,
};

const OFTEN: Duration = Duration::from_millis(50);

#[tokio::test]
async fn while_no_node_answers_queries_go_on_and_the_age_is_visible() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    let config = MetagraphMonitorConfig { sync_interval: OFTEN, ..subnet_of(&chain) };
    let client = following("validator", config).await;

    chain.node().stop().await.unwrap();
    let failing = within(async {
        loop {
            let status = client.metagraph_status().unwrap();
            if status.sync.failures_in_a_row > 0 {
                break status;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(failing.sync.age.is_some() && failing.sync.last_error.is_some());
    assert_eq!((failing.miners, failing.sync.neurons), (1, 2));
    ask(&client, miner.hotkey).await.unwrap();

    // What has changed meanwhile is followed once the node is back.
    let elsewhere = Miner::start("miner").await;
    change(&chain, |subnet| subnet.neuron_mut(1).unwrap().axon = Some(Axon::at(elsewhere.addr)));
    chain.node().restart().await.unwrap();
    until(&client, |peers| {
        connected(peers) == [miner.hotkey] && peers[0].addr.socket_addr() == Ok(elsewhere.addr)
    })
    .await;
    assert_eq!(client.metagraph_status().unwrap().sync.failures_in_a_row, 0);
}

#[tokio::test]
async fn another_node_is_asked_while_the_first_does_not_answer() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    let second = chain.add_node().unwrap();
    let config = MetagraphMonitorConfig { fallback_endpoints: vec![second.url()], ..subnet_of(&chain) };
    let client = following("validator", config).await;
    chain.node().stop().await.unwrap();

    let elsewhere = Miner::start("miner").await;
    change(&chain, |subnet| subnet.neuron_mut(1).unwrap().axon = Some(Axon::at(elsewhere.addr)));
    client.refresh_metagraph();
    until(&client, |peers| {
        connected(peers) == [miner.hotkey] && peers[0].addr.socket_addr() == Ok(elsewhere.addr)
    })
    .await;
    ask(&client, miner.hotkey).await.unwrap();
}
