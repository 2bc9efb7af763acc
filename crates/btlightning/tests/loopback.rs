//! Over the operating system's own sockets: both address families, large payloads, a restart on the same port.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use btlightning::server::Handler;
use btlightning::{LightningClient, LightningServer, QuicAxonInfo, QuicRequest, Sr25519Signer};
use btlightning_testkit::keys;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Blob {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

struct Miner {
    server: Arc<LightningServer>,
    addr: SocketAddr,
    serving: JoinHandle<btlightning::Result<()>>,
}

impl Miner {
    async fn start(host: &str, port: u16) -> btlightning::Result<Self> {
        let signer = Sr25519Signer::from_seed(keys::seed("miner"));
        let mut server = LightningServer::new(signer.hotkey().to_string(), host.to_owned(), port)?;
        server.set_miner_signer(Box::new(signer));
        server.register("echo", Handler::typed(|_, blob: Blob| async move { Ok::<_, String>(blob) }));
        server.start().await?;
        let (addr, server) = (server.local_addr()?, Arc::new(server));
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Ok(Self { server, addr, serving })
    }

    async fn stop(self) {
        self.server.stop().await.unwrap();
        timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
    }

    fn axon_at(&self, ip: IpAddr) -> QuicAxonInfo {
        let hotkey = Sr25519Signer::from_seed(keys::seed("miner")).hotkey();
        QuicAxonInfo::new(hotkey.to_string(), ip.to_string(), self.addr.port(), 4)
    }
}

fn client() -> LightningClient {
    let signer = Sr25519Signer::from_seed(keys::seed("validator"));
    let mut client = LightningClient::new(signer.hotkey().to_string());
    client.set_signer(Box::new(signer));
    client
}

fn blob(bytes: usize) -> Blob {
    Blob { bytes: (0..bytes).map(|n| (n % 251) as u8).collect() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_address_families_reach_a_dual_stack_server() {
    let miner = Miner::start("::", 0).await.unwrap();
    let mut client = client();
    client.create_endpoint().await.unwrap();
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let reply = timeout(PATIENCE, client.call::<_, Blob>(miner.axon_at(ip), "echo", &blob(1000))).await;
        assert_eq!(reply.unwrap().unwrap().value, blob(1000), "{ip}");
    }
    client.close_all_connections().await.unwrap();
    miner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_miner_is_reached() {
    let miner = Miner::start("::1", 0).await.unwrap();
    let mut client = client();
    client.initialize_connections(vec![miner.axon_at(Ipv6Addr::LOCALHOST.into())]).await.unwrap();
    let stats = client.get_connection_stats().await.unwrap();
    assert_eq!(stats[&format!("connection_[::1]:{}", miner.addr.port())], "active");
    miner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_of_any_size_come_back_whole() {
    let miner = Miner::start("127.0.0.1", 0).await.unwrap();
    let mut client = client();
    let axon = miner.axon_at(Ipv4Addr::LOCALHOST.into());
    client.initialize_connections(vec![axon.clone()]).await.unwrap();
    for bytes in [0, 1, 1200, 65_535, 65_536, 1 << 20, 16 << 20] {
        let reply = timeout(PATIENCE, client.call::<_, Blob>(&axon, "echo", &blob(bytes))).await;
        assert_eq!(reply.unwrap().unwrap().value, blob(bytes), "{bytes} bytes");
    }
    // Many at once, by the published call.
    let client = Arc::new(client);
    let mut queries = JoinSet::new();
    for n in 0..64usize {
        let (client, axon) = (client.clone(), axon.clone());
        queries.spawn(async move {
            let data = HashMap::from([("bytes".to_owned(), Value::Binary(blob(n * 997).bytes))]);
            let request = QuicRequest::new("echo".into(), data.clone());
            let response = client.query_axon(axon, request).await.unwrap().into_result().unwrap();
            assert_eq!(response.data, data);
        });
    }
    timeout(PATIENCE, queries.join_all()).await.unwrap();
    miner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miner_that_restarts_on_its_port_is_found_again() {
    let miner = Miner::start("127.0.0.1", 0).await.unwrap();
    let mut client = client();
    let axon = miner.axon_at(Ipv4Addr::LOCALHOST.into());
    client.initialize_connections(vec![axon.clone()]).await.unwrap();
    let port = miner.addr.port();
    miner.stop().await;
    // The port is free as soon as the server has stopped: an operator's restart must not fail.
    let again = Miner::start("127.0.0.1", port).await.unwrap();
    let reply = timeout(PATIENCE, client.call::<_, Blob>(&axon, "echo", &blob(10))).await;
    let reply = match reply.unwrap() {
        Err(error) if error.is_retryable() => client.call::<_, Blob>(&axon, "echo", &blob(10)).await,
        other => other,
    };
    assert_eq!(reply.unwrap().value, blob(10));
    again.stop().await;
}
