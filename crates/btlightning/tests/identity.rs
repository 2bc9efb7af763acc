//! Nobody can be somebody else's miner: the attacks on the binding between a hotkey and a TLS connection, carried out in
//! full over real sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use btlightning::server::Handler;
use btlightning::{
    LightningClient, LightningClientConfig, LightningServer, PeerState, QuicAxonInfo, Sr25519Signer,
};
use btlightning_proto::wire::FRAME_HEADER_BYTES;
use btlightning_testkit::keys;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_man_in_the_middle_with_the_public_certificate_alone_is_refused() {
    let miner = Miner::start("miner").await;
    let to_miner = connect_without_looking(miner.addr).await;
    let stolen = certificate_of(&to_miner);
    // The miner's certificate, and a key that is not the certificate's. The handshake is passed on word for word, so
    // every sr25519 signature in it is right.
    let middle = Middle::start(stolen, to_miner);

    let mut client = miner.client();
    client.initialize_connections(vec![miner.axon_at(middle.addr)]).await.unwrap();
    let state = client.peer_state(&miner.hotkey()).unwrap();
    let PeerState::Refused { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(reason.reason(), "incompatible", "{reason}");
    assert_eq!(middle.passed_on(), 0, "the client must not even begin the handshake");

    // The same client is served by the miner itself.
    client.update_miner_registry(vec![miner.axon_at(miner.addr)]).await.unwrap();
    assert!(client.peer_state(&miner.hotkey()).unwrap().is_connected());
}

#[tokio::test]
async fn a_handshake_passed_on_by_one_miner_to_another_is_refused() {
    let victim = Miner::start("victim").await;
    let to_victim = connect_without_looking(victim.addr).await;
    // The relay holds its own certificate's key, as every miner does.
    let (certificate, key) = fresh_certificate();
    let relay = Middle::start_with(certificate, key, to_victim);

    let mut client = victim.client();
    client.initialize_connections(vec![victim.axon_at(relay.addr)]).await.unwrap();
    let state = client.peer_state(&victim.hotkey()).unwrap();
    let PeerState::Refused { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(reason.reason(), "refused", "the victim sees a fingerprint that is not its own: {reason}");
    assert_eq!(relay.passed_on(), 1, "the handshake was passed on");
    assert_eq!(victim.server.get_connection_stats().await.unwrap()["verified_connections"], "0");
}

/// A miner that echoes, serving on loopback.
struct Miner {
    name: &'static str,
    server: Arc<LightningServer>,
    addr: SocketAddr,
}

impl Miner {
    async fn start(name: &'static str) -> Self {
        let signer = Sr25519Signer::from_seed(keys::seed(name));
        let mut server = LightningServer::new(signer.hotkey().to_string(), "127.0.0.1".into(), 0).unwrap();
        server.set_miner_signer(Box::new(signer));
        server.register(
            "echo",
            Handler::unary(|call| async move { btlightning::server::Response::from_map(&call.to_map()?) }),
        );
        server.start().await.unwrap();
        let (addr, server) = (server.local_addr().unwrap(), Arc::new(server));
        tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Self { name, server, addr }
    }

    fn hotkey(&self) -> btlightning::Hotkey {
        Sr25519Signer::from_seed(keys::seed(self.name)).hotkey()
    }

    fn axon_at(&self, addr: SocketAddr) -> QuicAxonInfo {
        QuicAxonInfo::new(self.hotkey().to_string(), addr.ip().to_string(), addr.port(), 4)
    }

    fn client(&self) -> LightningClient {
        let signer = Sr25519Signer::from_seed(keys::seed("validator"));
        let config = LightningClientConfig { connect_timeout: Duration::from_secs(5), ..Default::default() };
        let mut client = LightningClient::with_config(signer.hotkey().to_string(), config).unwrap();
        client.set_signer(Box::new(signer));
        client
    }
}

/// Answers QUIC with a certificate and a key of its choosing, and passes every stream's bytes on to a real miner and
/// back.
struct Middle {
    addr: SocketAddr,
    passed: std::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    _serving: JoinHandle<()>,
}

impl Middle {
    fn start(stolen: CertificateDer<'static>, onward: Connection) -> Self {
        let (_, key) = fresh_certificate();
        Self::start_with(stolen, key, onward)
    }

    fn start_with(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        onward: Connection,
    ) -> Self {
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let shown = Arc::new(Shown(Arc::new(CertifiedKey::new(vec![certificate], key))));
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown);
        config.alpn_protocols = vec![b"btlightning".to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()));
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = endpoint.local_addr().unwrap();
        let (passing, passed) = mpsc::unbounded_channel();
        let serving = tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                let _ = pass_on(&connection, &onward, &passing).await;
            }
        });
        Self { addr, passed: passed.into(), _serving: serving }
    }

    /// How many streams were passed on since the last time it was asked.
    fn passed_on(&self) -> usize {
        let mut passed = self.passed.lock().unwrap();
        std::iter::from_fn(|| passed.try_recv().ok()).count()
    }
}

/// Passes one stream on, in both directions.
async fn pass_on(
    from: &Connection,
    to: &Connection,
    passing: &mpsc::UnboundedSender<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut back, mut asked) = from.accept_bi().await?;
    let request = asked.read_to_end(1 << 20).await?;
    assert!(request.len() > FRAME_HEADER_BYTES);
    passing.send(())?;
    let (mut ask, mut answered) = to.open_bi().await?;
    ask.write_all(&request).await?;
    ask.finish()?;
    back.write_all(&answered.read_to_end(1 << 20).await?).await?;
    back.finish()?;
    back.stopped().await?;
    Ok(())
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn fresh_certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.key_pair.serialize_der()).into())
}

fn certificate_of(connection: &Connection) -> CertificateDer<'static> {
    let identity = connection.peer_identity().unwrap();
    identity.downcast_ref::<Vec<CertificateDer<'static>>>().unwrap()[0].clone()
}

/// What an attacker does: connects to a miner and believes every certificate.
async fn connect_without_looking(addr: SocketAddr) -> Connection {
    let connecting = common::socket().connect(addr, "localhost").unwrap();
    timeout(PATIENCE, connecting).await.unwrap().unwrap()
}
