//! A program as it is written for the published package: maps of dynamic values, a synapse handler, one `query_axon` a
//! request. Compiled against whichever package the module around this one calls `btlightning`.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rmpv::Value;
use tokio::task::JoinHandle;

use super::btlightning::{
    AsyncSynapseHandler, LightningClient, LightningClientConfig, LightningServer, LightningServerConfig,
    QuicAxonInfo, QuicRequest, SynapseHandler,
};
use crate::distance::Distance;
use crate::keys;
use crate::place::{Layout, Threads};
use crate::system::{Client, Server, ServerAt, System};

const NAME: &str = "echo";

type Map = HashMap<String, Value>;

type Answered = super::btlightning::Result<Map>;

/// The program.
#[derive(Debug, Clone, Copy)]
pub struct Dynamic {
    /// Whether the handler is an asynchronous one.
    pub async_handler: bool,
    /// Where the other side is.
    pub distance: Distance,
}

/// All that is configured of a server.
fn server_config() -> Result<LightningServerConfig> {
    Ok(LightningServerConfig::builder()
        // Everybody is at one address here.
        .max_handshake_attempts_per_minute(1_000_000)
        .max_connections(8192)
        .build()?)
}

/// All that is configured of a client.
fn client_config() -> Result<LightningClientConfig> {
    Ok(LightningClientConfig::builder().build()?)
}

struct Echo;

impl SynapseHandler for Echo {
    fn handle(&self, _synapse_type: &str, data: Map) -> Answered {
        Ok(data)
    }
}

#[async_trait::async_trait]
impl AsyncSynapseHandler for Echo {
    async fn handle(&self, _synapse_type: &str, data: Map) -> Answered {
        Ok(data)
    }
}

impl System for Dynamic {
    type Server = DynamicServer;
    type Client = DynamicClient;

    fn layout(&self) -> Layout {
        Layout { server: Threads::Multi, client: Threads::Multi }
    }

    async fn start(&self, index: u32, port: u16) -> Result<DynamicServer> {
        let keys = keys::miner(index);
        let mut server = super::server(keys.hotkey.clone(), port, server_config()?, self.distance)?;
        server.set_miner_keypair(keys.seed);
        if self.async_handler {
            server.register_async_synapse_handler(NAME.into(), Arc::new(Echo)).await?;
        } else {
            server.register_synapse_handler(NAME.into(), Arc::new(Echo)).await?;
        }
        server.start().await?;
        let at = ServerAt { addr: server.local_addr()?, key: keys.hotkey };
        let server = Arc::new(server);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Ok(DynamicServer { at, server, serving })
    }

    async fn connect(&self, servers: &[ServerAt], identity: u32) -> Result<DynamicClient> {
        let keys = keys::validator(identity);
        let mut client = super::client(keys.hotkey, client_config()?, self.distance)?;
        client.set_signer(Box::new(super::btlightning::Sr25519Signer::from_seed(keys.seed)));
        let axon = |server: &ServerAt| {
            let addr = super::dialled(server.addr, self.distance);
            QuicAxonInfo::new(server.key.clone(), addr.ip().to_string(), addr.port(), 4)
        };
        let axons: Vec<_> = servers.iter().map(axon).collect();
        client.initialize_connections(axons.clone()).await?;
        Ok(DynamicClient { client, axons })
    }
}

/// Its server.
pub struct DynamicServer {
    at: ServerAt,
    server: Arc<LightningServer>,
    serving: JoinHandle<super::btlightning::Result<()>>,
}

impl Server for DynamicServer {
    fn at(&self) -> ServerAt {
        self.at.clone()
    }

    async fn stop(self) -> Result<()> {
        self.server.stop().await?;
        Ok(self.serving.await??)
    }
}

/// Its client.
pub struct DynamicClient {
    client: LightningClient,
    axons: Vec<QuicAxonInfo>,
}

impl Client for DynamicClient {
    type Answer = Vec<u8>;

    async fn connected(&self) -> usize {
        self.client.authenticated_hotkeys().await.len()
    }

    async fn echo(&self, server: usize, payload: &Bytes) -> Result<Vec<u8>> {
        let data = HashMap::from([("data".to_owned(), Value::Binary(payload.to_vec()))]);
        let request = QuicRequest::new(NAME.to_owned(), data);
        let response = self.client.query_axon(self.axons[server].clone(), request).await?;
        let mut data = response.into_result()?.data;
        match data.remove("data").context("an answer without data")? {
            Value::Binary(bytes) => Ok(bytes),
            other => bail!("data of another kind: {other}"),
        }
    }

    async fn come_back(&self) -> Result<()> {
        Ok(self.client.update_miner_registry(self.axons.clone()).await?)
    }

    async fn close(&self) -> Result<()> {
        Ok(self.client.close_all_connections().await?)
    }
}
