use btlightning::{CallOptions, LightningClient, LightningClientConfig, MetagraphMonitorConfig, Sr25519Signer};

/// Asks every miner of a subnet, `MetagraphMonitorConfig::finney(2)` for one; says how many have answered.
async fn validate_subnet(
    subnet: MetagraphMonitorConfig,
    seed: [u8; 32],
) -> Result<usize, Box<dyn std::error::Error>> {
    let signer = Sr25519Signer::from_seed(seed);
    let config = LightningClientConfig { metagraph: Some(subnet), ..Default::default() };
    let mut client = LightningClient::with_config(signer.hotkey().to_string(), config)?;
    client.set_signer(Box::new(signer));

    // Finds the miners on the chain, connects to them, and keeps up with who comes, goes and moves.
    client.initialize_connections(vec![]).await?;
    if let Some(metagraph) = client.metagraph_status() {
        println!("{} miners, read {:?} ago", metagraph.miners, metagraph.sync.age);
    }
    let miners: Vec<_> = client.peers().into_iter().map(|peer| peer.hotkey).collect();
    let question = std::collections::HashMap::from([("n", 7)]);
    let mut answers = client.fan_out::<_, serde::de::IgnoredAny>(&miners, "echo", &question, CallOptions::new())?;
    let mut answered = 0;
    while let Some((miner, answer)) = answers.next().await {
        match answer {
            Ok(reply) => answered += usize::from(reply.timings.last_byte > std::time::Duration::ZERO),
            Err(error) => println!("{miner}: {}", error.reason()),
        }
    }
    Ok(answered)
}
