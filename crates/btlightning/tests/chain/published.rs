//! The chain's part of the published API, by its published paths, as the published README uses it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use btlightning::metagraph::subxt::{OnlineClient, PolkadotConfig};
use btlightning::{
    FINNEY_ENDPOINT, LightningClient, LightningClientConfig, LightningError, Metagraph,
    MetagraphMonitorConfig, NeuronInfo, QuicRequest, Sr25519Signer, TESTNET_ENDPOINT, connect_subtensor,
    is_valid_ip, metagraph,
};
use btlightning_testkit::chain::Axon;
use btlightning_testkit::keys;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::world::{Miner, NETUID, account, chain_with, change, hotkey, neuron, validator, within};

#[test]
fn configurations_and_constants_are_as_published() {
    let finney: MetagraphMonitorConfig = MetagraphMonitorConfig::finney(2);
    assert_eq!((finney.netuid, &*finney.subtensor_endpoint), (2, FINNEY_ENDPOINT));
    assert_eq!(finney.sync_interval, Duration::from_secs(600));
    assert_eq!(MetagraphMonitorConfig::testnet(3).subtensor_endpoint, TESTNET_ENDPOINT);
    let own = MetagraphMonitorConfig::new(7, "ws://127.0.0.1:9944".to_string(), Duration::from_secs(5));
    assert_eq!((own.netuid, own.sync_interval), (7, Duration::from_secs(5)));
    assert_eq!(FINNEY_ENDPOINT, "wss://entrypoint-finney.opentensor.ai:443");
    assert_eq!(TESTNET_ENDPOINT, "wss://test.finney.opentensor.ai:443");
    assert!(is_valid_ip("8.8.8.8") && metagraph::is_valid_ip("8.8.8.8"));
    assert!(!is_valid_ip("10.0.0.1") && !is_valid_ip("127.0.0.1") && !is_valid_ip("nonsense"));
    let built = LightningClientConfig::builder().metagraph(finney).build().unwrap();
    assert!(built.metagraph.is_some());
}

#[tokio::test]
async fn a_metagraph_is_synced_over_a_client_of_the_programs_own() {
    let chain = chain_with([validator("validator", 9), neuron("miner")]).await;
    change(&chain, |subnet| {
        let axon = Axon::at("8.8.4.4:8443".parse().unwrap());
        subnet.by_hotkey_mut(&account("miner")).unwrap().axon = Some(axon);
        subnet.by_hotkey_mut(&account("validator")).unwrap().axon =
            Some(Axon::at("9.9.9.9:1".parse().unwrap()));
    });
    let client: OnlineClient<PolkadotConfig> = within(connect_subtensor(&chain.url())).await.unwrap();
    let mut metagraph = Metagraph::new(NETUID);
    assert_eq!((metagraph.netuid, metagraph.n, metagraph.block), (NETUID, 0u16, 0u64));
    within(metagraph.sync(&client)).await.unwrap();

    assert_eq!((metagraph.n, metagraph.block), (2, chain.finalized_number()));
    let neuron: &NeuronInfo = metagraph.get_neuron(1).unwrap();
    assert_eq!((&*neuron.axon_ip, neuron.axon_port, neuron.axon_protocol), ("8.8.4.4", 8443, 4));
    assert_eq!((neuron.uid, &neuron.hotkey, neuron.stake), (1, &hotkey("miner").to_string(), 0));
    assert!(neuron.is_active && !neuron.validator_permit);
    assert_eq!(metagraph.get_uid_by_hotkey(&neuron.hotkey), Some(1));
    assert_eq!(metagraph.validator_axon_ips(), HashSet::<IpAddr>::from(["9.9.9.9".parse().unwrap()]));
    let miners = metagraph.quic_miners();
    assert_eq!(miners.len(), 1);
    assert_eq!((&*miners[0].ip, miners[0].port), ("8.8.4.4", 8443));

    let error = within(connect_subtensor::<PolkadotConfig>("ws://127.0.0.1:1")).await.unwrap_err();
    assert!(matches!(&error, LightningError::Connection(why) if why.contains("127.0.0.1:1")), "{error}");
}

#[derive(Serialize)]
struct MyQuery {
    n: u32,
}

#[tokio::test]
async fn the_published_readmes_chain_examples_run() {
    let (one, two) = (Miner::start("one").await, Miner::start("two").await);
    let chain = chain_with([validator("validator", 9), one.neuron(), two.neuron()]).await;
    let config = LightningClientConfig {
        metagraph: Some(MetagraphMonitorConfig {
            subtensor_endpoint: chain.url(),
            ..MetagraphMonitorConfig::finney(NETUID)
        }),
        ..Default::default()
    };
    let mut client = LightningClient::with_config(hotkey("validator").to_string(), config).unwrap();
    client.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed("validator"))));
    within(client.initialize_connections(vec![])).await.unwrap();

    let client = Arc::new(client);
    // `quic_miners` leaves loopback addresses out, which is where these miners are.
    let miners = client.metagraph().unwrap().metagraph.miners(&metagraph::MinerFilter::for_local_network());
    let mut tasks = JoinSet::new();
    for miner in miners {
        let req = QuicRequest::from_typed("echo", &MyQuery { n: 7 }).unwrap();
        let client = Arc::clone(&client);
        tasks.spawn(async move { (miner.hotkey.clone(), client.query_axon(miner, req).await) });
    }
    let mut answered = 0;
    while let Some(Ok((_hotkey, result))) = within(tasks.join_next()).await {
        result.unwrap().into_result().unwrap();
        answered += 1;
    }
    assert_eq!(answered, 2);
}
