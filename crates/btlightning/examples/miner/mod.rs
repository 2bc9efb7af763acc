//! A miner for the examples to talk to.
#![allow(dead_code, unreachable_pub, reason = "each example is a program of its own and uses what it needs")]

use std::net::SocketAddr;
use std::sync::Arc;

use btlightning::server::Handler;
use btlightning::{Hotkey, LightningServer, QuicAxonInfo, Result, Sr25519Signer};
use tokio::task::JoinHandle;

pub struct Miner {
    hotkey: Hotkey,
    addr: SocketAddr,
    server: Arc<LightningServer>,
    serving: JoinHandle<Result<()>>,
}

/// Starts a miner on a free loopback port.
pub async fn start(handlers: impl IntoIterator<Item = (&'static str, Handler)>) -> Result<Miner> {
    start_as([2; 32], handlers).await
}

/// Starts the miner with the hotkey of `seed`.
pub async fn start_as(
    seed: [u8; 32],
    handlers: impl IntoIterator<Item = (&'static str, Handler)>,
) -> Result<Miner> {
    let hotkey = Sr25519Signer::from_seed(seed).hotkey();
    let mut server = LightningServer::new(hotkey.to_string(), "127.0.0.1".into(), 0)?;
    server.set_miner_keypair(seed);
    for (name, handler) in handlers {
        server.register(name, handler);
    }
    server.start().await?;
    let addr = server.local_addr()?;
    let server = Arc::new(server);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_forever().await }
    });
    Ok(Miner { hotkey, addr, server, serving })
}

impl Miner {
    pub fn axon(&self) -> QuicAxonInfo {
        QuicAxonInfo::new(self.hotkey.to_string(), self.addr.ip().to_string(), self.addr.port(), 4)
    }

    pub async fn stop(self) -> Result<()> {
        self.server.stop().await?;
        self.serving.await.expect("serving does not panic")
    }
}
