//! Handshakes: which are accepted, which are refused, and what a refusal says.

use btlightning_interop::{BareValidator, Keys, frame, keys};
use btlightning_published::util::unix_timestamp_secs;
use btlightning_published::{HandshakeRequest, HandshakeResponse};

use crate::servers::{Clients, both};

/// How a server answers a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    /// In the miner's name.
    Refused,
    /// Without having read it.
    Unread,
}
use Verdict::{Accepted, Refused, Unread};

fn verdict(answer: &[u8]) -> Verdict {
    assert_eq!(answer[0], 2, "a handshake response");
    let response: HandshakeResponse = rmp_serde::from_slice(&answer[5..]).expect("a handshake response");
    if response.accepted {
        assert!(response.connection_id.starts_with("conn_"), "{response:?}");
        return Accepted;
    }
    let HandshakeResponse { signature, connection_id, cert_fingerprint, .. } = &response;
    assert_eq!((signature.as_str(), connection_id.as_str(), cert_fingerprint), ("", "", &None));
    match response.miner_hotkey {
        hotkey if hotkey.is_empty() => Unread,
        hotkey => {
            assert_eq!(hotkey, keys("miner").hotkey);
            Refused
        }
    }
}

fn validator() -> Keys {
    keys("validator")
}

impl Clients {
    /// The verdicts of both servers on what `payload` makes for each, on connections of its own: ours closes one on which
    /// several have failed.
    async fn verdicts(&self, payload: impl Fn(&BareValidator) -> Vec<u8>) -> [Verdict; 2] {
        let [ours, theirs] = self.connect().await;
        let (for_ours, for_theirs) = (payload(&ours), payload(&theirs));
        let (ours, theirs) = tokio::join!(ours.ask(1, &for_ours), theirs.ask(1, &for_theirs));
        [verdict(&ours), verdict(&theirs)]
    }

    /// The verdict of both servers on a good request that was changed after it was signed.
    async fn changed(&self, what: &str, change: impl Fn(&mut HandshakeRequest)) -> Verdict {
        let verdicts = self
            .verdicts(|client| {
                let mut request = client.handshake(&validator());
                change(&mut request);
                rmp_serde::to_vec(&request).expect("encodes")
            })
            .await;
        assert_eq!(verdicts[0], verdicts[1], "{what}");
        verdicts[0]
    }

    /// The verdicts of both servers on a good request with this nonce.
    async fn with_nonce(&self, nonce: &str) -> [Verdict; 2] {
        self.verdicts(|client| {
            let request = client.handshake_at(&validator(), unix_timestamp_secs(), nonce);
            rmp_serde::to_vec(&request).expect("encodes")
        })
        .await
    }
}

#[tokio::test]
async fn a_good_one_is_accepted_and_again() {
    let clients = Clients::strangers().await;
    for client in [&clients.ours, &clients.theirs] {
        let mut ids = Vec::new();
        for _ in 0..3 {
            let response = client.authenticate(&validator()).await;
            assert_eq!(response.miner_hotkey, keys("miner").hotkey);
            assert_eq!(response.cert_fingerprint, Some(client.fingerprint()));
            assert!(response.timestamp.abs_diff(unix_timestamp_secs()) < 5);
            ids.push(response.connection_id);
        }
        assert!(ids.iter().all(|id| id.starts_with(&format!("conn_{}_", validator().hotkey))), "{ids:?}");
    }
}

#[tokio::test]
async fn the_time() {
    let clients = Clients::strangers().await;
    for (seconds, expected) in [
        (-3600, Refused),
        (-300, Refused),
        (-295, Accepted),
        (-1, Accepted),
        (60, Accepted),
        (65, Refused),
        (3600, Refused),
    ] {
        let verdicts = clients
            .verdicts(|client| {
                let time = unix_timestamp_secs().checked_add_signed(seconds).expect("in time");
                let nonce = client.handshake(&validator()).nonce;
                rmp_serde::to_vec(&client.handshake_at(&validator(), time, &nonce)).expect("encodes")
            })
            .await;
        assert_eq!(verdicts, [expected; 2], "{seconds} s");
    }
    for time in [0, u64::MAX] {
        let verdict = clients.changed("time", |request| request.timestamp = time).await;
        assert_eq!(verdict, Refused);
    }
}

