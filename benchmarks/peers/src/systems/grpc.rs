//! gRPC: tonic with TLS, one unary method, a message with one field. The service is what `protoc` would have generated
//! from
//!
//! ```text
//! package benchmark;
//! message Payload { bytes data = 1; }
//! service Echo { rpc Echo(Payload) returns (Payload); }
//! ```

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::task::{Context, Poll};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tonic::body::Body;
use tonic::client::Grpc as GrpcClient;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc as GrpcServer, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{
    Certificate as Pem, Channel, ClientTlsConfig, Endpoint, Identity, Server as TonicServer, ServerTlsConfig,
};
use tonic_prost::ProstCodec;

use super::certificate::{self, Certificate};
use crate::place::{Layout, Threads};
use crate::system::{Client, Server, ServerAt, System};

const METHOD: &str = "/benchmark.Echo/Echo";

/// The largest message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// HTTP/2 windows as large as btlightning's; the defaults of 64 KiB to 1 MiB would be the bottleneck of 1 MB payloads.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;

/// How many requests one connection may have in flight, as with btlightning.
const STREAMS: u32 = 128;

/// tonic.
#[derive(Debug)]
pub struct Grpc {
    certificate: Certificate,
}

impl Grpc {
    /// tonic on a multi-thread runtime.
    pub fn new() -> Result<Self> {
        // tonic's server takes whatever provider the process has. That one is set already is fine: it is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { certificate: Certificate::new()? })
    }
}

fn tonic_server(certificate: &Certificate) -> Result<TonicServer> {
    let identity = Identity::from_pem(&certificate.certificate_pem, &certificate.key_pem);
    let server = TonicServer::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS);
    Ok(server.tls_config(ServerTlsConfig::new().identity(identity))?)
}

fn tonic_endpoint(server: &ServerAt) -> Result<Endpoint> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Pem::from_pem(&server.key))
        .domain_name(certificate::SERVER_NAME);
    let endpoint = Endpoint::from_shared(format!("https://{}", server.addr))?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .tcp_nodelay(true);
    Ok(endpoint.tls_config(tls)?)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

type Codec = ProstCodec<Payload, Payload>;

#[derive(Clone)]
struct EchoService;

impl NamedService for EchoService {
    const NAME: &'static str = "benchmark.Echo";
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            if request.uri().path() != METHOD {
                return Ok(tonic::Status::unimplemented("only Echo is there").into_http());
            }
            let mut grpc = GrpcServer::new(Codec::default())
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.unary(EchoMethod, request).await)
        })
    }
}

struct EchoMethod;

impl UnaryService<Payload> for EchoMethod {
    type Response = Payload;
    type Future = std::future::Ready<Result<tonic::Response<Payload>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Payload>) -> Self::Future {
        std::future::ready(Ok(tonic::Response::new(request.into_inner())))
    }
}

impl System for Grpc {
    type Server = RunningServer;
    type Client = Channels;

    fn layout(&self) -> Layout {
        Layout { server: Threads::Multi, client: Threads::Multi }
    }

    async fn start(&self, _index: u32, port: u16) -> Result<RunningServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let at = ServerAt { addr: listener.local_addr()?, key: self.certificate.certificate_pem.clone() };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let (stop, stopped) = oneshot::channel::<()>();
        let router = tonic_server(&self.certificate)?.add_service(EchoService);
        let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
            let _ = stopped.await;
        }));
        Ok(RunningServer { at, stop, serving })
    }

    async fn connect(&self, servers: &[ServerAt], _identity: u32) -> Result<Channels> {
        let mut dials = JoinSet::new();
        for (n, server) in servers.iter().enumerate() {
            let endpoint = tonic_endpoint(server)?;
            dials.spawn(async move { (n, endpoint.connect().await) });
        }
        let mut clients: Vec<_> = servers.iter().map(|_| None).collect();
        while let Some(dialled) = dials.join_next().await {
            let (n, channel) = dialled?;
            clients[n] = channel.ok().map(|channel| {
                GrpcClient::new(channel)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX)
            });
        }
        Ok(Channels { clients })
    }
}

/// tonic's server, and how it is told to stop.
pub struct RunningServer {
    at: ServerAt,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server for RunningServer {
    fn at(&self) -> ServerAt {
        self.at.clone()
    }

    async fn stop(self) -> Result<()> {
        drop(self.stop);
        Ok(self.serving.await??)
    }
}

/// A channel to each server that could be reached. tonic connects it anew when it is used after it was lost.
pub struct Channels {
    clients: Vec<Option<GrpcClient<Channel>>>,
}

impl Client for Channels {
    type Answer = Bytes;

    async fn connected(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    async fn echo(&self, server: usize, payload: &Bytes) -> Result<Bytes> {
        let mut client = self.clients[server].clone().ok_or_else(|| anyhow!("not connected"))?;
        client.ready().await?;
        let request = tonic::Request::new(Payload { data: payload.clone() });
        let answer = client.unary(request, PathAndQuery::from_static(METHOD), Codec::default()).await?;
        Ok(answer.into_inner().data)
    }

    /// Nothing to do: a channel is closed when it is dropped.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
