//! Certificates for the QUIC tests. Ed25519, whose signatures all have one length.

use quinn::{ClientConfig, ServerConfig, TransportConfig};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{sync::Arc, time::Duration};

pub(crate) const NAME: &str = "miner";

pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(crate) fn generate() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Self { certificate: certificate.into(), key }
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let chain = vec![self.certificate.clone()];
        let mut config = ServerConfig::with_single_cert(chain, self.key.clone_key()).unwrap();
        config.transport_config(transport());
        config
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        config.transport_config(transport());
        config
    }
}

/// Connections end after ten seconds without news.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(10).try_into().unwrap()));
    Arc::new(transport)
}
