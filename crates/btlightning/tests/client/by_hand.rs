//! A miner that is nothing but quinn and the bytes of the protocol: it can do what no server of ours would.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use btlightning::{Hotkey, QuicAxonInfo};
use btlightning_proto::identity::{CertFingerprint, Claim, Keypair, ReplayWindow};
use btlightning_proto::wire::{
    HandshakeRequest, encode_frame, encode_response_frame, parse_frame_header, to_payload,
    write_stream_chunk_header,
};
use btlightning_testkit::{SimNet, keys};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, RecvStream, SendStream, TransportConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::world::{Ping, World, axon_at};

/// The largest message that is read or written whole.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What a miner shows and allows before anybody has said anything.
#[derive(Default)]
pub(crate) struct Manners {
    /// Certificates behind its own.
    pub(crate) more_certificates: usize,
    pub(crate) tickets: usize,
    /// QUIC's tokens, for the address.
    pub(crate) tokens: u32,
    pub(crate) transport: TransportConfig,
}

/// A miner at an address, and the connections that it has had.
pub(crate) struct ByHand {
    pub(crate) addr: SocketAddr,
    pub(crate) hotkey: Hotkey,
    connections: Arc<Mutex<Vec<Connection>>>,
}

impl ByHand {
    /// A miner that does with each connection what `serve` does.
    pub(crate) fn start<F: Future<Output = Option<()>> + Send + 'static>(
        net: &SimNet,
        name: &str,
        addr: &str,
        mut manners: Manners,
        serve: impl Fn(Guest) -> F + Send + 'static,
    ) -> Self {
        // quinn's own is as long as the client's pause between two packets.
        manners.transport.max_idle_timeout(None);
        let addr = addr.parse().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let own = made.cert.der().clone();
        let fingerprint = CertFingerprint::of_certificate(&own);
        let mut chain = vec![own];
        chain.extend((0..manners.more_certificates).map(|_| CertificateDer::from(vec![0x30])));
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::crypto::ring::sign::any_supported_type(&key.into()).unwrap();
        let shown = Arc::new(Shown(Arc::new(rustls::sign::CertifiedKey::new(chain, key))));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown);
        tls.alpn_protocols = vec![b"btlightning".to_vec()];
        tls.send_tls13_tickets = manners.tickets;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let mut tokens = quinn::ValidationTokenConfig::default();
        tokens.sent(manners.tokens);
        config.validation_token_config(tokens);
        config.transport_config(Arc::new(manners.transport));

        let endpoint = net.endpoint(addr, Some(config)).unwrap();
        let keypair = Arc::new(Keypair::from_seed(keys::seed(name)));
        let hotkey = keypair.hotkey();
        let connections = Arc::<Mutex<Vec<Connection>>>::default();
        let seen = connections.clone();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                seen.lock().unwrap().push(connection.clone());
                tokio::spawn(serve(Guest { connection, keypair: keypair.clone(), fingerprint }));
            }
        });
        Self { addr, hotkey, connections }
    }

    pub(crate) fn axon(&self) -> QuicAxonInfo {
        axon_at(&self.hotkey, self.addr)
    }

    /// Every connection that there was.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.connections.lock().unwrap().clone()
    }

    /// How many of them are still open.
    pub(crate) fn live(&self) -> usize {
        self.connections().iter().filter(|connection| connection.close_reason().is_none()).count()
    }
}

impl World {
    pub(crate) fn by_hand<F: Future<Output = Option<()>> + Send + 'static>(
        &self,
        name: &str,
        addr: &str,
        manners: Manners,
        serve: impl Fn(Guest) -> F + Send + 'static,
    ) -> ByHand {
        ByHand::start(&self.net, name, addr, manners, serve)
    }
}

/// A validator's connection. Every wait ends with `None` when the connection does.
pub(crate) struct Guest {
    pub(crate) connection: Connection,
    keypair: Arc<Keypair>,
    fingerprint: CertFingerprint,
}

impl Guest {
    /// Serves the handshake.
    pub(crate) async fn prove(&self) -> Option<()> {
        let (mut send, answer) = self.handshake().await?;
        send.write_all(&answer).await.ok()?;
        send.finish().ok()
    }

    /// The handshake's stream, and what belongs on it.
    pub(crate) async fn handshake(&self) -> Option<(SendStream, Vec<u8>)> {
        let (send, mut receive) = self.connection.accept_bi().await.ok()?;
        let request = receive.read_to_end(MESSAGE_BYTES_MAX).await.ok()?;
        let (_, payload) = parse_frame_header(&request, MESSAGE_BYTES_MAX).unwrap();
        let request = HandshakeRequest::decode(payload).unwrap();
        let now = request.timestamp;
        let claim = Claim::parse(&request, self.fingerprint).unwrap().check_time(now, 60).unwrap();
        let claim = claim.verify().unwrap().admit(&mut ReplayWindow::new(8, 60), now).unwrap();
        let acceptance = claim.answer(self.keypair.hotkey(), now);
        let signature = self.keypair.sign(acceptance.text_to_sign().as_bytes());
        let response = acceptance.sign_with(&signature, "by hand".to_owned()).unwrap();
        Some((send, encode_frame(&response, MESSAGE_BYTES_MAX).unwrap()))
    }

    /// The next request's stream, with the request read.
    pub(crate) async fn asked(&self) -> Option<(SendStream, RecvStream)> {
        let (send, mut receive) = self.connection.accept_bi().await.ok()?;
        receive.read_to_end(MESSAGE_BYTES_MAX).await.ok()?;
        Some((send, receive))
    }
}

/// A good answer: a [`Ping`] of 1.
pub(crate) fn answer() -> Vec<u8> {
    encode_response_frame(1, MESSAGE_BYTES_MAX, |out| to_payload(&Ping { n: 1 }, out)).unwrap()
}

/// A chunk of a streaming answer.
pub(crate) fn chunk(data: &[u8]) -> Vec<u8> {
    [write_stream_chunk_header(data.len(), MESSAGE_BYTES_MAX).unwrap().as_ref(), data].concat()
}

#[derive(Debug)]
struct Shown(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Shown {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}
