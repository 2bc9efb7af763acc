//! What clients send: handshakes, requests, and what they say in TLS.

use base64::Engine;
use btlightning_interop::{BareMiner, Data, Handshake, Make, Random, Validator, data, frame, keys};
use btlightning_published::{SynapsePacket, util::unix_timestamp_secs};
use schnorrkel::{PublicKey, Signature};

use crate::stage::{Connected, Ours, Theirs};

const OK: &[u8] = b"\x94\xc3\x80\x01\xc0";

#[tokio::test]
async fn the_handshake_is_the_same_but_for_its_nonce() {
    async fn handshake<V: Validator>() -> Handshake {
        let miner = BareMiner::listen(&keys("miner"));
        let mut client = V::start("validator").await;
        let told = [(keys("miner").hotkey, miner.addr)];
        let told = told.each_ref().map(|(hotkey, addr)| (hotkey.as_str(), *addr));
        let shaking = async {
            let link = miner.accept().await;
            let handshake = miner.handshake(&link).await;
            link.connection.close(0_u32.into(), b"enough");
            handshake
        };
        tokio::join!(shaking, client.connect(&told)).0
    }
    let mut nonces = Vec::new();
    for handshake in [
        handshake::<Ours>().await,
        handshake::<Theirs>().await,
        handshake::<Ours>().await,
        handshake::<Theirs>().await,
    ] {
        let request = &handshake.request;
        let encoded = rmp_serde::to_vec(request).expect("encodes");
        assert_eq!(handshake.bytes, frame(1, &encoded), "one frame in the usual encoding, and the end");
        assert_eq!(request.validator_hotkey, keys("validator").hotkey);
        assert!(request.timestamp.abs_diff(unix_timestamp_secs()) < 5);
        assert_eq!(request.nonce.len(), 32);
        assert!(request.nonce.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
        nonces.push(request.nonce.clone());

        let text = format!(
            "handshake:{}:{}:{}:{}",
            request.validator_hotkey, request.timestamp, request.nonce, handshake.fingerprint
        );
        let signature = base64::engine::general_purpose::STANDARD.decode(&request.signature).expect("base64");
        let signature = Signature::from_bytes(&signature).expect("a signature");
        let public = PublicKey::from_bytes(&keys("validator").public).expect("a public key");
        public.verify_simple(b"substrate", text.as_bytes(), &signature).expect("rightly signed");
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4, "a nonce is never used again");
}

/// A packet's bytes with its time set to zero.
fn without_time(mut request: Vec<u8>) -> Vec<u8> {
    let time = request.len() - 4;
    let sent = request[time..].try_into().map(u32::from_be_bytes).expect("four bytes");
    assert!(u64::from(sent).abs_diff(unix_timestamp_secs()) < 5, "the time comes last");
    request[time..].fill(0);
    request
}

#[tokio::test]
async fn requests_are_the_same_but_for_the_time() {
    let (ours, theirs) = (Connected::<Ours>::new().await, Connected::<Theirs>::new().await);
    let mut random = Random::new(4);
    // Maps of up to one entry, since the order of more is anybody's.
    let payloads = (0..100).map(|_| Data::from([(random.text(300), random.value(2))]));
    for payload in std::iter::once(data([])).chain(payloads) {
        let name = format!("name {}", payload.len());
        let (by_ours, answered) = ours.asked(&name, payload.clone(), &frame(4, OK)).await;
        answered.expect("an answer");
        let (by_theirs, answered) = theirs.asked(&name, payload.clone(), &frame(4, OK)).await;
        answered.expect("an answer");
        let [by_ours, by_theirs] = [by_ours, by_theirs].map(without_time);
        assert!(by_ours == by_theirs, "{payload:?}");

        let packet = SynapsePacket { synapse_type: name, data: payload, timestamp: u32::MAX.into() };
        let mut expected = frame(3, &rmp_serde::to_vec(&packet).expect("encodes"));
        let time = expected.len() - 4;
        expected[time..].fill(0);
        assert!(by_theirs == expected, "{packet:?}");
    }
}

#[tokio::test]
async fn what_is_said_in_tls() {
    async fn said<V: Validator>() {
        let connected = Connected::<V>::new().await;
        let said = connected.link.tls();
        assert_eq!(said.protocol.as_deref(), Some(&b"btlightning"[..]));
        // TLS has no server names for IP addresses (RFC 6066, section 3).
        assert_eq!(said.server_name, None);
        let certificates = connected.link.connection.peer_identity();
        assert!(certificates.is_none(), "clients have no certificate");
    }
    said::<Ours>().await;
    said::<Theirs>().await;
}

/// A published client allows what it never reads: streams that the server opens, and datagrams. Ours does not.
#[tokio::test]
async fn what_a_server_may_open() {
    async fn allows<V: Validator>() {
        let connected = Connected::<V>::new().await;
        let connection = &connected.link.connection;
        let soon = std::time::Duration::from_millis(100);
        let bidirectional = tokio::time::timeout(soon, connection.open_bi()).await.is_ok();
        let unidirectional = tokio::time::timeout(soon, connection.open_uni()).await.is_ok();
        let datagrams = connection.max_datagram_size().is_some();
        let theirs = V::MAKE == Make::Theirs;
        assert_eq!([bidirectional, unidirectional, datagrams], [theirs; 3]);
    }
    allows::<Ours>().await;
    allows::<Theirs>().await;
}
