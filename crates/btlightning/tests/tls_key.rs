//! A server's TLS key: new at each start, or kept in a file.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;

use btlightning::{LightningError, TlsKeyPin};
use common::{Miner, Raw, config, new_server};

#[tokio::test]
async fn a_key_that_is_kept_is_the_same_at_the_next_start_and_its_certificate_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let miner = Miner::with(config(), |server| {
            assert_eq!(server.tls_key_pin(), None, "there is no key before the start");
            server.set_tls_key_file(&path);
        })
        .await;
        let raw = Raw::connect(&miner).await;
        let pin = miner.server.tls_key_pin().unwrap();
        assert_eq!(pin, pin_of_the_certificate(&raw.connection), "the pin is of the key that clients see");
        raw.accepted("validator").await;
        seen.push((pin, raw.fingerprint));
        miner.server.stop().await.unwrap();
        assert_eq!(miner.server.tls_key_pin(), Some(pin));
    }
    assert_eq!(seen[0].0, seen[1].0);
    assert_ne!(
        seen[0].1, seen[1].1,
        "a handshake that was accepted before a restart is for another certificate"
    );
}

#[tokio::test]
async fn a_key_that_is_not_kept_has_no_pin() {
    let miner = Miner::start().await;
    assert_eq!(miner.server.tls_key_pin(), None);
}

#[tokio::test]
async fn a_server_does_not_start_without_the_key_that_it_should_have() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    fs::write(&path, "not a key").unwrap();
    let mut server = new_server(config());
    server.set_tls_key_file(&path);
    let error = server.start().await.unwrap_err();
    assert!(matches!(&error, LightningError::Config(why) if why.contains("key.pem")), "{error}");
    assert!(server.local_addr().is_err(), "nothing is bound");

    fs::remove_file(&path).unwrap();
    server.start().await.unwrap();
    assert!(server.tls_key_pin().is_some());
}

fn pin_of_the_certificate(connection: &quinn::Connection) -> TlsKeyPin {
    let identity = connection.peer_identity().unwrap();
    let chain = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().unwrap();
    let parsed = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
    TlsKeyPin::of_public_key(&parsed.subject_public_key_info())
}
