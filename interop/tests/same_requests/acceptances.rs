//! Which answers to their handshake clients take for an acceptance.

use btlightning_interop::{BareMiner, Close, Handshake, Validator, frame, keys};
use btlightning_published::HandshakeResponse;

use crate::stage::{Ours, Theirs};

/// Whether a client believes what `answer` makes of its handshake. If it does not, it says so.
async fn believed_by<V: Validator>(answer: &impl Fn(&Handshake) -> Vec<u8>) -> bool {
    let miner = BareMiner::listen(&keys("miner"));
    let hotkey = keys("miner").hotkey;
    let mut client = V::start("validator").await;
    let told = [(hotkey.as_str(), miner.addr)];
    let answering = async {
        let link = miner.accept().await;
        let handshake = miner.handshake(&link).await;
        let bytes = answer(&handshake);
        handshake.answer_with(&bytes).await;
        link
    };
    let (link, ()) = tokio::join!(answering, client.connect(&told));
    let believed = client.proven().await.contains(&hotkey);
    if !believed {
        assert_eq!(Close::of(&link.connection).await, Close::orderly("no_authenticated_hotkeys"));
    }
    believed
}

/// Whether ours and theirs believe it.
async fn believed(answer: impl Fn(&Handshake) -> Vec<u8>) -> [bool; 2] {
    tokio::join!(believed_by::<Ours>(&answer), believed_by::<Theirs>(&answer)).into()
}

/// Whether they believe an acceptance that was changed and then signed.
async fn changed(change: impl Fn(&mut HandshakeResponse)) -> [bool; 2] {
    believed(|handshake| {
        let mut response = handshake.acceptance();
        change(&mut response);
        handshake.sign(&mut response);
        encoded(&response)
    })
    .await
}

fn encoded(response: &HandshakeResponse) -> Vec<u8> {
    frame(2, &rmp_serde::to_vec(response).expect("encodes"))
}

const BOTH: [bool; 2] = [true; 2];
const NEITHER: [bool; 2] = [false; 2];
const ONLY_THEIRS: [bool; 2] = [false, true];

#[tokio::test]
async fn a_good_one_at_any_time() {
    assert_eq!(changed(|_| {}).await, BOTH);
    // The nonce says that the answer is fresh; the miner's clock does not matter.
    for time in [0, 1_700_000_000, u64::MAX] {
        assert_eq!(changed(|response| response.timestamp = time).await, BOTH, "{time}");
    }
    assert_eq!(changed(|response| response.connection_id.clear()).await, BOTH);
    let more = |handshake: &Handshake| [&encoded(&handshake.acceptance())[..], b"and more"].concat();
    assert_eq!(believed(more).await, BOTH);
}

#[tokio::test]
async fn the_fingerprint_has_to_be_there_and_right() {
    for fingerprint in [None, Some(String::new()), Some("AAAA".to_owned())] {
        let other = |response: &mut HandshakeResponse| response.cert_fingerprint = fingerprint.clone();
        assert_eq!(changed(other).await, NEITHER, "{fingerprint:?}");
    }
    // What old peers send.
    let without = believed(|handshake| {
        let HandshakeResponse { miner_hotkey, timestamp, signature, accepted, connection_id, .. } =
            handshake.acceptance();
        let five = (miner_hotkey, timestamp, signature, accepted, connection_id);
        frame(2, &rmp_serde::to_vec(&five).expect("encodes"))
    });
    assert_eq!(without.await, NEITHER);
}

#[tokio::test]
async fn the_hotkey_has_to_be_the_one_that_is_wanted() {
    for hotkey in [keys("other").hotkey, keys("miner").spelt_with(0), "garbage".into(), String::new()] {
        let other = |response: &mut HandshakeResponse| response.miner_hotkey = hotkey.clone();
        assert_eq!(changed(other).await, NEITHER, "{hotkey}");
    }
}

#[tokio::test]
async fn a_refusal_is_one_however_well_signed() {
    assert_eq!(changed(|response| response.accepted = false).await, NEITHER);
}

#[tokio::test]
async fn the_signature_has_to_be_right() {
    let unsigned = |change: fn(&mut HandshakeResponse)| {
        believed(move |handshake| {
            let mut response = handshake.acceptance();
            change(&mut response);
            encoded(&response)
        })
    };
    assert_eq!(unsigned(|response| response.timestamp += 1).await, NEITHER);
    assert_eq!(unsigned(|response| response.signature.clear()).await, NEITHER);
    assert_eq!(unsigned(|response| response.signature = "c2ln".into()).await, NEITHER);
    let trimmed = |response: &mut HandshakeResponse| {
        response.signature = response.signature.trim_end_matches('=').into();
    };
    assert_eq!(unsigned(trimmed).await, NEITHER);
}

#[tokio::test]
async fn what_is_no_answer() {
    for bytes in [&b""[..], &frame(2, b"\xc0"), &frame(2, b""), &frame(9, b""), b"\x02\x00"] {
        assert_eq!(believed(|_| bytes.to_vec()).await, NEITHER, "{}", bytes.escape_ascii());
    }
    let wrong_kind =
        |handshake: &Handshake| frame(4, &rmp_serde::to_vec(&handshake.acceptance()).expect("encodes"));
    assert_eq!(believed(wrong_kind).await, NEITHER);
}

/// Ours reads an answer in the one form that servers write, to its end, and with a connection id that can be logged.
#[tokio::test]
async fn ours_is_stricter_with_answers_that_nobody_writes() {
    let trailing = |handshake: &Handshake| {
        let payload = rmp_serde::to_vec(&handshake.acceptance()).expect("encodes");
        frame(2, &[&payload[..], b"and more"].concat())
    };
    assert_eq!(believed(trailing).await, ONLY_THEIRS);
    let named =
        |handshake: &Handshake| frame(2, &rmp_serde::to_vec_named(&handshake.acceptance()).expect("encodes"));
    assert_eq!(believed(named).await, ONLY_THEIRS);
    for id in ["\0\n".to_owned(), "long".repeat(5000)] {
        assert_eq!(changed(|response| response.connection_id = id.clone()).await, ONLY_THEIRS);
    }
}
