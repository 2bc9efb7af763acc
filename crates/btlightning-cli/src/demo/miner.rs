//! A miner of the demo.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use btlightning::server::{AsyncSynapseHandler, Caller, Handler};
use btlightning::{Hotkey, LightningServer, QuicAxonInfo, Result, Sr25519Signer};
use rmpv::Value;
use tokio::task::JoinHandle;

use super::Outcome;
use super::words::{ECHO, Question, SUMMARISE, WORDS, summarise, words};

/// How long a restarting miner tries to get its port back.
const BIND_PATIENCE: Duration = Duration::from_secs(10);

/// A server with its handlers, serving.
pub(super) struct Miner {
    pub(super) hotkey: Hotkey,
    pub(super) addr: SocketAddr,
    seed: [u8; 32],
    server: Arc<LightningServer>,
    serving: JoinHandle<Result<()>>,
}

impl Miner {
    /// Starts a miner on a loopback port; 0 picks a free one.
    pub(super) async fn start(seed: [u8; 32], port: u16) -> Outcome<Self> {
        let hotkey = Sr25519Signer::from_seed(seed).hotkey();
        let mut server = LightningServer::new(hotkey.to_string(), "127.0.0.1".into(), port)?;
        server.set_miner_keypair(seed);
        // Three forms of a handler: with types of one's own, in chunks, and as existing programs have them.
        server.register(SUMMARISE, Handler::typed(answer));
        server.register(
            WORDS,
            Handler::streaming(|call, chunks| async move {
                let question: Question = call.decode()?;
                for word in words(&question.text) {
                    chunks.send(word.into_bytes()).await?;
                }
                Ok(())
            }),
        );
        server.register_async_synapse_handler(ECHO.to_owned(), Arc::new(Echo)).await?;

        let asked = Instant::now();
        while let Err(error) = server.start().await {
            // The port of a miner that has just stopped may take a moment to be free.
            if port == 0 || asked.elapsed() > BIND_PATIENCE {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let addr = server.local_addr()?;
        let server = Arc::new(server);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Ok(Self { hotkey, addr, seed, server, serving })
    }

    /// Stops in good order and starts again at the same address, with a new certificate, after a pause.
    pub(super) async fn restart(self, pause: Duration) -> Outcome<Self> {
        let (seed, port) = (self.seed, self.addr.port());
        self.stop().await?;
        tokio::time::sleep(pause).await;
        Self::start(seed, port).await
    }

    pub(super) async fn stop(self) -> Outcome {
        self.server.stop().await?;
        self.serving.await??;
        Ok(())
    }

    pub(super) fn axon(&self) -> QuicAxonInfo {
        QuicAxonInfo::new(self.hotkey.to_string(), self.addr.ip().to_string(), self.addr.port(), 4)
    }
}

async fn answer(_caller: Caller, question: Question) -> Result<super::words::Summary> {
    Ok(summarise(&question.text))
}

/// Answers with what it was asked.
struct Echo;

#[async_trait]
impl AsyncSynapseHandler for Echo {
    async fn handle(&self, _name: &str, data: HashMap<String, Value>) -> Result<HashMap<String, Value>> {
        Ok(data)
    }
}

/// The seed of a key that nobody has seen before.
pub(super) fn fresh_seed() -> Outcome<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("no randomness: {error}"))?;
    Ok(seed)
}
