//! A miner and a validator, and the ways to make them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use btlightning_interop::{Classified, Data, Keys, eventually, keys, within};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::peers::{client, server};

pub(crate) const VALIDATOR: &str = "validator";
pub(crate) const MINER: &str = "miner";

/// A miner that serves.
pub(crate) struct Miner {
    pub(crate) server: Arc<server::LightningServer>,
    pub(crate) keys: Keys,
    pub(crate) addr: SocketAddr,
    serving: JoinHandle<server::Result<()>>,
}

/// A server's configuration that tests change.
pub(crate) fn server_config() -> server::LightningServerConfigBuilder {
    server::LightningServerConfig::builder()
}

impl Miner {
    /// A miner with the default configuration and an `echo`.
    pub(crate) async fn start() -> Self {
        Self::with(server_config()).await
    }

    /// A miner with this configuration and an `echo`.
    pub(crate) async fn with(config: server::LightningServerConfigBuilder) -> Self {
        Self::made(MINER, config, |_| {}).await
    }

    /// The miner called `name`, with this configuration, whatever `change` does to it before it starts, and an `echo`.
    pub(crate) async fn made(
        name: &str,
        config: server::LightningServerConfigBuilder,
        change: impl FnOnce(&mut server::LightningServer),
    ) -> Self {
        let keys = keys(name);
        let config = config.build().expect("a valid configuration");
        let mut server =
            server::LightningServer::with_config(keys.hotkey.clone(), "127.0.0.1".into(), 0, config)
                .expect("a valid configuration");
        server.set_miner_keypair(keys.seed);
        change(&mut server);
        server.start().await.expect("a socket");
        let miner = Self::serve(server, keys);
        miner.sync("echo", Ok).await;
        miner
    }

    /// Serves with `server`, which has been started.
    pub(crate) fn serve(server: server::LightningServer, keys: Keys) -> Self {
        let addr = server.local_addr().expect("it was started");
        let server = Arc::new(server);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Self { server, keys, addr, serving }
    }

    /// Registers a blocking handler.
    pub(crate) async fn sync(
        &self,
        name: &str,
        handle: impl Fn(Data) -> server::Result<Data> + Send + Sync + 'static,
    ) {
        let handler = Arc::new(Blocking(handle));
        self.server.register_synapse_handler(name.into(), handler).await.expect("registered");
    }

    /// Registers an async handler.
    pub(crate) async fn unary<F: Future<Output = server::Result<Data>> + Send + 'static>(
        &self,
        name: &str,
        handle: impl Fn(Data) -> F + Send + Sync + 'static,
    ) {
        let handler = Arc::new(Unary(handle));
        self.server.register_async_synapse_handler(name.into(), handler).await.expect("registered");
    }

    /// Registers a streaming handler.
    pub(crate) async fn streaming<F: Future<Output = server::Result<()>> + Send + 'static>(
        &self,
        name: &str,
        handle: impl Fn(Data, mpsc::Sender<Vec<u8>>) -> F + Send + Sync + 'static,
    ) {
        let handler = Arc::new(Streaming(handle));
        self.server.register_streaming_handler(name.into(), handler).await.expect("registered");
    }

    /// How a validator finds this miner.
    pub(crate) fn axon(&self) -> client::QuicAxonInfo {
        axon(&self.keys.hotkey, self.addr)
    }

    /// The id of the connection that `validator` holds, as far as the server knows.
    pub(crate) async fn connection_of(&self, validator: &str) -> Option<String> {
        let mut stats = self.server.get_connection_stats().await.expect("stats");
        stats.remove(&format!("connection_{}", keys(validator).hotkey))
    }

    /// How many connections have authenticated.
    pub(crate) async fn connections(&self) -> usize {
        let stats = self.server.get_connection_stats().await.expect("stats");
        stats["verified_connections"].parse().expect("a number")
    }

    /// Stops the server and gives it back, to be started again.
    pub(crate) async fn stop(self) -> server::LightningServer {
        within("stop", self.server.stop()).await.expect("stopped");
        within("serve_forever to return", self.serving).await.expect("no panic").expect("an orderly end");
        let mut server = Some(self.server);
        eventually("the server to be left alone", async || match Arc::try_unwrap(server.take()?) {
            Ok(alone) => Some(alone),
            Err(shared) => {
                server = Some(shared);
                None
            }
        })
        .await
    }
}

struct Blocking<F>(F);

impl<F> server::SynapseHandler for Blocking<F>
where
    F: Fn(Data) -> server::Result<Data> + Send + Sync,
{
    fn handle(&self, _: &str, data: Data) -> server::Result<Data> {
        (self.0)(data)
    }
}

struct Unary<F>(F);

