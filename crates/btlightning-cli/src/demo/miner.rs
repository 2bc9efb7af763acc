//! A miner of the demo.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use btlightning::metagraph::{Axon, Chain, PublishError, Published, SubnetPermits};
use btlightning::server::{AsyncSynapseHandler, Caller, Handler};
use btlightning::{
    Hotkey, LightningServer, LightningServerConfig, QuicAxonInfo, Result, Sr25519Signer, TlsKeyPin,
};
use rmpv::Value;
use tokio::task::JoinHandle;

use super::report::Outcome;
use super::words::{ECHO, Question, SUMMARISE, WORDS, summarise, words};

/// How long a restarting miner tries to get its port back.
const BIND_PATIENCE: Duration = Duration::from_secs(10);

/// What stays the same of a miner that restarts or moves.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) seed: [u8; 32],
    pub(super) permits: SubnetPermits,
    /// Where its TLS key is kept; `None` for a new one at each start.
    pub(super) tls_key_file: Option<PathBuf>,
}

/// A server with its handlers, serving.
pub(super) struct Miner {
    pub(super) hotkey: Hotkey,
    pub(super) addr: SocketAddr,
    setup: Setup,
    server: Arc<LightningServer>,
    serving: JoinHandle<Result<()>>,
}

impl Miner {
    /// Starts a miner, which serves none but validators with a permit. Port 0 picks a free one.
    pub(super) async fn start(setup: Setup, ip: IpAddr, port: u16) -> Outcome<Self> {
        let hotkey = Sr25519Signer::from_seed(setup.seed).hotkey();
        let config = LightningServerConfig::builder().require_validator_permit(true).build()?;
        let mut server = LightningServer::with_config(hotkey.to_string(), ip.to_string(), port, config)?;
        server.set_miner_keypair(setup.seed);
        server.set_validator_permit_resolver(Box::new(setup.permits.clone()));
        if let Some(path) = &setup.tls_key_file {
            server.set_tls_key_file(path);
        }
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
        Ok(Self { hotkey, addr, setup, server, serving })
    }

    /// Stops in good order and starts again at the same address after a pause.
    pub(super) async fn restart(self, pause: Duration) -> Outcome<Self> {
        let (setup, addr) = (self.setup.clone(), self.addr);
        self.stop().await?;
        tokio::time::sleep(pause).await;
        Self::start(setup, addr.ip(), addr.port()).await
    }

    /// Starts a second time, at a port that is another as long as this one runs.
    pub(super) async fn start_elsewhere(&self) -> Outcome<Self> {
        Self::start(self.setup.clone(), self.addr.ip(), 0).await
    }

    pub(super) async fn stop(self) -> Outcome {
        self.server.stop().await?;
        self.serving.await??;
        Ok(())
    }

    /// Says on the chain where it is, signed with its hotkey.
    pub(super) async fn publish_axon(
        &self,
        chain: &Chain,
        netuid: u16,
    ) -> std::result::Result<Published, PublishError> {
        let axon = Axon::new(self.addr.ip(), self.addr.port());
        self.server.publish_axon(chain, netuid, axon).await
    }

    /// The hash of its TLS key, if that is kept.
    pub(super) fn tls_key_pin(&self) -> Option<TlsKeyPin> {
        self.server.tls_key_pin()
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
