use std::path::Path;
use std::time::Duration;

use btlightning::metagraph::{Axon, Chain, ChainConfig, MetagraphWatch, Network, SubnetPermits};
use btlightning::{LearnedSources, LightningServer, LightningServerConfig, Sr25519Signer};

/// Starts a miner of a subnet of `Network::finney()`, say, that the world finds at `axon`.
async fn mine_in_subnet(
    network: &Network,
    netuid: u16,
    seed: [u8; 32],
    axon: Axon,
    port: u16,
    state: &Path,
) -> Result<LightningServer, Box<dyn std::error::Error>> {
    let config = LightningServerConfig::builder()
        .require_validator_permit(true)
        .enforce_source_allowlist(true)
        .build()?;
    let hotkey = Sr25519Signer::from_seed(seed).hotkey().to_string();
    let mut server = LightningServer::with_config(hotkey, "0.0.0.0".into(), port, config)?;
    server.set_miner_keypair(seed);

    let chain = Chain::new(ChainConfig::new(network))?;
    let subnet = MetagraphWatch::start(chain.clone(), netuid, Duration::from_secs(600))?;
    let permits = SubnetPermits::of(&subnet).min_stake(1_000_000_000_000); // 1,000 of the subnet's alpha, in rao
    server.set_validator_permit_resolver(Box::new(permits.clone()));
    let genesis = chain.genesis().await?;
    let sources = LearnedSources::builder(permits).file(state.join("sources.json"), netuid, genesis);
    server.learn_sources(sources.build()?);
    server.set_tls_key_file(state.join("tls-key.pem")); // the same key after a restart; its hash is published
    server.start().await?;
    let published = server.publish_axon(&chain, netuid, axon).await?;
    println!("{published:?}"); // Unchanged, if the chain had it already
    Ok(server)
}
