//! A self-signed certificate, for the systems that know no other identity.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name that the certificate is for.
pub const SERVER_NAME: &str = "localhost";

/// A certificate and its key, new in each process.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate in PEM; it is its own root.
    pub certificate_pem: String,
    /// The key in PEM.
    pub key_pem: String,
}

impl Certificate {
    /// A new one.
    pub fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        Ok(Self { certificate_pem: made.cert.pem(), key_pem: made.key_pair.serialize_pem() })
    }

    /// As rustls wants it.
    pub fn to_rustls(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        Ok((certificate, key))
    }
}

/// The roots of a client that trusts exactly these certificates.
pub fn roots<'a>(pems: impl IntoIterator<Item = &'a str>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).context("a key that is no PEM")?;
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The cryptography of every system: ring's.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
