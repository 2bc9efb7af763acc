//! An answer in chunks, each sent when it is ready.
//!
//! `cargo run -p btlightning --example streaming`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example shows what it does, and ends where it fails"
)]

mod miner;

use btlightning::server::Handler;
use btlightning::{CallOptions, LightningClient, Sr25519Signer};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Countdown {
    from: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let countdown = Handler::streaming(|call, chunks| async move {
        let Countdown { from } = call.decode()?;
        for n in (0..=from).rev() {
            // Waits while the validator reads more slowly than we write, and fails once it is gone.
            chunks.send(n.to_string()).await?;
        }
        Ok(())
    });
    let miner = miner::start([("Countdown", countdown)]).await?;

    let signer = Sr25519Signer::from_seed([1; 32]);
    let mut client = LightningClient::new(signer.hotkey().to_string());
    client.set_signer(Box::new(signer));
    client.initialize_connections(vec![miner.axon()]).await?;

    let mut stream =
        client.call_stream(miner.axon(), "Countdown", &Countdown { from: 5 }, CallOptions::new()).await?;
    while let Some(chunk) = stream.next().await? {
        println!("{} after {:?}", String::from_utf8_lossy(&chunk), stream.timings().last_byte);
    }

    client.close_all_connections().await?;
    Ok(miner.stop().await?)
}
