//! Both sides of the handshake against each other, and against peers that lie.

// Helpers of tests may unwrap as the tests do; the lint knows only functions that are tests themselves.
#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use btlightning_proto::error::LightningError;
use btlightning_proto::identity::handshake::{
    CLOCK_AHEAD_SECS_MAX, SIGNATURE_AGE_SECS, connection_id, refuse, refuse_unread,
};
use btlightning_proto::identity::{
    AdmittedClaim, Awaiting, CertFingerprint, Claim, HandshakeError, Hotkey, HotkeyError, Keypair, Nonce,
    Opening, Refusal, ReplayError, ReplayWindow, SignatureError,
};
use btlightning_proto::wire::{HandshakeRequest, HandshakeResponse};

const NOW: u64 = 1_700_000_000;
const NONCE: &str = "00112233445566778899aabbccddeeff";

fn validator() -> Keypair {
    Keypair::from_seed([1; 32])
}

fn miner() -> Keypair {
    Keypair::from_seed([2; 32])
}

fn certificate() -> CertFingerprint {
    CertFingerprint::of_certificate(b"the miner's certificate")
}

fn window() -> ReplayWindow {
    ReplayWindow::new(100, SIGNATURE_AGE_SECS)
}

fn open(seen: CertFingerprint) -> (HandshakeRequest, Awaiting) {
    let opening = Opening::new(validator().hotkey(), seen, NOW, NONCE.parse().unwrap());
    let signature = validator().sign(opening.text_to_sign().as_bytes());
    opening.sign_with(&signature).unwrap()
}

fn admit(request: &HandshakeRequest, window: &mut ReplayWindow, now: u64) -> Result<AdmittedClaim, Refusal> {
    Claim::parse(request, certificate())?.check_time(now, SIGNATURE_AGE_SECS)?.verify()?.admit(window, now)
}

fn answer(request: &HandshakeRequest, signer: &Keypair) -> HandshakeResponse {
    let acceptance = admit(request, &mut window(), NOW).unwrap().answer(miner().hotkey(), NOW + 1);
    let signature = signer.sign(acceptance.text_to_sign().as_bytes());
    acceptance.sign_with(&signature, connection_id(&validator().hotkey(), 1_700_000_000_123)).unwrap()
}

#[test]
fn both_sides_prove_themselves() {
    let (request, awaiting) = open(certificate());
    let claim = admit(&request, &mut window(), NOW).unwrap();
    assert_eq!(*claim.validator(), validator().hotkey());

    let proven = awaiting.verify(&answer(&request, &miner())).unwrap();
    assert_eq!(proven.hotkey, miner().hotkey());
    assert_eq!(proven.timestamp, NOW + 1);
    assert_eq!(proven.connection_id, format!("conn_{}_1700000000123", validator().hotkey()));
}

#[test]
fn the_signed_texts_are_those_of_the_protocol() {
    let (v, m, f) = (validator().hotkey(), miner().hotkey(), certificate());
    let opening = Opening::new(v, f, NOW, NONCE.parse().unwrap());
    assert_eq!(opening.text_to_sign(), format!("handshake:{v}:1700000000:{NONCE}:{f}"));
    let (request, _) = open(f);
    let acceptance = admit(&request, &mut window(), NOW).unwrap().answer(m, 1_700_000_005);
    assert_eq!(acceptance.text_to_sign(), format!("handshake_response:{v}:{m}:1700000005:{NONCE}:{f}"));
}

#[test]
fn a_nonce_in_capitals_is_answered_in_capitals() {
    let (text, v, f) = (NONCE.to_uppercase(), validator().hotkey(), certificate());
    let signature = validator().sign(format!("handshake:{v}:{NOW}:{text}:{f}").as_bytes());
    let request = HandshakeRequest {
        validator_hotkey: v.to_string(),
        timestamp: NOW,
        nonce: text.clone(),
        signature: STANDARD.encode(signature),
    };
    let acceptance = admit(&request, &mut window(), NOW).unwrap().answer(miner().hotkey(), NOW);
    assert!(acceptance.text_to_sign().contains(&text));
}

#[test]
fn a_request_signed_for_another_certificate_is_refused() {
    let (request, _) = open(CertFingerprint::of_certificate(b"somebody in the middle"));
    let refusal = admit(&request, &mut window(), NOW).unwrap_err();
    assert_eq!(refusal, Refusal::Signature(SignatureError::Mismatch));
    assert_eq!(refusal.reason(), "bad_signature");
}

