//! TLS for peers by hand: clients that believe every certificate, servers with a certificate of one's choosing.

use std::error::Error;
use std::sync::Arc;

use btlightning_proto::identity::CertFingerprint;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"btlightning";

/// A client's configuration that believes every certificate. An empty `alpn` offers no protocol at all.
///
/// # Errors
/// None with this provider.
pub fn client_config(
    alpn: &[u8],
    change: impl FnOnce(&mut TransportConfig),
) -> Result<quinn::ClientConfig, Box<dyn Error + Send + Sync>> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    change(&mut transport);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client(alpn)?)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The same without QUIC.
///
/// # Errors
/// None with this provider.
pub fn client(alpn: &[u8]) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = provider();
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
        .with_no_client_auth();
    if !alpn.is_empty() {
        config.alpn_protocols = vec![alpn.to_vec()];
    }
    Ok(config)
}

/// A certificate, and the key to sign with, which need not be its own.
#[derive(Debug)]
pub struct Shown {
    /// What the server shows.
    pub certificate: CertificateDer<'static>,
    /// What the server signs with.
    pub key: PrivateKeyDer<'static>,
    /// Certificates that follow it, of a byte each. None by default.
    pub others: usize,
    /// How many session tickets follow each handshake. Two by default, as rustls has it.
    pub tickets: usize,
}

impl Shown {
    /// A new certificate and its key.
    ///
    /// # Errors
    /// None with this provider.
    pub fn fresh() -> Result<Self, rcgen::Error> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        Ok(Self { certificate: made.cert.der().clone(), key: key.into(), others: 0, tickets: 2 })
    }

    /// The certificate of another server, seen on a connection to it, with a key that is not the certificate's.
    ///
    /// # Errors
    /// As [`fresh`](Self::fresh), and when the connection's peer has shown no certificate.
    pub fn stolen_from(connection: &Connection) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self { certificate: certificate(connection)?, ..Self::fresh()? })
    }

    /// A server's configuration that shows it.
    ///
    /// # Errors
    /// When the key is none.
    pub fn server_config(self) -> Result<quinn::ServerConfig, Box<dyn Error + Send + Sync>> {
        let key = ring::sign::any_supported_type(&self.key)?;
        // No check that the two belong together: that is the point of it.
        let others = std::iter::repeat_n(CertificateDer::from(vec![0]), self.others);
        let chain = std::iter::once(self.certificate).chain(others).collect();
        let certified = Arc::new(CertifiedKey::new(chain, key));
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Only(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = self.tickets;
        Ok(quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?)))
    }
}

/// Of the certificate that the server showed.
///
/// # Errors
/// When it showed none.
pub fn fingerprint(connection: &Connection) -> Result<CertFingerprint, Box<dyn Error + Send + Sync>> {
    Ok(CertFingerprint::of_certificate(&certificate(connection)?))
}

fn certificate(connection: &Connection) -> Result<CertificateDer<'static>, Box<dyn Error + Send + Sync>> {
    let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'_>>>().ok());
    shown.and_then(|chain| chain.into_iter().next()).ok_or_else(|| "the peer showed no certificate".into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
