//! What the servers ask of QUIC and TLS.

use std::time::Duration;

use btlightning_interop::{BareValidator, Make, keys, within};

use crate::servers::both;

/// TLS's alert no_application_protocol, as QUIC carries it (RFC 9001, section 4.8).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

#[tokio::test]
async fn the_protocol_has_to_be_offered() {
    for server in both(30).await {
        for protocols in [&[][..], &[&b"h3"[..]], &[b"btlightning2"]] {
            let refused = BareValidator::offering(server.addr, protocols).await.expect_err("a refusal");
            let quinn::ConnectionError::ConnectionClosed(close) = refused else {
                panic!("{:?}: {refused}", server.make)
            };
            assert_eq!(u64::from(close.error_code), NO_APPLICATION_PROTOCOL, "{:?}", server.make);
        }
        let protocols = [&b"later"[..], b"btlightning"];
        let client = BareValidator::offering(server.addr, &protocols).await.expect("a connection");
        client.authenticate(&keys("validator")).await;
    }
}

#[tokio::test]
async fn there_are_no_unidirectional_streams() {
    for server in both(30).await {
        let client = BareValidator::connect(server.addr).await;
        client.authenticate(&keys("validator")).await;
        let opened = tokio::time::timeout(Duration::from_millis(100), client.connection.open_uni()).await;
        assert!(opened.is_err(), "{:?}", server.make);
        // Neither reads datagrams. A published server says that it would.
        let says_that_it_takes_datagrams = client.connection.max_datagram_size().is_some();
        assert_eq!(says_that_it_takes_datagrams, server.make == Make::Theirs);
    }
}

#[tokio::test]
async fn every_start_has_a_certificate_of_its_own() {
    let mut fingerprints = Vec::new();
    for server in both(30).await.into_iter().chain(both(30).await) {
        let client = within("a connection", BareValidator::connect(server.addr)).await;
        fingerprints.push(client.fingerprint());
    }
    fingerprints.sort();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 4);
}
