//! TLS 1.3 with certificates that nobody vouches for.
//!
//! A miner makes a self-signed certificate each time it starts. Nothing in it is believed but the key, where that was
//! pinned beforehand; the handshake's signatures bind the certificate's fingerprint to a hotkey. That binding is worth something only if the peer holds the
//! certificate's private key, so the client verifies the `CertificateVerify` message (RFC 8446, section 4.4.3) like any
//! other TLS client; without that, whoever has seen a miner's public certificate could present it.

mod session;

use std::sync::{Arc, OnceLock};

use btlightning_proto::identity::{CertFingerprint, TlsKeyPin};
use rcgen::{CertificateParams, SerialNumber};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, SignatureScheme};

use self::session::{ClientTls, ServerTls, Unusable};
use super::tls_key::TlsKey;
use crate::error::{LightningError, Result};

/// The application protocol that both sides must name (RFC 7301).
pub(crate) const ALPN: &[u8] = b"btlightning";

/// The longest certificate that a client takes from a server, in bytes. Those of miners have some 400; with an RSA key of
/// 4,096 bits they would have 1,500.
const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;

/// A server's certificate, made afresh, with its key, and the fingerprint that handshakes sign.
pub(crate) struct ServerIdentity {
    pub(crate) crypto: Arc<ServerTls>,
    pub(crate) fingerprint: CertFingerprint,
}

impl ServerIdentity {
    /// Makes a new self-signed certificate of `key` for `localhost`.
    pub(crate) fn new(key: &TlsKey) -> Result<Self> {
        let certificate = certificate(key)?;
        let key = PrivatePkcs8KeyDer::from(key.pair.serialize_der());
        let fingerprint = CertFingerprint::of_certificate(&certificate);

        let config = server_tls(certificate, key).map_err(no_certificate)?;
        let crypto = Arc::new(ServerTls::new(config).map_err(no_certificate)?);
        Ok(Self { crypto, fingerprint })
    }
}

/// No two certificates are alike, even of one key: a handshake is signed for the certificate that was seen, so what was
/// accepted before a restart is worth nothing after it.
fn certificate(key: &TlsKey) -> Result<CertificateDer<'static>> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(no_certificate)?;
    let mut params = CertificateParams::new(["localhost".to_owned()]).map_err(no_certificate)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params.self_signed(&key.pair).map_err(no_certificate)?.der().clone())
}

fn no_certificate(error: impl std::fmt::Display) -> LightningError {
    LightningError::Config(format!("no TLS certificate: {error}"))
}

fn server_tls(
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
) -> std::result::Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Resumption is off on both sides: a resumed session would skip CertificateVerify.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What both sides can do. AES-128 comes first, to which any peer agrees (RFC 8446, section 9.1): it has fewer rounds than
/// AES-256, and its keys are made with SHA-256, for which processors have instructions, instead of SHA-384.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    // Those that are not it keep their order.
    provider.cipher_suites.sort_by_key(|suite| *suite != TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// The client's side of TLS: the same for all clients of the process, which keeps nothing of any connection.
pub(crate) fn client_crypto() -> Result<Arc<ClientTls>> {
    static CRYPTO: OnceLock<Arc<ClientTls>> = OnceLock::new();
    if let Some(crypto) = CRYPTO.get() {
        return Ok(crypto.clone());
    }
    let crypto = client_tls().and_then(ClientTls::new);
    let crypto = crypto.map_err(|error| LightningError::Config(format!("no TLS client: {error}")))?;
    Ok(CRYPTO.get_or_init(|| Arc::new(crypto)).clone())
}

fn client_tls() -> std::result::Result<rustls::ClientConfig, Unusable> {
    let provider = provider();
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PossessionVerifier { provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What a server showed of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// Of its certificate.
    pub(crate) fingerprint: CertFingerprint,
    /// Of the key in it, which the server has proven to hold.
    pub(crate) key: TlsKeyPin,
}

/// What the server showed on this connection; `None` if that was no certificate.
pub(crate) fn shown_by(connection: &quinn::Connection) -> Option<Shown> {
    let identity = connection.peer_identity()?;
    let leaf = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?.first()?;
    // Read by the parser that CertificateVerify was checked with.
    let parsed = ParsedCertificate::try_from(leaf).ok()?;
    let key = TlsKeyPin::of_public_key(&parsed.subject_public_key_info());
    Some(Shown { fingerprint: CertFingerprint::of_certificate(leaf), key })
}

/// Accepts any certificate whose private key the server proves to hold, if it comes alone.
#[derive(Debug)]
struct PossessionVerifier {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PossessionVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        // All that is shown is kept for the life of the connection. Nobody vouches for a miner's certificate, so no
        // others belong to it.
        if !intermediates.is_empty() {
            return Err(rustls::Error::General("the server shows more than its own certificate".to_owned()));
        }
        if end_entity.len() > CERTIFICATE_BYTES_MAX {
            return Err(rustls::Error::General(format!(
                "the server's certificate has {} bytes; it may have {CERTIFICATE_BYTES_MAX}",
                end_entity.len()
            )));
        }
        // Names and issuers mean nothing here; the sr25519 handshake says whose certificate this is.
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_session_can_be_resumed() {
        let made = TlsKey::generate().unwrap();
        let key = PrivatePkcs8KeyDer::from(made.pair.serialize_der());
        let config = server_tls(certificate(&made).unwrap(), key).unwrap();
        assert_eq!(config.send_tls13_tickets, 0, "a client is given nothing to resume with");
        assert_eq!(config.max_early_data_size, 0);
        assert_eq!(config.alpn_protocols, [ALPN]);
    }

    #[test]
    fn the_fastest_suite_is_the_first_and_none_is_missing() {
        let suites = provider().cipher_suites.clone();
        assert_eq!(suites[0], TLS13_AES_128_GCM_SHA256);
        assert_eq!(suites.len(), ring::default_provider().cipher_suites.len());
        assert!(ring::default_provider().cipher_suites.iter().all(|suite| suites.contains(suite)));
    }

    #[test]
    fn a_server_shows_one_certificate_of_a_certificates_size() {
        let verifier = PossessionVerifier { provider: Arc::new(ring::default_provider()) };
        let leaf = certificate(&TlsKey::generate().unwrap()).unwrap();
        let verify = |leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]| {
            let name = ServerName::try_from("localhost").unwrap();
            verifier.verify_server_cert(leaf, others, &name, &[], UnixTime::now())
        };
        verify(&leaf, &[]).unwrap();
        let more = verify(&leaf, &[CertificateDer::from(vec![0])]).unwrap_err();
        assert!(more.to_string().contains("more than its own certificate"), "{more}");
        let long = CertificateDer::from(vec![0; CERTIFICATE_BYTES_MAX + 1]);
        let long = verify(&long, &[]).unwrap_err();
        assert!(long.to_string().contains("8193 bytes"), "{long}");
    }

    #[test]
    fn one_key_makes_another_certificate_each_time() {
        let key = TlsKey::generate().unwrap();
        let (one, two) = (ServerIdentity::new(&key).unwrap(), ServerIdentity::new(&key).unwrap());
        assert_ne!(one.fingerprint, two.fingerprint);
    }
}
