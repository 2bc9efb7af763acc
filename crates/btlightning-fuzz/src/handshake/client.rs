//! The client's side: the answer to one handshake, made by somebody who may hold other answers.

use arbitrary::{Arbitrary, Unstructured};
use btlightning_proto::identity::{HandshakeError, Nonce, Opening};
use btlightning_proto::wire::{HandshakeResponse, encode_frame, parse_frame_header};

use super::{NOW, Signed, miner, other, ours, twisted, validator};

#[derive(Debug, Arbitrary)]
struct Answer {
    start: Start,
    changes: Vec<Change>,
}

#[derive(Debug, Arbitrary)]
enum Start {
    /// The honest answer, to this client and this nonce.
    Honest {
        later: u8,
    },
    /// An honest answer to another nonce, to somebody else, for another certificate, or by another miner.
    ToAnotherNonce,
    ToSomebodyElse,
    ForAnotherCertificate,
    ByAnotherMiner,
    /// Any bytes.
    Garbage {
        payload: Vec<u8>,
    },
}

#[derive(Debug, Arbitrary)]
enum Change {
    Miner { who: u8 },
    MinerText { text: String },
    Timestamp { by: i8 },
    SignatureDigit { at: u8, with: u8 },
    SignatureText { text: String },
    Accepted { accepted: bool },
    ConnectionId { text: String },
    LongConnectionId { length: u16 },
    NoFingerprint,
    OtherFingerprint,
    OurFingerprint,
    FingerprintDigit { at: u8, with: u8 },
    FingerprintText { text: String },
}

/// An answer, in the form that `arbitrary` reads.
pub fn handshake_client(data: &[u8]) {
    let Ok(Answer { start, changes }) = Answer::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let opening = Opening::new(validator(0).hotkey(), ours(), NOW, nonce());
    let (_, awaiting) = opening.sign_with(&[7; 64]).expect("64 bytes");

    let mut signed = Signed::default();
    let Some(mut response) = started(start, &mut signed) else { return };
    for change in changes {
        response = changed(response, change);
    }
    let frame = encode_frame(&response, usize::MAX).expect("no limit");
    let (_, payload) = parse_frame_header(&frame, usize::MAX).expect("ours");
    let response = HandshakeResponse::decode(payload).expect("ours");

    let HandshakeResponse { miner_hotkey, timestamp, signature, accepted, connection_id, cert_fingerprint } =
        &response;
    let (who, nonce, seen) = (validator(0).hotkey(), nonce(), ours());
    let text = format!("handshake_response:{who}:{miner_hotkey}:{timestamp}:{nonce}:{seen}");
    let is_signed = signed.has(text, signature);
    let is_ours = *cert_fingerprint == Some(seen.to_string());
    let is_shown = connection_id.len() <= 256 && !connection_id.contains(char::is_control);
    match awaiting.verify(&response) {
        Ok(proven) => {
            assert!(accepted & is_signed & is_ours & is_shown, "proven by {response:?}");
            assert_eq!(proven.hotkey.to_string(), *miner_hotkey);
            assert_eq!((proven.timestamp, &proven.connection_id), (*timestamp, connection_id));
            let wanted = miner().hotkey();
            assert_eq!(proven.clone().expect(&wanted).is_ok(), proven.hotkey == wanted);
        }
        Err(error) => {
            assert!(!(accepted & is_signed & is_ours & is_shown), "{error}: {response:?}");
            assert_eq!(error == HandshakeError::Refused, !accepted);
            assert!(!error.reason().is_empty());
        }
    }
}

fn nonce() -> Nonce {
    Nonce::from_random([5; 16])
}

fn started(start: Start, signed: &mut Signed) -> Option<HandshakeResponse> {
    let (mut to, mut by, mut when) = (validator(0), miner(), NOW + 1);
    let (mut nonce, mut seen) = (nonce(), ours());
    match start {
        Start::Honest { later } => when = NOW + u64::from(later),
        Start::ToAnotherNonce => nonce = Nonce::from_random([6; 16]),
        Start::ToSomebodyElse => to = validator(1),
        Start::ForAnotherCertificate => seen = other(),
        Start::ByAnotherMiner => by = validator(2),
        Start::Garbage { payload } => return HandshakeResponse::decode(&payload).ok(),
    }
    let (who, miner) = (to.hotkey(), by.hotkey());
    let text = format!("handshake_response:{who}:{miner}:{when}:{nonce}:{seen}");
    let bytes = by.sign(text.as_bytes());
    // The one spelling of a signature, as a request has it.
    let (request, _) = Opening::new(who, seen, when, nonce).sign_with(&bytes).expect("64 bytes");
    signed.note(text, &request.signature);
    Some(HandshakeResponse {
        miner_hotkey: miner.to_string(),
        timestamp: when,
        signature: request.signature,
        accepted: true,
        connection_id: format!("conn_{who}_{when}"),
        cert_fingerprint: Some(seen.to_string()),
    })
}

fn changed(response: HandshakeResponse, change: Change) -> HandshakeResponse {
    let mut to = response;
    match change {
        Change::Miner { who } => to.miner_hotkey = validator(who).hotkey().to_string(),
        Change::MinerText { text } => to.miner_hotkey = text,
        Change::Timestamp { by } => to.timestamp = to.timestamp.saturating_add_signed(by.into()),
        Change::SignatureDigit { at, with } => to.signature = twisted(&to.signature, at, with),
        Change::SignatureText { text } => to.signature = text,
        Change::Accepted { accepted } => to.accepted = accepted,
        Change::ConnectionId { text } => to.connection_id = text,
        Change::LongConnectionId { length } => to.connection_id = "c".repeat(length.into()),
        Change::NoFingerprint => to.cert_fingerprint = None,
        Change::OtherFingerprint => to.cert_fingerprint = Some(other().to_string()),
        Change::OurFingerprint => to.cert_fingerprint = Some(ours().to_string()),
        Change::FingerprintDigit { at, with } => {
            to.cert_fingerprint = to.cert_fingerprint.map(|text| twisted(&text, at, with));
        }
        Change::FingerprintText { text } => to.cert_fingerprint = Some(text),
    }
    to
}
