//! Many miners at once, under one deadline, and the state of each without reading error texts.
//!
//! `cargo run -p btlightning --example fan_out`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example shows what it does, and ends where it fails"
)]

mod miner;

use std::time::Duration;

use btlightning::server::Handler;
use btlightning::{CallOptions, LightningClient, Sr25519Signer};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Guess {
    number: u64,
}

/// A miner that thinks for a while, by its number.
fn guesser(n: u64) -> Handler {
    Handler::typed(move |_, guess: Guess| async move {
        tokio::time::sleep(Duration::from_millis(200 * n)).await;
        Ok::<_, String>(Guess { number: guess.number * n })
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut miners = Vec::new();
    for n in 0..8 {
        miners.push(miner::start_as([n as u8 + 10; 32], [("Guess", guesser(n))]).await?);
    }
    let axons: Vec<_> = miners.iter().map(miner::Miner::axon).collect();

    let signer = Sr25519Signer::from_seed([1; 32]);
    let mut client = LightningClient::new(signer.hotkey().to_string());
    client.set_signer(Box::new(signer));
    client.initialize_connections(axons.clone()).await?;
    for peer in client.peers() {
        println!("{} at {}: {}", peer.hotkey, peer.addr, peer.state.as_str());
    }

    let options = CallOptions::new().timeout(Duration::from_secs(1));
    let mut answers = client.fan_out::<_, Guess>(&axons, "Guess", &Guess { number: 7 }, options)?;
    while let Some((miner, answer)) = answers.next().await {
        match answer {
            Ok(reply) => println!("{miner}: {} after {:?}", reply.value.number, reply.timings.last_byte),
            Err(error) => println!("{miner}: {} ({error})", error.reason()),
        }
    }

    client.close_all_connections().await?;
    for miner in miners {
        miner.stop().await?;
    }
    Ok(())
}
