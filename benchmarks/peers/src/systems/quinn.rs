//! quinn with nothing on top: the payload is the whole request, on a stream of its own, and comes back as it is.

mod transport;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, VarInt};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use self::transport::{bind, endpoint};
use super::certificate::{self, Certificate};
use crate::distance::Distance;
use crate::place::{Layout, Place, Threads};
use crate::system::{Client, Server, ServerAt, System};

const ALPN: &[u8] = b"echo";

/// The largest payload that is read.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long one dial may take before the next one is made.
const DIAL_MAX: Duration = Duration::from_secs(1);

/// quinn in one of several layouts.
pub struct Quinn {
    layout: Layout,
    distance: Distance,
    certificate: Certificate,
    /// Where the client's endpoints are driven, if not where they are called.
    driver: Option<OnceLock<Place>>,
}

impl Quinn {
    /// One multi-thread runtime.
    pub fn shared(distance: Distance) -> Result<Self> {
        Self::with(Layout { server: Threads::Multi, client: Threads::Multi }, distance, None)
    }

    /// A thread for each side.
    pub fn split(distance: Distance) -> Result<Self> {
        Self::with(Layout { server: Threads::Own, client: Threads::Own }, distance, None)
    }

    /// A thread for each side, and the client's is called from a multi-thread runtime.
    pub fn called(distance: Distance) -> Result<Self> {
        let layout = Layout { server: Threads::Own, client: Threads::Multi };
        Self::with(layout, distance, Some(OnceLock::new()))
    }

    /// A thread for the server, as btlightning's has one, and the client on the program's multi-thread runtime.
    pub fn server_thread(distance: Distance) -> Result<Self> {
        Self::with(Layout { server: Threads::Own, client: Threads::Multi }, distance, None)
    }

    fn with(layout: Layout, distance: Distance, driver: Option<OnceLock<Place>>) -> Result<Self> {
        Ok(Self { layout, distance, certificate: Certificate::new()?, driver })
    }

    /// Where the client's endpoints are driven.
    fn drive(&self) -> Result<Handle> {
        match &self.driver {
            None => Ok(Handle::current()),
            Some(place) => match place.get() {
                Some(place) => Ok(place.handle().clone()),
                None => {
                    let made = Place::new(Threads::Own)?;
                    Ok(place.get_or_init(|| made).handle().clone())
                }
            },
        }
    }
}

fn server_config(certificate: &Certificate, distance: Distance) -> Result<ServerConfig> {
    let (chain, key) = certificate.to_rustls()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(certificate::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport::of_server(distance)));
    Ok(config)
}

fn client_config(servers: &[ServerAt], distance: Distance, buffer_bytes: usize) -> Result<ClientConfig> {
    let mut pems: Vec<_> = servers.iter().map(|server| server.key.as_str()).collect();
    pems.dedup();
    let mut tls = rustls::ClientConfig::builder_with_provider(certificate::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(certificate::roots(pems)?)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport::of_client(distance, buffer_bytes)));
    Ok(config)
}

impl System for Quinn {
    type Server = QuinnServer;
    type Client = QuinnClient;

    fn layout(&self) -> Layout {
        self.layout
    }

    async fn start(&self, _index: u32, port: u16) -> Result<QuinnServer> {
        let config = server_config(&self.certificate, self.distance)?;
        let endpoint = endpoint(bind((Ipv4Addr::LOCALHOST, port).into())?, Some(config))?;
        let at = ServerAt { addr: endpoint.local_addr()?, key: self.certificate.certificate_pem.clone() };
        let serving = tokio::spawn(serve(endpoint.clone()));
        Ok(QuinnServer { at, endpoint, serving })
    }

    async fn connect(&self, servers: &[ServerAt], _identity: u32) -> Result<QuinnClient> {
        let socket = bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let config = client_config(servers, self.distance, socket.recv_buffer_size()?)?;
        let (driver, servers) = (self.drive()?, servers.to_vec());
        let connecting = async move {
            let mut endpoint = endpoint(socket, None)?;
            endpoint.set_default_client_config(config);
            let mut dials = JoinSet::new();
            for (n, server) in servers.iter().enumerate() {
                let (endpoint, addr) = (endpoint.clone(), server.addr);
                dials.spawn(async move { (n, dial(&endpoint, addr).await) });
            }
            let mut links: Vec<_> = servers
                .iter()
                .map(|server| Link { addr: server.addr, connection: RwLock::default() })
                .collect();
            while let Some(dialled) = dials.join_next().await {
                let (n, connection) = dialled?;
                links[n].connection = RwLock::new(connection.ok().map(Arc::new));
            }
            anyhow::Ok((endpoint, links))
        };
        // Connections are driven where they are made.
        let (endpoint, links) = driver.spawn(connecting).await??;
        Ok(QuinnClient { endpoint, links, driver })
    }
}

async fn dial(endpoint: &Endpoint, addr: SocketAddr) -> Result<Connection> {
    let dial = endpoint.connect(addr, certificate::SERVER_NAME)?;
    Ok(tokio::time::timeout(DIAL_MAX, dial).await??)
}

async fn serve(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(answer(send, receive));
            }
        });
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream) -> Result<()> {
    let payload = receive.read_to_end(PAYLOAD_BYTES_MAX).await?;
    send.write_chunk(payload.into()).await?;
    Ok(send.finish()?)
}

/// An endpoint and the task that accepts.
pub struct QuinnServer {
    at: ServerAt,
    endpoint: Endpoint,
    serving: JoinHandle<()>,
}

impl Server for QuinnServer {
    fn at(&self) -> ServerAt {
        self.at.clone()
    }

    async fn stop(self) -> Result<()> {
        self.endpoint.close(VarInt::from_u32(0), b"stopped");
        self.endpoint.wait_idle().await;
        Ok(self.serving.await?)
    }
}

/// An endpoint and a connection to each server.
pub struct QuinnClient {
    endpoint: Endpoint,
    links: Vec<Link>,
    driver: Handle,
}

struct Link {
    addr: SocketAddr,
    connection: RwLock<Option<Arc<Connection>>>,
}

impl Link {
    fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Client for QuinnClient {
    type Answer = Vec<u8>;

    async fn connected(&self) -> usize {
        let connections = self.links.iter().filter_map(Link::connection);
        connections.filter(|connection| connection.close_reason().is_none()).count()
    }

    async fn echo(&self, server: usize, payload: &Bytes) -> Result<Vec<u8>> {
        let connection = self.links[server].connection().context("not connected")?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_chunk(payload.clone()).await?;
        send.finish()?;
        Ok(receive.read_to_end(PAYLOAD_BYTES_MAX).await?)
    }

    /// Dials the server anew if the connection to it is lost.
    async fn mend(&self, server: usize) {
        let link = &self.links[server];
        if link.connection().is_some_and(|connection| connection.close_reason().is_none()) {
            return;
        }
        let (endpoint, addr) = (self.endpoint.clone(), link.addr);
        let dialled = self.driver.spawn(async move { dial(&endpoint, addr).await }).await;
        let connection = dialled.ok().and_then(Result::ok).map(Arc::new);
        *link.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    async fn hang_up(&self) -> Result<()> {
        for connection in self.links.iter().filter_map(Link::connection) {
            connection.close(VarInt::from_u32(0), b"closed");
        }
        self.endpoint.wait_idle().await;
        Ok(())
    }

    async fn come_back(&self) -> Result<()> {
        for server in 0..self.links.len() {
            self.mend(server).await;
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.endpoint.close(VarInt::from_u32(0), b"closed");
        self.endpoint.wait_idle().await;
        Ok(())
    }
}