#[tokio::test]
async fn the_nonce() {
    let clients = Clients::strangers().await;
    for odd in ["", "a", &"a".repeat(31), &"a".repeat(33), &"g".repeat(32), &"é".repeat(16)] {
        assert_eq!(clients.with_nonce(odd).await, [Refused; 2], "{odd:?}");
    }
    let nonce = "00112233445566778899aabbccddeeff";
    assert_eq!(clients.with_nonce(nonce).await, [Accepted; 2]);
    assert_eq!(clients.with_nonce(nonce).await, [Refused; 2], "it was used");
    // To ours this is the same nonce.
    assert_eq!(clients.with_nonce(&nonce.to_uppercase()).await, [Refused, Accepted]);
}

#[tokio::test]
async fn the_signature() {
    let clients = Clients::strangers().await;
    for (what, signature) in [("none", ""), ("no base64", "!!!"), ("too short", "c2ln")] {
        let verdict = clients.changed(what, |request| request.signature = signature.into()).await;
        assert_eq!(verdict, Refused, "{what}");
    }
    let trimmed =
        |request: &mut HandshakeRequest| request.signature = request.signature.trim_end_matches('=').into();
    assert_eq!(clients.changed("without padding", trimmed).await, Refused);
    assert_eq!(clients.changed("a later time", |request| request.timestamp += 1).await, Refused);
    let other_nonce = |request: &mut HandshakeRequest| request.nonce = "f".repeat(32);
    assert_eq!(clients.changed("another nonce", other_nonce).await, Refused);
    for hotkey in [keys("somebody else").hotkey, "garbage".into(), String::new()] {
        let verdict = clients.changed(&hotkey, |request| request.validator_hotkey = hotkey.clone()).await;
        assert_eq!(verdict, Refused, "{hotkey}");
    }
    // Signed for the other server's certificate.
    let [for_ours, for_theirs] =
        [&clients.ours, &clients.theirs].map(|client| client.handshake(&validator()));
    assert!(!clients.ours.shake(&for_theirs).await.accepted);
    assert!(!clients.theirs.shake(&for_ours).await.accepted);
}

/// One key has one spelling for ours. A published server takes that of any network.
#[tokio::test]
async fn a_hotkey_as_another_network_spells_it() {
    let clients = Clients::strangers().await;
    let verdicts = clients
        .verdicts(|client| {
            let polkadot = Keys { hotkey: validator().spelt_with(0), ..validator() };
            rmp_serde::to_vec(&client.handshake(&polkadot)).expect("encodes")
        })
        .await;
    assert_eq!(verdicts, [Refused, Accepted]);
}

#[tokio::test]
async fn what_cannot_be_read() {
    let clients = Clients::strangers().await;
    for payload in [&b""[..], b"\xc0", b"\x90", b"\x94\x01\x02\x03\x04"] {
        assert_eq!(clients.verdicts(|_| payload.to_vec()).await, [Unread; 2]);
    }
    let short = clients.verdicts(|client| {
        let HandshakeRequest { validator_hotkey, timestamp, nonce, .. } = client.handshake(&validator());
        rmp_serde::to_vec(&(validator_hotkey, timestamp, nonce)).expect("encodes")
    });
    assert_eq!(short.await, [Unread; 2]);
    // Ours reads a handshake in the one form that clients write, and to its end.
    let trailing = clients.verdicts(|client| {
        let request = rmp_serde::to_vec(&client.handshake(&validator())).expect("encodes");
        [&request[..], b"and more"].concat()
    });
    assert_eq!(trailing.await, [Unread, Accepted]);
    let named =
        clients.verdicts(|client| rmp_serde::to_vec_named(&client.handshake(&validator())).expect("encodes"));
    assert_eq!(named.await, [Unread, Accepted]);
}

/// A connection belongs to the validator that has proven itself first. A published server takes on others.
#[tokio::test]
async fn a_second_validator_on_the_same_connection() {
    let clients = Clients::authenticated().await;
    let other = keys("other validator");
    for (client, expected) in [(&clients.ours, Refused), (&clients.theirs, Accepted)] {
        let request = rmp_serde::to_vec(&client.handshake(&other)).expect("encodes");
        assert_eq!(verdict(&client.ask(1, &request).await), expected);
    }
}

#[tokio::test]
async fn too_many_a_minute() {
    for server in both(2).await {
        let client = BareValidator::connect(server.addr).await;
        for expected in [Accepted, Accepted, Unread, Unread] {
            let request = rmp_serde::to_vec(&client.handshake(&validator())).expect("encodes");
            let answer = client.exchange(&frame(1, &request)).await;
            assert_eq!(verdict(&answer), expected, "{:?}", server.make);
        }
        assert_eq!(client.connection.close_reason(), None, "{:?}: it may try again", server.make);
    }
}