#[test]
fn every_signed_field_of_the_request_counts() {
    let (request, _) = open(certificate());
    for changed in [
        HandshakeRequest { validator_hotkey: miner().hotkey().to_string(), ..request.clone() },
        HandshakeRequest { timestamp: NOW + 1, ..request.clone() },
        HandshakeRequest { nonce: NONCE.replace('0', "1"), ..request.clone() },
        HandshakeRequest { nonce: NONCE.to_uppercase(), ..request.clone() },
        HandshakeRequest { signature: STANDARD.encode(miner().sign(b"handshake")), ..request.clone() },
    ] {
        let refusal = admit(&changed, &mut window(), NOW).unwrap_err();
        assert_eq!(refusal, Refusal::Signature(SignatureError::Mismatch), "{changed:?}");
    }
}

#[test]
fn malformed_requests_are_refused_before_anything_is_verified() {
    let (request, _) = open(certificate());
    let refused = |request: HandshakeRequest| Claim::parse(&request, certificate()).unwrap_err();
    let hotkey = |text: String| refused(HandshakeRequest { validator_hotkey: text, ..request.clone() });
    let key = request.validator_hotkey.clone();
    assert_eq!(hotkey(format!("{key} ")), Refusal::Validator(HotkeyError::NotBase58));
    assert_eq!(hotkey("5".repeat(1 << 20)), Refusal::Validator(HotkeyError::TooLong { found: 1 << 20 }));

    for nonce in ["", &NONCE[1..], "0x112233445566778899aabbccddeeff", &"0".repeat(1 << 20)] {
        let request = HandshakeRequest { nonce: nonce.into(), ..request.clone() };
        assert!(matches!(refused(request), Refusal::Nonce(_)));
    }
    let signature = &request.signature;
    for text in ["", &signature[..84], signature.trim_end_matches('='), &"A".repeat(88), &"A".repeat(1 << 20)]
    {
        let request = HandshakeRequest { signature: text.into(), ..request.clone() };
        assert_eq!(refused(request), Refusal::SignatureEncoding);
    }
}

#[test]
fn time_is_accepted_up_to_both_bounds_and_no_further() {
    let (request, _) = open(certificate());
    let at =
        |now| Claim::parse(&request, certificate()).unwrap().check_time(now, SIGNATURE_AGE_SECS).map(|_| ());
    assert_eq!(at(NOW + SIGNATURE_AGE_SECS - 1), Ok(()));
    assert_eq!(at(NOW + SIGNATURE_AGE_SECS), Err(Refusal::TooOld { age_secs: 300 }));
    assert_eq!(at(NOW - CLOCK_AHEAD_SECS_MAX), Ok(()));
    assert_eq!(at(NOW - CLOCK_AHEAD_SECS_MAX - 1), Err(Refusal::FromTheFuture { ahead_secs: 61 }));
    assert!(at(u64::MAX).is_err() && at(0).is_err());
}

#[test]
fn a_replayed_request_is_refused_for_as_long_as_its_time_is_accepted() {
    let (request, _) = open(certificate());
    let mut window = window();
    admit(&request, &mut window, NOW - 60).unwrap();
    for now in [NOW - 60, NOW, NOW + SIGNATURE_AGE_SECS - 1] {
        assert_eq!(admit(&request, &mut window, now).unwrap_err(), Refusal::Replay(ReplayError::Seen));
    }
}

#[test]
fn a_forged_request_spends_no_nonce() {
    let (request, _) = open(certificate());
    let forged = HandshakeRequest { signature: STANDARD.encode(miner().sign(b"forged")), ..request.clone() };
    let mut window = window();
    admit(&forged, &mut window, NOW).unwrap_err();
    assert!(window.is_empty());
    admit(&request, &mut window, NOW).unwrap();
}

#[test]
fn a_claim_that_waited_too_long_for_its_verification_is_stale() {
    let (request, _) = open(certificate());
    let verified =
        Claim::parse(&request, certificate()).unwrap().check_time(NOW, 300).unwrap().verify().unwrap();
    let refusal = verified.admit(&mut window(), NOW + 300).unwrap_err();
    assert_eq!(refusal, Refusal::Replay(ReplayError::Stale));
}

