//! Nobody can be somebody else's miner: the attacks on the binding between a hotkey and a TLS connection, carried out in
//! full over real sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use btlightning::server::Handler;
use btlightning::{
    LightningClient, LightningClientConfig, LightningServer, PeerState, QuicAxonInfo, Sr25519Signer,
};
use btlightning_testkit::by_hand::Impostor;
use btlightning_testkit::by_hand::tls::Shown;
use btlightning_testkit::keys;
use quinn::Connection;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_man_in_the_middle_with_the_public_certificate_alone_is_refused() {
    let miner = Miner::start("miner").await;
    let to_miner = connect_without_looking(miner.addr).await;
    // The miner's certificate, and a key that is not the certificate's.
    let middle = Impostor::start(Shown::stolen_from(&to_miner).unwrap(), to_miner).unwrap();

    let mut client = miner.client();
    client.initialize_connections(vec![miner.axon_at(middle.addr)]).await.unwrap();
    let state = client.peer_state(&miner.hotkey()).unwrap();
    let PeerState::Refused { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(reason.reason(), "incompatible", "{reason}");
    assert_eq!(middle.passed_on(), 0, "the client must not even begin the handshake");

    // The same client is served by the miner itself.
    client.update_miner_registry(vec![miner.axon_at(miner.addr)]).await.unwrap();
    assert!(client.peer_state(&miner.hotkey()).unwrap().is_connected());
}

#[tokio::test]
async fn a_handshake_passed_on_by_one_miner_to_another_is_refused() {
    let victim = Miner::start("victim").await;
    let to_victim = connect_without_looking(victim.addr).await;
    // The relay holds its own certificate's key, as every miner does.
    let relay = Impostor::start(Shown::fresh().unwrap(), to_victim).unwrap();

    let mut client = victim.client();
    client.initialize_connections(vec![victim.axon_at(relay.addr)]).await.unwrap();
    let state = client.peer_state(&victim.hotkey()).unwrap();
    let PeerState::Refused { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(reason.reason(), "refused", "the victim sees a fingerprint that is not its own: {reason}");
    assert_eq!(relay.passed_on(), 1, "the handshake was passed on");
    assert_eq!(victim.server.get_connection_stats().await.unwrap()["verified_connections"], "0");
}

/// A miner that echoes, serving on loopback.
struct Miner {
    name: &'static str,
    server: Arc<LightningServer>,
    addr: SocketAddr,
}

impl Miner {
    async fn start(name: &'static str) -> Self {
        let signer = Sr25519Signer::from_seed(keys::seed(name));
        let mut server = LightningServer::new(signer.hotkey().to_string(), "127.0.0.1".into(), 0).unwrap();
        server.set_miner_signer(Box::new(signer));
        server.register(
            "echo",
            Handler::unary(|call| async move { btlightning::server::Response::from_map(&call.to_map()?) }),
        );
        server.start().await.unwrap();
        let (addr, server) = (server.local_addr().unwrap(), Arc::new(server));
        tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Self { name, server, addr }
    }

    fn hotkey(&self) -> btlightning::Hotkey {
        Sr25519Signer::from_seed(keys::seed(self.name)).hotkey()
    }

    fn axon_at(&self, addr: SocketAddr) -> QuicAxonInfo {
        QuicAxonInfo::new(self.hotkey().to_string(), addr.ip().to_string(), addr.port(), 4)
    }

    fn client(&self) -> LightningClient {
        let signer = Sr25519Signer::from_seed(keys::seed("validator"));
        let config = LightningClientConfig { connect_timeout: Duration::from_secs(5), ..Default::default() };
        let mut client = LightningClient::with_config(signer.hotkey().to_string(), config).unwrap();
        client.set_signer(Box::new(signer));
        client
    }
}

/// What an attacker does: connects to a miner and believes every certificate.
async fn connect_without_looking(addr: SocketAddr) -> Connection {
    let connecting = common::socket().connect(addr, "localhost").unwrap();
    timeout(PATIENCE, connecting).await.unwrap().unwrap()
}
