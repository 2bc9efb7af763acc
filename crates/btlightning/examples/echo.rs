//! The published API: a miner that answers with what it was asked, and a validator that asks it.
//!
//! `cargo run -p btlightning --example echo`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example shows what it does, and ends where it fails"
)]

use std::collections::HashMap;
use std::sync::Arc;

use btlightning::{
    LightningClient, LightningServer, QuicAxonInfo, QuicRequest, Result, Sr25519Signer, SynapseHandler,
};
use rmpv::Value;

struct Echo;

impl SynapseHandler for Echo {
    fn handle(&self, _synapse_type: &str, data: HashMap<String, Value>) -> Result<HashMap<String, Value>> {
        Ok(data)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (validator_seed, miner_seed) = ([1; 32], [2; 32]);
    let validator = Sr25519Signer::from_seed(validator_seed).hotkey().to_string();
    let miner = Sr25519Signer::from_seed(miner_seed).hotkey().to_string();

    let mut server = LightningServer::new(miner.clone(), "127.0.0.1".into(), 0)?;
    server.set_miner_keypair(miner_seed);
    server.register_synapse_handler("Echo".into(), Arc::new(Echo)).await?;
    server.start().await?;
    let addr = server.local_addr()?;
    let server = Arc::new(server);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_forever().await }
    });

    let mut client = LightningClient::new(validator);
    client.set_signer(Box::new(Sr25519Signer::from_seed(validator_seed)));
    let axon = QuicAxonInfo::new(miner, addr.ip().to_string(), addr.port(), 4);
    client.initialize_connections(vec![axon.clone()]).await?;

    let data = HashMap::from([("greeting".to_owned(), Value::from("hello"))]);
    let response = client.query_axon(axon, QuicRequest::new("Echo".into(), data)).await?.into_result()?;
    println!("{:?} after {:.2} ms", response.data, response.latency_ms);

    client.close_all_connections().await?;
    server.stop().await?;
    serving.await.expect("serving does not panic")
}