#[test]
fn a_refusal_says_nothing_and_is_understood() {
    let (_, awaiting) = open(certificate());
    let refusal = refuse(&miner().hotkey(), NOW);
    let expected = HandshakeResponse {
        miner_hotkey: miner().hotkey().to_string(),
        timestamp: NOW,
        signature: String::new(),
        accepted: false,
        connection_id: String::new(),
        cert_fingerprint: None,
    };
    assert_eq!(refusal, expected);
    assert_eq!(awaiting.clone().verify(&refusal), Err(HandshakeError::Refused));

    let unread = refuse_unread(NOW);
    assert_eq!(unread, HandshakeResponse { miner_hotkey: String::new(), ..expected });
    assert_eq!(awaiting.verify(&unread), Err(HandshakeError::Refused));
}

#[test]
fn the_client_believes_no_answer_that_is_not_signed_for_its_connection() {
    let (request, awaiting) = open(certificate());
    let response = answer(&request, &miner());
    let judged = |response: HandshakeResponse| awaiting.clone().verify(&response).unwrap_err();
    let other = CertFingerprint::of_certificate(b"another").to_string();
    let mismatch = HandshakeError::Signature(SignatureError::Mismatch);

    let without = HandshakeResponse { cert_fingerprint: None, ..response.clone() };
    assert_eq!(judged(without), HandshakeError::FingerprintMissing);
    let elsewhere = HandshakeResponse { cert_fingerprint: Some(other), ..response.clone() };
    assert_eq!(judged(elsewhere), HandshakeError::FingerprintMismatch);
    let garbled = HandshakeResponse { cert_fingerprint: Some("?".into()), ..response.clone() };
    assert!(matches!(judged(garbled), HandshakeError::FingerprintText(_)));
    let unsigned = HandshakeResponse { signature: String::new(), ..response.clone() };
    assert_eq!(judged(unsigned), HandshakeError::SignatureEncoding);
    let later = HandshakeResponse { timestamp: NOW, ..response.clone() };
    assert_eq!(judged(later), mismatch);
    let renamed = HandshakeResponse { miner_hotkey: validator().hotkey().to_string(), ..response.clone() };
    assert_eq!(judged(renamed), mismatch);
    let unnamed = HandshakeResponse { miner_hotkey: String::new(), ..response.clone() };
    assert!(matches!(judged(unnamed), HandshakeError::MinerHotkey(_)));
    for id in ["a\nb".to_owned(), "\u{1b}[2J".to_owned(), "c".repeat(257)] {
        assert_eq!(
            judged(HandshakeResponse { connection_id: id, ..response.clone() }),
            HandshakeError::ConnectionId
        );
    }
    assert_eq!(judged(answer(&request, &validator())), mismatch);
}

#[test]
fn an_answer_to_one_nonce_does_not_answer_another() {
    let (request, _) = open(certificate());
    let recorded = answer(&request, &miner());
    let opening = Opening::new(validator().hotkey(), certificate(), NOW, Nonce::from_random([7; 16]));
    let signature = validator().sign(opening.text_to_sign().as_bytes());
    let (_, awaiting) = opening.sign_with(&signature).unwrap();
    assert_eq!(awaiting.verify(&recorded), Err(HandshakeError::Signature(SignatureError::Mismatch)));
}

#[test]
fn whether_the_proven_miner_is_the_wanted_one_is_a_question_of_its_own() {
    let (request, awaiting) = open(certificate());
    let proven = awaiting.verify(&answer(&request, &miner())).unwrap();
    assert!(proven.clone().expect(&miner().hotkey()).is_ok());
    let wanted: Hotkey = validator().hotkey();
    let err = proven.expect(&wanted).unwrap_err();
    assert_eq!(err, HandshakeError::OtherMiner { wanted, proven: miner().hotkey() });
    let sentence = LightningError::from(err).to_string();
    assert!(sentence.starts_with("handshake error: the address belongs to 5"), "{sentence}");
}

#[test]
fn a_signer_that_returns_no_signature_is_caught() {
    let opening = Opening::new(validator().hotkey(), certificate(), NOW, NONCE.parse().unwrap());
    assert_eq!(opening.sign_with(&[0; 63]).unwrap_err(), SignatureError::Length { found: 63 });
    let (request, _) = open(certificate());
    let acceptance = admit(&request, &mut window(), NOW).unwrap().answer(miner().hotkey(), NOW);
    assert_eq!(acceptance.sign_with(&[], String::new()).unwrap_err(), SignatureError::Length { found: 0 });
}
