//! Who is let in, and who is believed.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use btlightning_interop::{Class, data, eventually, keys, within};

use super::stage::{
    MINER, Miner, VALIDATOR, answer, ask, client_config, connected, error, server_config, validator,
};
use crate::peers::{client, server};

#[tokio::test]
async fn both_sides_know_each_other() {
    let before = server::util::unix_timestamp_millis();
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    assert_eq!(validator.authenticated_hotkeys().await, HashSet::from([keys(MINER).hotkey]));

    let stats = miner.server.get_connection_stats().await.expect("stats");
    assert_eq!((stats["total_connections"].as_str(), stats["verified_connections"].as_str()), ("1", "1"));
    let id = miner.connection_of(VALIDATOR).await.expect("the connection");
    let at = id.strip_prefix(&format!("conn_{}_", keys(VALIDATOR).hotkey)).expect("the connection's id");
    let now = server::util::unix_timestamp_millis();
    assert!((before..=now).contains(&at.parse().expect("milliseconds")), "{id}");
    assert_eq!(miner.server.get_active_nonce_count().await, 1);
    assert_eq!(answer(&validator, &miner, "echo", data([("a", 1.into())])).await, data([("a", 1.into())]));
}

#[tokio::test]
async fn an_observer_is_told_who_came() {
    let guests = Arc::new(Guests::default());
    let miner = Miner::made(MINER, server_config(), |server| {
        server.set_handshake_observer(guests.clone());
    })
    .await;
    let _validator = connected(&miner).await;
    let seen = || guests.0.lock().expect("not poisoned").clone();
    let seen = eventually("the observer", async || (!seen().is_empty()).then(seen)).await;
    assert_eq!(seen, [(keys(VALIDATOR).hotkey, IpAddr::from(Ipv4Addr::LOCALHOST))]);
}

#[derive(Default)]
struct Guests(Mutex<Vec<(String, IpAddr)>>);

#[async_trait::async_trait]
impl server::HandshakeObserver for Guests {
    async fn observe_successful_handshake(&self, validator_hotkey: &str, source_ip: IpAddr) {
        self.0.lock().expect("not poisoned").push((validator_hotkey.to_owned(), source_ip));
    }
}

#[tokio::test]
async fn signers_may_be_closures() {
    let miner = Miner::made(MINER, server_config(), |server| {
        let signer = server::Sr25519Signer::from_seed(keys(MINER).seed);
        let callback = server::CallbackSigner::new(move |text: &[u8]| server::Signer::sign(&signer, text));
        server.set_miner_signer(Box::new(callback));
    })
    .await;
    let mut validator = validator(VALIDATOR, client_config()).await;
    let signer = client::Sr25519Signer::from_seed(keys(VALIDATOR).seed);
    let callback = client::CallbackSigner::new(move |text: &[u8]| client::Signer::sign(&signer, text));
    validator.set_signer(Box::new(callback));
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test]
async fn a_miner_that_signs_with_another_key_is_not_believed() {
    let miner =
        Miner::made(MINER, server_config(), |server| server.set_miner_keypair(keys("other").seed)).await;
    let validator = validator(VALIDATOR, client_config()).await;
    let (class, words) = error(ask(&validator, &miner, "echo", data([])).await);
    assert_eq!(class, Class::Handshake, "{words}");
    assert!(validator.authenticated_hotkeys().await.is_empty());
}

#[tokio::test]
async fn a_miner_that_cannot_sign_lets_nobody_in() {
    let miner = Miner::made(MINER, server_config(), |server| {
        server.set_miner_signer(Box::new(server::CallbackSigner::new(|_: &[u8]| {
            Err(server::LightningError::Signing("no key".into()))
        })));
    })
    .await;
    let validator = validator(VALIDATOR, client_config()).await;
    let (class, words) = error(ask(&validator, &miner, "echo", data([])).await);
    assert_eq!(class, Class::Handshake, "{words}");
    assert_eq!(miner.connections().await, 0);
}

#[tokio::test]
async fn a_validator_that_signs_with_another_key_is_not_believed() {
    let miner = Miner::start().await;
    let mut validator = validator(VALIDATOR, client_config()).await;
    validator.set_signer(Box::new(client::Sr25519Signer::from_seed(keys("other").seed)));
    let (class, words) = error(ask(&validator, &miner, "echo", data([])).await);
    assert_eq!(class, Class::Handshake, "{words}");
    assert_eq!(miner.connections().await, 0);
}

#[tokio::test]
async fn a_validator_that_cannot_sign_says_so() {
    let miner = Miner::start().await;
    let mut validator = validator(VALIDATOR, client_config()).await;
    validator.set_signer(Box::new(client::CallbackSigner::new(|_: &[u8]| {
        Err(client::LightningError::Signing("no key".into()))
    })));
    let (class, words) = error(ask(&validator, &miner, "echo", data([])).await);
    assert_eq!(class, Class::Signing);
    assert!(words.contains("no key"), "{words}");
}

#[tokio::test]
async fn without_a_signer_there_are_no_connections() {
    let miner = Miner::start().await;
    let mut validator = client::LightningClient::new(keys(VALIDATOR).hotkey);
    let refused = within("no connection", validator.initialize_connections(vec![miner.axon()])).await;
    assert_eq!(error(refused), (Class::Signing, "No signer configured".to_owned()));
}

#[tokio::test]
async fn before_there_is_a_socket_nothing_can_be_asked() {
    let miner = Miner::start().await;
    let validator = client::LightningClient::new(keys(VALIDATOR).hotkey);
    let nothing = (Class::Connection, "QUIC endpoint not initialized".to_owned());
    assert_eq!(error(ask(&validator, &miner, "echo", data([])).await), nothing);
    assert_eq!(error(validator.update_miner_registry(vec![miner.axon()]).await), nothing);
    let request = client::QuicRequest::new("echo".into(), data([]));
    assert_eq!(error(validator.query_axon_stream(miner.axon(), request).await), nothing);
    validator.close_all_connections().await.expect("nothing to close");
}
