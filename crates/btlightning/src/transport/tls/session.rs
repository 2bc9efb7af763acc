//! TLS of one connection, whose work, and whose memory, end with the handshake.
//!
//! rustls keeps 4 KiB of state for a connection as long as it lives. After the handshake QUIC needs none of that but the
//! secrets of key updates (RFC 9001, section 6).
//!
//! What a server may say later are session tickets (RFC 8446, section 4.6.1). rustls derives a secret for each of them and
//! copies the server's certificates, even where no session is ever resumed; all under the lock of the connection, and a
//! ticket takes no more than 18 bytes. Nobody here wants one: whatever comes after the handshake is counted and dropped. A
//! client has nothing to say by then.

use std::any::Any;
use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::crypto::{
    ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn::{ConnectError, ConnectionId, Side};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{TransportError, TransportErrorCode};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::quic::{ClientConnection, Connection, KeyChange, Secrets, ServerConnection, Suite, Version};

/// What a server may say after the handshake, in bytes. A server with rustls' defaults sends two tickets of 200 or so.
const LATE_BYTES_MAX: usize = 16 * 1024;

/// How a client does TLS.
pub(crate) struct ClientTls {
    config: Arc<rustls::ClientConfig>,
    /// Of no connection: knows what QUIC's version says of a Retry.
    like: Arc<dyn Session>,
}

/// How a server does TLS.
pub(crate) struct ServerTls {
    config: Arc<rustls::ServerConfig>,
    /// Knows what comes before a connection.
    quic: QuicServerConfig,
}

impl ClientTls {
    pub(crate) fn new(config: rustls::ClientConfig) -> Result<Self, Unusable> {
        let config = Arc::new(config);
        let quic = Arc::new(QuicClientConfig::try_from(config.clone())?);
        let nothing =
            TransportParameters::read(Side::Server, &mut &[][..]).map_err(|_| Unusable::Parameters)?;
        let like = quic.start_session(QUIC_V1, "localhost", &nothing)?;
        Ok(Self { config, like: like.into() })
    }
}

impl ServerTls {
    pub(crate) fn new(config: rustls::ServerConfig) -> Result<Self, Unusable> {
        let config = Arc::new(config);
        Ok(Self { quic: QuicServerConfig::try_from(config.clone())?, config })
    }

    fn session(&self, version: u32, params: &TransportParameters) -> TlsSession {
        let version = version_of(version);
        let tls = ServerConnection::new(self.config.clone(), version, bytes_of(params));
        TlsSession::new(tls.map(Connection::Server), version, None)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    Suites(#[from] NoInitialCipherSuite),
    #[error(transparent)]
    Start(#[from] ConnectError),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("no transport parameters")]
    Parameters,
}

const QUIC_V1: u32 = 1;

/// The version as rustls has it. quinn knows no others.
fn version_of(version: u32) -> Version {
    match version {
        0xff00_001d..=0xff00_0020 => Version::V1Draft,
        _ => Version::V1,
    }
}

fn bytes_of(params: &TransportParameters) -> Vec<u8> {
    let mut bytes = Vec::new();
    params.write(&mut bytes);
    bytes
}

impl ClientTls {
    fn session(
        &self,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<TlsSession, ConnectError> {
        let invalid = || ConnectError::InvalidServerName(server_name.to_owned());
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| invalid())?;
        let version = version_of(version);
        // It fails if the configuration has no suite for QUIC, which was looked at when it was made.
        let tls = ClientConnection::new(self.config.clone(), version, name, bytes_of(params));
        let tls = Connection::Client(tls.map_err(|_| ConnectError::UnsupportedVersion)?);
        Ok(TlsSession::new(Ok(tls), version, Some(self.like.clone())))
    }
}

impl ClientConfig for ClientTls {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Ok(Box::new(self.session(version, server_name, params)?))
    }
}

impl ServerConfig for ServerTls {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.quic.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.quic.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        Box::new(self.session(version, params))
    }
}

struct TlsSession {
    side: Side,
    version: Version,
    /// As long as it is needed.
    tls: Option<Box<Connection>>,
    /// Of a client: knows what QUIC's version says of a Retry.
    like: Option<Arc<dyn Session>>,
    /// What key updates are made of.
    next: Option<Box<Secrets>>,
    /// What the other side has shown and announced, as it was at the end of the handshake.
    certificates: Option<Vec<CertificateDer<'static>>>,
    announced: Option<Box<[u8]>>,
    /// What came after the handshake, in bytes.
    late_bytes: usize,
}

impl TlsSession {
    fn new(tls: Result<Connection, rustls::Error>, version: Version, like: Option<Arc<dyn Session>>) -> Self {
        Self {
            side: if like.is_some() { Side::Client } else { Side::Server },
            version,
            tls: tls.ok().map(Box::new),
            like,
            next: None,
            certificates: None,
            announced: None,
            late_bytes: 0,
        }
    }

    /// Lets go of what only the handshake has needed.
    fn end(&mut self) {
        let Some(tls) = self.tls.take() else { return };
        self.announced = tls.quic_transport_parameters().map(Into::into);
        self.certificates = shown_in(&tls);
    }

    /// What comes after the handshake.
    fn read_late(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.late_bytes = self.late_bytes.saturating_add(buf.len());
        let bytes_max = if self.side.is_client() { LATE_BYTES_MAX } else { 0 };
        if self.late_bytes > bytes_max {
            return Err(TransportError {
                code: TransportErrorCode::CRYPTO_BUFFER_EXCEEDED,
                frame: None,
                reason: format!("more than {bytes_max} bytes of TLS after the handshake"),
            });
        }
        Ok(false)
    }
}

impl Session for TlsSession {
    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let Some(tls) = self.tls.as_mut().filter(|tls| tls.is_handshaking()) else {
            return self.read_late(buf);
        };
        tls.read_hs(buf).map_err(|error| match tls.alert() {
            Some(alert) => TransportError {
                code: TransportErrorCode::crypto(alert.into()),
                frame: None,
                reason: error.to_string(),
            },
            None => TransportError {
                code: TransportErrorCode::PROTOCOL_VIOLATION,
                frame: None,
                reason: format!("TLS error: {error}"),
            },
        })?;
        // Nobody waits for what TLS says before its end.
        Ok(false)
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        let side = if side.is_client() { rustls::Side::Client } else { rustls::Side::Server };
        keys_of(initial_suite().keys(dst_cid, side, self.version))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let shown = match &self.tls {
            Some(tls) => shown_in(tls),
            None => self.certificates.clone(),
        };
        Some(Box::new(shown?))
    }

    // Nothing is sent before the handshake is done.
    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.side.is_client().then_some(false)
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let announced = match &self.tls {
            Some(tls) => tls.quic_transport_parameters(),
            None => self.announced.as_deref(),
        };
        let Some(mut announced) = announced else { return Ok(None) };
        Ok(Some(TransportParameters::read(self.side, &mut announced)?))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let tls = self.tls.as_mut()?;
        match tls.write_hs(buf) {
            Some(KeyChange::Handshake { keys }) => Some(keys_of(keys)),
            Some(KeyChange::OneRtt { keys, next }) => {
                self.next = Some(Box::new(next));
                Some(keys_of(keys))
            }
            None => {
                if buf.is_empty() && self.next.is_some() && !tls.is_handshaking() {
                    self.end();
                }
                None
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let next = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(next.local), remote: Box::new(next.remote) })
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.like.as_ref().is_some_and(|like| like.is_valid_retry(orig_dst_cid, header, payload))
    }

    fn export_keying_material(
        &self,
        _output: &mut [u8],
        _label: &[u8],
        _context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

fn shown_in(tls: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    Some(tls.peer_certificates()?.iter().map(|one| one.clone().into_owned()).collect())
}

/// The suite of a connection's first packets (RFC 9001, section 5.2).
fn initial_suite() -> Suite {
    match TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite()) {
        Some(suite) => suite,
        None => unreachable!("it is QUIC's own"),
    }
}

fn keys_of(keys: rustls::quic::Keys) -> Keys {
    Keys {
        header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
        packet: KeyPair { local: Box::new(keys.local.packet), remote: Box::new(keys.remote.packet) },
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::transport::tls::{ALPN, client_crypto};

    /// A client and a server after the handshake, and the server's so many tickets.
    fn handshake(tickets: usize) -> (TlsSession, TlsSession, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = tickets;
        let server = ServerTls::new(config).unwrap();
        let params = |side| TransportParameters::read(side, &mut &[][..]).unwrap();
        let mut server = server.session(QUIC_V1, &params(Side::Client));
        let client = client_crypto().unwrap();
        let mut client = client.session(QUIC_V1, "localhost", &params(Side::Server)).unwrap();

        // One flight each, cut where the keys change.
        flight(&mut client, &mut server);
        flight(&mut server, &mut client);
        flight(&mut client, &mut server);
        assert!(!client.is_handshaking() && !server.is_handshaking());
        let mut late = Vec::new();
        // As QUIC asks: until there is nothing more.
        assert!(server.write_handshake(&mut late).is_none());
        assert!(server.write_handshake(&mut Vec::new()).is_none());
        assert!(client.write_handshake(&mut Vec::new()).is_none());
        (client, server, late)
    }

    fn flight(from: &mut dyn Session, to: &mut dyn Session) {
        loop {
            let mut said = Vec::new();
            let keys = from.write_handshake(&mut said);
            if !said.is_empty() {
                to.read_handshake(&said).unwrap();
            }
            if keys.is_none() {
                return;
            }
        }
    }

    #[test]
    fn tickets_are_dropped_and_a_flood_of_them_is_an_error() {
        let (mut client, _, late) = handshake(2);
        assert!(!late.is_empty() && late.len() < LATE_BYTES_MAX, "{} bytes", late.len());
        assert!(!client.read_handshake(&late).unwrap(), "an honest server's are nothing to complain of");
        // Whatever they say: they are not read.
        client.read_handshake(&[0xff; 64]).unwrap();

        let (mut client, _, late) = handshake(400);
        assert!(late.len() > LATE_BYTES_MAX, "{} bytes", late.len());
        let flood = late.chunks(1000).find_map(|chunk| client.read_handshake(chunk).err()).unwrap();
        assert_eq!(flood.code, TransportErrorCode::CRYPTO_BUFFER_EXCEEDED);
        assert!(flood.reason.contains("after the handshake"), "{flood}");
    }

    #[test]
    fn after_the_handshake_only_what_is_needed_is_kept() {
        let (mut client, mut server, late) = handshake(0);
        assert!(late.is_empty());
        assert!(client.tls.is_none() && server.tls.is_none());
        let shown = client.peer_identity().unwrap().downcast::<Vec<CertificateDer<'_>>>().unwrap();
        assert_eq!(shown.len(), 1);
        assert!(client.transport_parameters().unwrap().is_some());
        // A client has nothing more to say.
        assert_eq!(server.read_handshake(&[0]).unwrap_err().code, TransportErrorCode::CRYPTO_BUFFER_EXCEEDED);
        // One for the connection's keys after the first, and updates from then on.
        for _ in 0..3 {
            let (ours, theirs) = (client.next_1rtt_keys().unwrap(), server.next_1rtt_keys().unwrap());
            let mut packet = BytesMut::from(&b"headsaid"[..]);
            packet.resize(8 + ours.local.tag_len(), 0);
            ours.local.encrypt(7, &mut packet, 4);
            let mut said = packet.split_off(4);
            theirs.remote.decrypt(7, &packet, &mut said).unwrap();
            assert_eq!(said[..4], b"said"[..]);
        }
    }
}
