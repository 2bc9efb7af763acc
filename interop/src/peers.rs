//! Clients and servers of either make behind the same traits, for tests that put both to the same bare peer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::keys::keys;
use crate::make::{Class, Classified, Make};
use crate::values::Data;
use crate::waiting::within;

/// A published error, whosever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its variant.
    pub class: Class,
    /// Its text.
    pub words: String,
}

impl<E: Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { class: error.class(), words: error.words().to_owned() }
    }
}

/// What a handler answered, whether it failed or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Whether it succeeded.
    pub success: bool,
    /// What it answered.
    pub data: Data,
    /// Why it failed.
    pub error: Option<String>,
}

/// A miner as a validator is told of it: whose hotkey, and where.
pub type Told<'a> = (&'a str, SocketAddr);

/// A `LightningClient`.
#[allow(async_fn_in_trait)]
pub trait Validator: Sized {
    /// Whose it is.
    const MAKE: Make;

    /// The validator called `name`, with a socket.
    async fn start(name: &str) -> Self;

    /// Adds miners and waits for the dials.
    async fn connect(&mut self, miners: &[Told<'_>]);

    /// Wants exactly these miners, and waits for the dials.
    async fn update(&self, miners: &[Told<'_>]);

    /// The hotkeys that are proven.
    async fn proven(&self) -> HashSet<String>;

    /// Asks, and waits for the answer.
    async fn ask(&self, miner: Told<'_>, name: &str, data: Data) -> Result<Answer, Failure>;

    /// Asks for a stream, and waits for all of it.
    async fn chunks(&self, miner: Told<'_>, name: &str) -> Result<Vec<Vec<u8>>, Failure>;

    /// Closes all connections.
    async fn close(&self);
}

/// A `LightningServer`.
#[allow(async_fn_in_trait)]
pub trait Miner: Sized {
    /// Whose it is.
    const MAKE: Make;

    /// The miner called `name`, serving. It gives strangers a second to make the handshake.
    async fn start(name: &str) -> Self;

    /// Where it is.
    fn addr(&self) -> SocketAddr;

    /// Closes connections that were idle for so many seconds.
    async fn clean_up(&self, idle_secs: u64);

    /// Stops.
    async fn stop(self);
}

macro_rules! peers {
    ($package:ident, $make:expr) => {
        const _: () = {
            use $package::{LightningClient, LightningClientConfig, LightningServer, LightningServerConfig};
            use $package::{QuicAxonInfo, QuicRequest, Sr25519Signer};

            fn axon((hotkey, addr): Told<'_>) -> QuicAxonInfo {
                QuicAxonInfo::new(hotkey.into(), addr.ip().to_string(), addr.port(), 4)
            }

            impl Validator for LightningClient {
                const MAKE: Make = $make;

                async fn start(name: &str) -> Self {
                    let keys = keys(name);
                    let config = LightningClientConfig {
                        connect_timeout: Duration::from_secs(2),
                        reconnect_initial_backoff: Duration::from_millis(20),
                        reconnect_max_backoff: Duration::from_millis(20),
                        ..Default::default()
                    };
                    let mut client = Self::with_config(keys.hotkey, config).expect("a valid configuration");
                    client.set_signer(Box::new(Sr25519Signer::from_seed(keys.seed)));
                    client.create_endpoint().await.expect("a socket");
                    client
                }

                async fn connect(&mut self, miners: &[Told<'_>]) {
                    let axons = miners.iter().copied().map(axon).collect();
                    within("the dials", self.initialize_connections(axons)).await.expect("initialized");
                }

                async fn update(&self, miners: &[Told<'_>]) {
                    let axons = miners.iter().copied().map(axon).collect();
                    within("the dials", self.update_miner_registry(axons)).await.expect("updated");
                }

                async fn proven(&self) -> HashSet<String> {
                    self.authenticated_hotkeys().await
                }

                async fn ask(&self, miner: Told<'_>, name: &str, data: Data) -> Result<Answer, Failure> {
                    let request = QuicRequest::new(name.into(), data);
                    let response = within(name, self.query_axon(axon(miner), request)).await?;
                    let $package::QuicResponse { success, data, error, .. } = response;
                    Ok(Answer { success, data, error })
                }

                async fn chunks(&self, miner: Told<'_>, name: &str) -> Result<Vec<Vec<u8>>, Failure> {
                    let request = QuicRequest::new(name.into(), Data::new());
                    let mut stream = within(name, self.query_axon_stream(axon(miner), request)).await?;
                    Ok(within(name, stream.collect_all()).await?)
                }

                async fn close(&self) {
                    within("close", self.close_all_connections()).await.expect("closed");
                }
            }

            impl Miner for (Arc<LightningServer>, JoinHandle<$package::Result<()>>) {
                const MAKE: Make = $make;

                async fn start(name: &str) -> Self {
                    let keys = keys(name);
                    let config = LightningServerConfig::builder()
                        .handshake_timeout_secs(1)
                        .build()
                        .expect("a valid configuration");
                    let mut server = LightningServer::with_config(keys.hotkey, "127.0.0.1".into(), 0, config)
                        .expect("a valid configuration");
                    server.set_miner_keypair(keys.seed);
                    server.start().await.expect("a socket");
                    let server = Arc::new(server);
                    let serving = tokio::spawn({
                        let server = server.clone();
                        async move { server.serve_forever().await }
                    });
                    (server, serving)
                }

                fn addr(&self) -> SocketAddr {
                    self.0.local_addr().expect("it was started")
                }

                async fn clean_up(&self, idle_secs: u64) {
                    self.0.cleanup_stale_connections(idle_secs).await.expect("cleaned up");
                }

                async fn stop(self) {
                    within("stop", self.0.stop()).await.expect("stopped");
                    within("the end", self.1).await.expect("no panic").expect("an orderly end");
                }
            }
        };
    };
}

peers!(btlightning_ours, Make::Ours);
peers!(btlightning_published, Make::Theirs);

/// A published server, serving.
pub type TheirMiner =
    (Arc<btlightning_published::LightningServer>, JoinHandle<btlightning_published::Result<()>>);

/// A server of ours, serving.
pub type OurMiner = (Arc<btlightning_ours::LightningServer>, JoinHandle<btlightning_ours::Result<()>>);