#[async_trait::async_trait]
impl<F, Answer> server::AsyncSynapseHandler for Unary<F>
where
    F: Fn(Data) -> Answer + Send + Sync,
    Answer: Future<Output = server::Result<Data>> + Send,
{
    async fn handle(&self, _: &str, data: Data) -> server::Result<Data> {
        (self.0)(data).await
    }
}

struct Streaming<F>(F);

#[async_trait::async_trait]
impl<F, Answer> server::StreamingSynapseHandler for Streaming<F>
where
    F: Fn(Data, mpsc::Sender<Vec<u8>>) -> Answer + Send + Sync,
    Answer: Future<Output = server::Result<()>> + Send,
{
    async fn handle(&self, _: &str, data: Data, sender: mpsc::Sender<Vec<u8>>) -> server::Result<()> {
        (self.0)(data, sender).await
    }
}

/// A validator's configuration that does not wait long: a dial on the loopback address takes milliseconds.
pub(crate) fn client_config() -> client::LightningClientConfig {
    client::LightningClientConfig {
        connect_timeout: Duration::from_secs(5),
        reconnect_initial_backoff: Duration::from_millis(50),
        reconnect_max_backoff: Duration::from_millis(100),
        reconnect_max_retries: 1_000,
        ..Default::default()
    }
}

/// The validator called `name`, with a socket and without miners.
pub(crate) async fn validator(name: &str, config: client::LightningClientConfig) -> client::LightningClient {
    let keys = keys(name);
    let mut validator =
        client::LightningClient::with_config(keys.hotkey, config).expect("a valid configuration");
    validator.set_signer(Box::new(client::Sr25519Signer::from_seed(keys.seed)));
    validator.create_endpoint().await.expect("a socket");
    validator
}

/// A validator that is connected to `miner`.
pub(crate) async fn connected(miner: &Miner) -> client::LightningClient {
    connected_with(miner, client_config()).await
}

/// A validator with this configuration that is connected to `miner`.
pub(crate) async fn connected_with(
    miner: &Miner,
    config: client::LightningClientConfig,
) -> client::LightningClient {
    let mut validator = validator(VALIDATOR, config).await;
    within("a connection", validator.initialize_connections(vec![miner.axon()])).await.expect("initialized");
    assert!(validator.authenticated_hotkeys().await.contains(&miner.keys.hotkey), "not connected");
    validator
}

pub(crate) fn axon(hotkey: &str, addr: SocketAddr) -> client::QuicAxonInfo {
    client::QuicAxonInfo::new(hotkey.into(), addr.ip().to_string(), addr.port(), 4)
}

/// Asks `miner` for `name`.
pub(crate) async fn ask(
    validator: &client::LightningClient,
    miner: &Miner,
    name: &str,
    data: Data,
) -> client::Result<client::QuicResponse> {
    let request = client::QuicRequest::new(name.into(), data);
    within(name, validator.query_axon(miner.axon(), request)).await
}

/// The data of an answer that must be a success.
pub(crate) async fn answer(
    validator: &client::LightningClient,
    miner: &Miner,
    name: &str,
    data: Data,
) -> Data {
    let response = ask(validator, miner, name, data).await.expect("an answer");
    assert_eq!((response.success, &response.error), (true, &None), "{name}");
    response.data
}

/// The error words of an answer that must be a failure.
pub(crate) async fn failure(
    validator: &client::LightningClient,
    miner: &Miner,
    name: &str,
    data: Data,
) -> String {
    let response = ask(validator, miner, name, data).await.expect("an answer");
    assert_eq!((response.success, response.data.len()), (false, 0), "{name}: {:?}", response.error);
    response.error.expect("words")
}

/// Opens the stream `name`.
pub(crate) async fn stream(
    validator: &client::LightningClient,
    miner: &Miner,
    name: &str,
    data: Data,
) -> client::StreamingResponse {
    let request = client::QuicRequest::new(name.into(), data);
    within(name, validator.query_axon_stream(miner.axon(), request)).await.expect("a stream")
}

/// All chunks of the stream `name`. A published client opens a stream without waiting for it; ours waits for the first
/// frame, so that what is wrong with that is reported earlier.
pub(crate) async fn chunks(
    validator: &client::LightningClient,
    miner: &Miner,
    name: &str,
    data: Data,
) -> client::Result<Vec<Vec<u8>>> {
    let request = client::QuicRequest::new(name.into(), data);
    let mut stream = within(name, validator.query_axon_stream(miner.axon(), request)).await?;
    within(name, stream.collect_all()).await
}

/// The error that there must be.
pub(crate) fn error<T>(result: client::Result<T>) -> (btlightning_interop::Class, String) {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => (error.class(), error.words().to_owned()),
    }
}
