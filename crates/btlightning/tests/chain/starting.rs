//! Monitors that start while others do, while the client is closed, and with a filter that looks back at the client.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use btlightning::metagraph::{MetagraphMonitorConfig, MinerFilter};
use btlightning::{LightningClient, LightningClientConfig, LightningError, NeuronInfo};
use btlightning_testkit::chain::{self as testkit, Failure};

use crate::world::{Miner, ask, chain_with, client, connected, sorted, subnet_of, validator, within};

/// Holds the neurons back for long enough to do something meanwhile.
fn slow_to_answer(chain: &testkit::Chain) {
    let call = ["NeuronInfoRuntimeApi_get_neurons_lite"];
    chain.node().fail_only(&call, Failure::Delay(Duration::from_millis(300)));
}

#[tokio::test]
async fn who_was_named_before_a_monitor_was_started_stays_connected() {
    let (listed, named) = (Miner::start("listed").await, Miner::start("named").await);
    let chain = chain_with([validator("validator", 9), listed.neuron()]).await;
    let mut client = client("validator", LightningClientConfig::default());
    within(client.initialize_connections(vec![named.axon()])).await.unwrap();
    within(client.start_metagraph_monitor(subnet_of(&chain))).await.unwrap();
    assert_eq!(connected(&client.peers()), sorted(vec![listed.hotkey, named.hotkey]));
    assert_eq!(named.server.get_active_nonce_count().await, 1, "the connection is the one from before");

    // Who is left out of a whole list is named no longer.
    within(client.update_miner_registry(vec![listed.axon()])).await.unwrap();
    within(client.start_metagraph_monitor(subnet_of(&chain))).await.unwrap();
    assert_eq!(connected(&client.peers()), [listed.hotkey]);
}

#[tokio::test]
async fn two_that_connect_at_once_start_one_monitor_and_lose_nobody() {
    let (listed, one, two) =
        (Miner::start("listed").await, Miner::start("one").await, Miner::start("two").await);
    let chain = chain_with([validator("validator", 9), listed.neuron()]).await;
    slow_to_answer(&chain);
    let config = LightningClientConfig { metagraph: Some(subnet_of(&chain)), ..Default::default() };
    let client = client("validator", config);
    let both = async { tokio::join!(client.connect(vec![one.axon()]), client.connect(vec![two.axon()])) };
    let (first, second) = within(both).await;
    first.unwrap();
    second.unwrap();
    assert_eq!(connected(&client.peers()), sorted(vec![listed.hotkey, one.hotkey, two.hotkey]));
    assert_eq!(chain.requests().count("NeuronInfoRuntimeApi_get_neurons_lite"), 1);
}

#[tokio::test]
async fn a_client_that_is_closed_while_a_monitor_starts_stays_closed() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    slow_to_answer(&chain);
    let client = client("validator", LightningClientConfig::default());
    client.open().unwrap();
    let closing = async {
        chain.wait_for_request("NeuronInfoRuntimeApi_get_neurons_lite", 1).await;
        client.close_all_connections().await.unwrap();
    };
    let (started, ()) =
        within(async { tokio::join!(client.start_metagraph_monitor(subnet_of(&chain)), closing) }).await;
    assert!(matches!(started, Err(LightningError::Connection(_))), "{started:?}");
    assert!(client.peers().is_empty() && client.metagraph_status().is_none());
}

#[tokio::test]
async fn a_filter_may_ask_the_client_that_asks_it() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    let client = Arc::new(client("validator", LightningClientConfig::default()));
    client.open().unwrap();
    let asked: Arc<OnceLock<Weak<LightningClient>>> = Arc::default();
    asked.set(Arc::downgrade(&client)).unwrap();
    let filter = MinerFilter::for_local_network().matching(Arc::new(move |_: &NeuronInfo| {
        let client = asked.get().unwrap().upgrade().unwrap();
        client.refresh_metagraph();
        let _ = client.metagraph();
        true
    }));
    let config = MetagraphMonitorConfig { miners: Some(filter), ..subnet_of(&chain) };
    within(client.start_metagraph_monitor(config)).await.unwrap();
    within(chain.wait_for_request("NeuronInfoRuntimeApi_get_neurons_lite", 3)).await;
    ask(&client, miner.hotkey).await.unwrap();
    within(client.stop_metagraph_monitor()).await;
}
