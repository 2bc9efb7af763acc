//! The newer API of this project: values of the program's own types, and a fan-out in one call.

use std::sync::Arc;

use anyhow::{Result, ensure};
use btlightning_ours::server::{Caller, Handler};
use btlightning_ours::{
    CallOptions, Hotkey, LightningClient, LightningClientConfig, LightningServer, LightningServerConfig,
    QuicAxonInfo, Sr25519Signer,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::on_ours;
use crate::distance::Distance;
use crate::keys;
use crate::place::{Layout, Threads};
use crate::system::{Client, Server, ServerAt, System};

const NAME: &str = "echo";

/// The program.
#[derive(Debug, Clone, Copy)]
pub struct Typed {
    /// What the client runs on.
    pub client: Threads,
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

#[derive(Serialize, Deserialize)]
struct Echo {
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

#[derive(Serialize)]
struct Ask<'a> {
    #[serde(with = "serde_bytes")]
    data: &'a [u8],
}

async fn echo(_: Caller, echo: Echo) -> Result<Echo, String> {
    Ok(echo)
}

impl System for Typed {
    type Server = TypedServer;
    type Client = TypedClient;

    fn layout(&self) -> Layout {
        Layout { server: Threads::Multi, client: self.client }
    }

    async fn start(&self, index: u32, port: u16) -> Result<TypedServer> {
        let keys = keys::miner(index);
        let mut server = on_ours::server(keys.hotkey.clone(), port, server_config()?, self.distance)?;
        server.set_miner_keypair(keys.seed);
        server.register(NAME, Handler::typed(echo));
        server.start().await?;
        let at = ServerAt { addr: server.local_addr()?, key: keys.hotkey };
        let server = Arc::new(server);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Ok(TypedServer { at, server, serving })
    }

    async fn connect(&self, servers: &[ServerAt], identity: u32) -> Result<TypedClient> {
        let keys = keys::validator(identity);
        let mut client = on_ours::client(keys.hotkey, client_config()?, self.distance)?;
        client.set_signer(Box::new(Sr25519Signer::from_seed(keys.seed)));
        let axon = |server: &ServerAt| {
            let addr = on_ours::dialled(server.addr, self.distance);
            QuicAxonInfo::new(server.key.clone(), addr.ip().to_string(), addr.port(), 4)
        };
        let axons: Vec<_> = servers.iter().map(axon).collect();
        client.initialize_connections(axons.clone()).await?;
        let miners = servers.iter().map(|server| Ok(server.key.parse()?)).collect::<Result<_>>()?;
        Ok(TypedClient { client, axons, miners })
    }
}

/// Its server.
pub struct TypedServer {
    at: ServerAt,
    server: Arc<LightningServer>,
    serving: JoinHandle<btlightning_ours::Result<()>>,
}

impl Server for TypedServer {
    fn at(&self) -> ServerAt {
        self.at.clone()
    }

    async fn stop(self) -> Result<()> {
        self.server.stop().await?;
        Ok(self.serving.await??)
    }
}

/// Its client.
pub struct TypedClient {
    client: LightningClient,
    axons: Vec<QuicAxonInfo>,
    miners: Vec<Hotkey>,
}

impl Client for TypedClient {
    type Answer = Vec<u8>;

    async fn connected(&self) -> usize {
        self.client.peers().iter().filter(|peer| peer.state.is_connected()).count()
    }

    async fn echo(&self, server: usize, payload: &Bytes) -> Result<Vec<u8>> {
        let reply = self.client.call::<_, Echo>(self.miners[server], NAME, &Ask { data: payload }).await?;
        Ok(reply.value.data)
    }

    async fn fan_out(self: &Arc<Self>, servers: usize, payload: &Bytes) -> Result<Vec<Vec<u8>>> {
        let (miners, ask) = (self.miners[..servers].iter().copied(), Ask { data: payload });
        let mut calls = self.client.fan_out::<_, Echo>(miners, NAME, &ask, CallOptions::new())?;
        let mut answers = Vec::with_capacity(servers);
        while let Some((_, reply)) = calls.next().await {
            answers.push(reply?.value.data);
        }
        ensure!(answers.len() == servers, "{} of {servers} servers answered", answers.len());
        Ok(answers)
    }

    async fn come_back(&self) -> Result<()> {
        Ok(self.client.update_miner_registry(self.axons.clone()).await?)
    }

    async fn close(&self) -> Result<()> {
        Ok(self.client.close_all_connections().await?)
    }
}
