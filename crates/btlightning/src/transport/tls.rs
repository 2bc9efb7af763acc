//! TLS 1.3 with certificates that nobody vouches for.
//!
//! A miner makes a self-signed certificate each time it starts. Nothing in it is believed: the handshake's signatures
//! bind the certificate's fingerprint to a hotkey. That binding is worth something only if the peer holds the
//! certificate's private key, so the client verifies the `CertificateVerify` message (RFC 8446, section 4.4.3) like any
//! other TLS client; without that, whoever has seen a miner's public certificate could present it.

use std::sync::Arc;

use btlightning_proto::identity::CertFingerprint;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::error::{LightningError, Result};

/// The application protocol that both sides must name (RFC 7301).
pub(crate) const ALPN: &[u8] = b"btlightning";

/// A server's certificate with its key, made afresh, and the fingerprint that handshakes sign.
pub(crate) struct ServerIdentity {
    pub(crate) crypto: Arc<QuicServerConfig>,
    pub(crate) fingerprint: CertFingerprint,
}

impl ServerIdentity {
    /// Makes a new key and a self-signed certificate for `localhost`.
    pub(crate) fn generate() -> Result<Self> {
        let failed =
            |error: &dyn std::fmt::Display| LightningError::Config(format!("no TLS certificate: {error}"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| failed(&e))?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let fingerprint = CertFingerprint::of_certificate(&certificate);

        let config = server_tls(certificate, key).map_err(|e| failed(&e))?;
        let crypto = Arc::new(QuicServerConfig::try_from(config).map_err(|e| failed(&e))?);
        Ok(Self { crypto, fingerprint })
    }
}

fn server_tls(
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
) -> std::result::Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Resumption is off on both sides: a resumed session would skip CertificateVerify.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The client's side of TLS.
pub(crate) fn client_crypto() -> Result<Arc<QuicClientConfig>> {
    let failed = |error: &dyn std::fmt::Display| LightningError::Config(format!("no TLS client: {error}"));
    let provider = Arc::new(ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| failed(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PossessionVerifier { provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(QuicClientConfig::try_from(config).map_err(|e| failed(&e))?))
}

/// The fingerprint of the certificate that the server showed on this connection, if it showed one.
pub(crate) fn peer_fingerprint(connection: &quinn::Connection) -> Option<CertFingerprint> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    chain.first().map(|leaf| CertFingerprint::of_certificate(leaf))
}

/// Accepts any certificate whose private key the server proves to hold.
#[derive(Debug)]
struct PossessionVerifier {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PossessionVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
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
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let config = server_tls(made.cert.der().clone(), key).unwrap();
        assert_eq!(config.send_tls13_tickets, 0, "a client is given nothing to resume with");
        assert_eq!(config.max_early_data_size, 0);
        assert_eq!(config.alpn_protocols, [ALPN]);
    }
}
