//! Pins: a miner is known by its TLS key before anything is sent to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use btlightning::client::TLS_KEY_PINS_MAX;
use btlightning::{
    DialError, Hotkey, LightningClient, LightningError, LightningServerConfig, PeerState, TlsKeyPin,
};
use btlightning_testkit::SimNet;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::world::{Miner, Ping, World, axon_at, change, config, hotkey, within};

const ADDR: &str = "10.0.0.2:8443";

/// A pin that no key has.
fn other_pin() -> TlsKeyPin {
    TlsKeyPin::from_bytes([7; 32])
}

impl World {
    /// A miner that keeps its key in `file`, and the pin of that key.
    async fn miner_with_key(&self, name: &str, addr: &str, file: &Path) -> (Miner, TlsKeyPin) {
        let config = LightningServerConfig::default();
        let miner = self.start(name, addr, config, |server| server.set_tls_key_file(file)).await;
        let pin = miner.server.tls_key_pin().unwrap();
        (miner, pin)
    }
}

fn is_turned_away(state: &PeerState) -> bool {
    matches!(state, PeerState::Refused { reason, .. } if matches!(**reason, DialError::WrongTlsKey { .. }))
}

async fn pings(client: &LightningClient, hotkey: Hotkey) {
    client.call::<_, Ping>(hotkey, "echo", &Ping { n: 1 }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_miner_with_the_pinned_key_is_served_before_and_after_its_restart() {
    let (world, directory) = (World::new(60), tempfile::tempdir().unwrap());
    let file = directory.path().join("key.pem");
    let (miner, pin) = world.miner_with_key("miner", ADDR, &file).await;
    let hotkey = miner.hotkey;
    let mut client = world.client(config()).await;
    client.pin_tls_keys(HashMap::from([(hotkey, pin)])).unwrap();
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    pings(&client, hotkey).await;

    let mut changes = client.peer_changes();
    miner.stop().await;
    change(&mut changes, &hotkey, |state| !state.is_connected()).await;
    let (_miner, same) = world.miner_with_key("miner", ADDR, &file).await;
    assert_eq!(same, pin);
    change(&mut changes, &hotkey, PeerState::is_connected).await;
    pings(&client, hotkey).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_to_a_server_with_another_key() {
    let world = World::new(61);
    let mut listener = Listener::start(&world.net, ADDR.parse().unwrap());
    let mut client = world.client(config()).await;
    let (one, two) = (hotkey("one"), hotkey("two"));
    client.pin_tls_keys(HashMap::from([(one, other_pin()), (two, other_pin())])).unwrap();
    let axons = vec![axon_at(&one, listener.addr), axon_at(&two, listener.addr)];
    client.initialize_connections(axons.clone()).await.unwrap();

    for hotkey in [one, two] {
        let state = client.peer_state(&hotkey).unwrap();
        let PeerState::Refused { until: Some(_), reason } = state else { panic!("{state:?}") };
        assert_eq!(reason.reason(), "wrong_tls_key");
        assert!(reason.is_refusal() && reason.to_string().contains(&listener.pin.to_string()), "{reason}");
    }
    let error = client.call::<_, Ping>(one, "echo", &Ping { n: 1 }).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("wrong_tls_key", false));
    assert!(matches!(LightningError::from(error), LightningError::Handshake(_)));
    assert_eq!(listener.heard().await, Heard { stream_frames: 0, closed_for: "no_authenticated_hotkeys" });

    // The same listener does hear something of a client that has no pin for one of them.
    client.pin_tls_keys(HashMap::from([(one, other_pin())])).unwrap();
    let heard = listener.heard().await;
    assert!(heard.stream_frames > 0, "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hotkey_without_a_pin_lets_the_handshake_go_ahead_and_the_proven_ones_pin_counts() {
    let world = World::new(62);
    let miner = world.miner("miner", ADDR).await;
    let mut client = world.client(config()).await;
    let stranger = hotkey("stranger");
    let axons = vec![miner.axon(), axon_at(&stranger, miner.addr)];

    // The miner's pin is of another key than the server's, which proves the miner all the same.
    client.pin_tls_keys(HashMap::from([(miner.hotkey, other_pin())])).unwrap();
    client.initialize_connections(axons.clone()).await.unwrap();
    assert_eq!(miner.server.get_active_nonce_count().await, 1, "the handshake was made");
    assert!(is_turned_away(&client.peer_state(&miner.hotkey).unwrap()));
    assert!(is_turned_away(&client.peer_state(&stranger).unwrap()));

    // Where the stranger is the one with the pin, it is no business of the miner's.
    client.pin_tls_keys(HashMap::from([(stranger, other_pin())])).unwrap();
    client.update_miner_registry(axons).await.unwrap();
    pings(&client, miner.hotkey).await;
    let state = client.peer_state(&stranger).unwrap();
    let PeerState::Refused { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(reason.reason(), "wrong_hotkey");
}

#[tokio::test(start_paused = true)]
async fn a_new_pin_is_tried_at_once_and_other_miners_pins_change_nothing() {
    let (world, directory) = (World::new(63), tempfile::tempdir().unwrap());
    let (miner, pin) = world.miner_with_key("miner", ADDR, &directory.path().join("key.pem")).await;
    let mut client = world.client(config()).await;
    client.pin_tls_keys(HashMap::from([(miner.hotkey, other_pin())])).unwrap();
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    assert!(is_turned_away(&client.peer_state(&miner.hotkey).unwrap()));

    let pinned = [(miner.hotkey, other_pin()), (hotkey("somebody"), other_pin())];
    client.pin_tls_keys(HashMap::from(pinned)).unwrap();
    assert!(is_turned_away(&client.peer_state(&miner.hotkey).unwrap()), "nothing new for this miner");

    let (mut changes, before) = (client.peer_changes(), Instant::now());
    client.pin_tls_keys(HashMap::from([(miner.hotkey, pin)])).unwrap();
    change(&mut changes, &miner.hotkey, PeerState::is_connected).await;
    assert!(before.elapsed().as_secs() < 1, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_up_outlives_its_pin_and_its_successor_does_not() {
    let (world, directory) = (World::new(64), tempfile::tempdir().unwrap());
    let file = directory.path().join("key.pem");
    let (miner, pin) = world.miner_with_key("miner", ADDR, &file).await;
    let hotkey = miner.hotkey;
    let mut client = world.client(config()).await;
    client.pin_tls_keys(HashMap::from([(hotkey, pin)])).unwrap();
    client.initialize_connections(vec![miner.axon()]).await.unwrap();

    // The miner has published the key that it will have at its next start.
    client.pin_tls_keys(HashMap::from([(hotkey, other_pin())])).unwrap();
    pings(&client, hotkey).await;

    let mut changes = client.peer_changes();
    miner.stop().await;
    let _miner = world.miner_with_key("miner", ADDR, &file).await;
    change(&mut changes, &hotkey, is_turned_away).await;
}

#[tokio::test(start_paused = true)]
async fn pins_are_bounded() {
    let world = World::new(65);
    let mut listener = Listener::start(&world.net, ADDR.parse().unwrap());
    let mut client = world.client(config()).await;
    client.pin_tls_keys(HashMap::from([(hotkey("one"), other_pin())])).unwrap();
    let keys = (1u32..).filter_map(|n| {
        let mut key = [1; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        Hotkey::from_public_key(key).ok()
    });
    let many: HashMap<_, _> = keys.take(TLS_KEY_PINS_MAX + 1).map(|hotkey| (hotkey, other_pin())).collect();
    let error = client.pin_tls_keys(many.clone()).unwrap_err();
    assert!(matches!(error, LightningError::Config(_)), "{error}");

    client.initialize_connections(vec![axon_at(&hotkey("one"), listener.addr)]).await.unwrap();
    assert_eq!(listener.heard().await.stream_frames, 0, "the pins of before are in use");
    client.pin_tls_keys(many.into_iter().take(TLS_KEY_PINS_MAX).collect()).unwrap();
}

/// A server that says nothing, and counts what it is told.
struct Listener {
    addr: SocketAddr,
    pin: TlsKeyPin,
    connections: mpsc::UnboundedReceiver<quinn::Connection>,
}

#[derive(Debug, PartialEq, Eq)]
struct Heard {
    stream_frames: u64,
    closed_for: &'static str,
}

impl Listener {
    fn start(net: &SimNet, addr: SocketAddr) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![b"btlightning".to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = net.endpoint(addr, Some(config)).unwrap();
        let (sender, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                let _ = sender.send(connection);
            }
        });
        Self { addr, pin: TlsKeyPin::of_public_key(&made.key_pair.public_key_der()), connections }
    }

    /// What came over the oldest connection that was not asked about yet, until the client closed it.
    async fn heard(&mut self) -> Heard {
        let connection = within(self.connections.recv()).await.unwrap();
        let closed_for = match within(connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close)
                if *close.reason == *b"no_authenticated_hotkeys" =>
            {
                "no_authenticated_hotkeys"
            }
            other => panic!("{other:?}"),
        };
        Heard { stream_frames: connection.stats().frame_rx.stream, closed_for }
    }
}
