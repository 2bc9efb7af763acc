//! The README's chain example, run as it is against the in-memory chain.

use btlightning::metagraph::{Axon, MetagraphMonitorConfig, Network};
use btlightning::{LightningClientConfig, QuicAxonInfo};
use btlightning_testkit::keys;

use crate::world::{
    Miner, NETUID, account, ask, chain_with, client, connected, hotkey, neuron, until, validator, within,
};

mod validator_example {
    include!("readme_example.rs");

    pub(super) async fn run(subnet: MetagraphMonitorConfig, seed: [u8; 32]) -> usize {
        validate_subnet(subnet, seed).await.unwrap()
    }
}

mod miner_example {
    include!("readme_miner.rs");

    pub(super) async fn run(network: &Network, seed: [u8; 32], axon: Axon, state: &Path) -> LightningServer {
        mine_in_subnet(network, crate::world::NETUID, seed, axon, 0, state).await.unwrap()
    }
}

#[test]
fn the_readme_has_the_examples_that_are_run() {
    let readme = include_str!("../../../../README.md");
    for example in [include_str!("readme_example.rs"), include_str!("readme_miner.rs")] {
        assert!(readme.contains(example), "README.md lacks:\n{example}");
    }
}

#[tokio::test]
async fn the_readmes_chain_example_runs_with_only_the_endpoint_replaced() {
    let (one, two) = (Miner::start("one").await, Miner::start("two").await);
    let chain = chain_with([validator("validator", 9), one.neuron(), two.neuron()]).await;
    let subnet =
        MetagraphMonitorConfig { subtensor_endpoint: chain.url(), ..MetagraphMonitorConfig::finney(NETUID) };
    let answered = within(validator_example::run(subnet, keys::seed("validator"))).await;
    assert_eq!(answered, 2);
}

#[tokio::test]
async fn the_readmes_miner_lets_in_whom_the_chain_permits_and_is_found_there() {
    let chain =
        chain_with([validator("validator", 2_000_000_000_000), neuron("stranger"), neuron("miner")]).await;
    let directory = tempfile::tempdir().unwrap();
    let network = Network::parse(&chain.url()).unwrap();
    let axon = Axon::new("203.0.114.7".parse().unwrap(), 8443);
    let miner = within(miner_example::run(&network, keys::seed("miner"), axon, directory.path())).await;
    let port = miner.local_addr().unwrap().port();
    let serving = tokio::spawn(async move { miner.serve_forever().await });

    let neuron = chain.neuron(NETUID, &account("miner")).unwrap();
    assert_eq!(neuron.axon.unwrap().address(), Some("203.0.114.7:8443".parse().unwrap()));
    assert!(neuron.certificate.is_some());

    let axon = QuicAxonInfo::new(hotkey("miner").to_string(), "127.0.0.1".into(), port, 4);
    let quick = LightningClientConfig {
        reconnect_slow_probe_interval: Some(std::time::Duration::from_millis(50)),
        ..Default::default()
    };
    let (mut permitted, mut stranger) = (client("validator", quick.clone()), client("stranger", quick));
    within(stranger.initialize_connections(vec![axon.clone()])).await.unwrap();
    within(permitted.initialize_connections(vec![axon])).await.unwrap();
    until(&permitted, |peers| connected(peers) == [hotkey("miner")]).await;
    ask(&permitted, hotkey("miner")).await.unwrap_err(); // It has no handler of that name.
    assert!(connected(&stranger.peers()).is_empty());
    serving.abort();
}
