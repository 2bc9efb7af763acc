//! A signer that calls out: here to a thread that alone holds the key, as a wallet or a hardware key would.
//!
//! `cargo run -p btlightning --example custom_signer`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example shows what it does, and ends where it fails"
)]

mod miner;

use std::sync::mpsc;
use std::thread;

use btlightning::server::Handler;
use btlightning::{CallbackSigner, LightningClient, LightningError, Signer, Sr25519Signer};

/// A message to sign, and where the signature goes.
type Order = (Vec<u8>, mpsc::Sender<Result<Vec<u8>, LightningError>>);

/// Starts the thread that holds the key.
fn wallet(seed: [u8; 32]) -> mpsc::Sender<Order> {
    let (orders, inbox) = mpsc::channel::<Order>();
    thread::spawn(move || {
        let key = Sr25519Signer::from_seed(seed);
        for (message, reply) in inbox {
            println!("the wallet signs {:?}…", String::from_utf8_lossy(&message[..28.min(message.len())]));
            let _ = reply.send(key.sign(&message));
        }
    });
    orders
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let whoami = Handler::typed(|caller, _: std::collections::HashMap<String, String>| async move {
        Ok::<_, String>(std::collections::HashMap::from([("you_are".to_owned(), caller.hotkey.to_string())]))
    });
    let miner = miner::start([("WhoAmI", whoami)]).await?;

    let seed = [1; 32];
    let orders = wallet(seed);
    let signer = CallbackSigner::new(move |message: &[u8]| {
        let (reply, answer) = mpsc::channel();
        let gone = |_| LightningError::Signing("the wallet is gone".into());
        orders.send((message.to_vec(), reply)).map_err(|error| gone(error.to_string()))?;
        answer.recv().map_err(|error| gone(error.to_string()))?
    });

    let hotkey = Sr25519Signer::from_seed(seed).hotkey().to_string();
    let mut client = LightningClient::new(hotkey);
    client.set_signer(Box::new(signer));
    client.initialize_connections(vec![miner.axon()]).await?;

    let nothing = std::collections::HashMap::<String, String>::new();
    let reply =
        client.call::<_, std::collections::HashMap<String, String>>(miner.axon(), "WhoAmI", &nothing).await?;
    println!("the miner says: {:?}", reply.value);

    client.close_all_connections().await?;
    Ok(miner.stop().await?)
}
