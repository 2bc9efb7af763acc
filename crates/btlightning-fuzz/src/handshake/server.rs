//! The server's side: requests in any order and of any kind, a clock that goes as it likes, one replay window.

use std::collections::{HashMap, HashSet};

use arbitrary::{Arbitrary, Unstructured};
use btlightning_proto::identity::handshake::{
    CLOCK_AHEAD_SECS_MAX, SIGNATURE_AGE_SECS, connection_id, refuse,
};
use btlightning_proto::identity::{
    AdmittedClaim, Claim, Hotkey, Nonce, Opening, Refusal, ReplayError, ReplayWindow,
};
use btlightning_proto::wire::{HandshakeRequest, encode_frame, parse_frame_header};

use super::{NOW, Signed, miner, other, ours, twisted, validator};

#[derive(Debug, Arbitrary)]
enum Step {
    /// A validator opens a handshake. Its clock is not the server's.
    Honest {
        who: u8,
        nonce: u8,
        behind: i16,
    },
    /// The same, on a connection that ends at somebody in the middle.
    Elsewhere {
        who: u8,
        nonce: u8,
    },
    /// One of the requests so far, once more.
    Again {
        which: u8,
    },
    /// One of them, changed.
    Changed {
        which: u8,
        how: Change,
    },
    /// Any bytes.
    Garbage {
        payload: Vec<u8>,
    },
    Passes {
        secs: u16,
    },
    /// The clock is set.
    Jumps {
        to: i16,
    },
}

#[derive(Debug, Arbitrary)]
enum Change {
    Validator { who: u8 },
    ValidatorText { text: String },
    Timestamp { by: i8 },
    AnyTimestamp { timestamp: u64 },
    NonceInCapitals,
    NonceDigit { at: u8, with: u8 },
    NonceText { text: String },
    SignatureDigit { at: u8, with: u8 },
    SignatureOf { which: u8 },
    SignatureText { text: String },
}

/// How many nonces the window has room for, and steps in the form that `arbitrary` reads.
pub fn handshake_server(data: &[u8]) {
    let Some((room, steps)) = data.split_first() else { return };
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(steps)) else { return };
    let mut server = Server::new(usize::from(*room % 40));
    let mut requests = Vec::new();
    for step in steps.into_iter().take(STEPS_MAX) {
        let chosen = |which: u8| requests.get(usize::from(which) % requests.len().max(1)).cloned();
        let request = match step {
            Step::Honest { who, nonce, behind } => {
                Some(server.signed(who, nonce, server.now.saturating_add_signed(behind.into()), false))
            }
            Step::Elsewhere { who, nonce } => Some(server.signed(who, nonce, server.now, true)),
            Step::Again { which } => chosen(which),
            Step::Changed { which, how } => {
                let other = if let Change::SignatureOf { which } = how { chosen(which) } else { None };
                chosen(which).map(|request| changed(request, how, other))
            }
            Step::Garbage { payload } => HandshakeRequest::decode(&payload).ok(),
            Step::Passes { secs } => {
                server.now += u64::from(secs);
                None
            }
            Step::Jumps { to } => {
                server.now = server.now.saturating_add_signed(to.into());
                server.is_steady = false;
                None
            }
        };
        if let Some(request) = request {
            server.hear(&request);
            requests.push(request);
        }
    }
}

/// A signature and its verification take most of the time.
const STEPS_MAX: usize = 24;

struct Server {
    room: usize,
    window: ReplayWindow,
    now: u64,
    /// The clock has not been set.
    is_steady: bool,
    signed: Signed,
    /// The nonces of everyone who was let in, and when it is as if they had not been.
    admitted: HashMap<(Hotkey, Nonce), u64>,
    ever: HashSet<(Hotkey, Nonce, u64)>,
}

impl Server {
    fn new(room: usize) -> Self {
        Self {
            room,
            window: ReplayWindow::new(room, SIGNATURE_AGE_SECS),
            now: NOW,
            is_steady: true,
            signed: Signed::default(),
            admitted: HashMap::new(),
            ever: HashSet::new(),
        }
    }

    fn signed(&mut self, who: u8, nonce: u8, timestamp: u64, is_elsewhere: bool) -> HandshakeRequest {
        let key = validator(who);
        let fingerprint = if is_elsewhere { other() } else { ours() };
        let opening = Opening::new(key.hotkey(), fingerprint, timestamp, Nonce::from_random([nonce; 16]));
        let text = opening.text_to_sign();
        let (request, _) = opening.sign_with(&key.sign(text.as_bytes())).expect("64 bytes");
        self.signed.note(text, &request.signature);
        request
    }

    /// What a server does with a request, from the bytes on.
    fn hear(&mut self, request: &HandshakeRequest) {
        let frame = encode_frame(request, usize::MAX).expect("no limit");
        let (_, payload) = parse_frame_header(&frame, usize::MAX).expect("ours");
        let request = HandshakeRequest::decode(payload).expect("ours");
        let held = self.window.len();
        let verdict = self.judge(&request);
        if let Err(refusal) = &verdict {
            assert!(
                matches!(refusal, Refusal::Replay(_)) || self.window.len() == held,
                "nothing is remembered"
            );
            assert!(!refusal.reason().is_empty());
        }
        self.check(&request, verdict);
    }

    fn judge(&mut self, request: &HandshakeRequest) -> Result<AdmittedClaim, Refusal> {
        Claim::parse(request, ours())?
            .check_time(self.now, SIGNATURE_AGE_SECS)?
            .verify()?
            .admit(&mut self.window, self.now)
    }

    fn check(&mut self, request: &HandshakeRequest, verdict: Result<AdmittedClaim, Refusal>) {
        let HandshakeRequest { validator_hotkey, timestamp, nonce, signature } = request;
        let text = format!("handshake:{validator_hotkey}:{timestamp}:{nonce}:{}", ours());
        let is_signed = self.signed.has(text, signature);
        let is_timely = *timestamp <= self.now + CLOCK_AHEAD_SECS_MAX
            && self.now.saturating_sub(*timestamp) < SIGNATURE_AGE_SECS;
        assert!(self.window.len() <= self.room);
        self.admitted.retain(|_, until| *until > self.now);
        match verdict {
            Ok(claim) => {
                assert!(is_signed, "nobody has signed that");
                assert!(is_timely);
                assert_eq!(claim.validator().to_string(), *validator_hotkey);
                let spent = (*claim.validator(), nonce.parse().expect("32 digits"), *timestamp);
                assert!(self.ever.insert(spent), "a request is let in once, whatever the clock does");
                let until = timestamp.saturating_add(SIGNATURE_AGE_SECS);
                let before = self.admitted.insert((spent.0, spent.1), until);
                assert!(before.is_none() || !self.is_steady, "a nonce is good once");
                answer(claim, self.now);
            }
            Err(Refusal::Replay(why)) if is_signed && is_timely => {
                let nonce = nonce.parse().expect("32 digits");
                let hotkey = validator_hotkey.parse().expect("a hotkey");
                let was_admitted = self.admitted.contains_key(&(hotkey, nonce));
                match why {
                    ReplayError::Seen => assert!(was_admitted || !self.is_steady),
                    ReplayError::Stale => {
                        assert!(!self.is_steady, "a steady clock forgets nothing too early")
                    }
                    ReplayError::Full | ReplayError::ShareFull => assert_eq!(self.window.len(), self.room),
                }
            }
            Err(refusal) => {
                assert!(!(is_signed && is_timely), "refused for no reason: {refusal}");
                let said = refuse(&miner().hotkey(), self.now);
                assert!(!said.accepted && said.signature.is_empty() && said.connection_id.is_empty());
                assert_eq!(said.cert_fingerprint, None);
            }
        }
    }
}

/// An acceptance is for this validator, this nonce and this certificate, and has to be signed.
fn answer(claim: AdmittedClaim, now: u64) {
    let who = *claim.validator();
    let acceptance = claim.answer(miner().hotkey(), now);
    let text = acceptance.text_to_sign();
    assert!(text.starts_with(&format!("handshake_response:{who}:{}:{now}:", miner().hotkey())));
    assert!(text.ends_with(&ours().to_string()));
    let response = acceptance.sign_with(&[7; 64], connection_id(&who, 7)).expect("64 bytes");
    assert!(response.accepted && response.cert_fingerprint == Some(ours().to_string()));
}

fn changed(request: HandshakeRequest, how: Change, other: Option<HandshakeRequest>) -> HandshakeRequest {
    let mut to = request;
    match how {
        Change::Validator { who } => to.validator_hotkey = validator(who).hotkey().to_string(),
        Change::ValidatorText { text } => to.validator_hotkey = text,
        Change::Timestamp { by } => to.timestamp = to.timestamp.saturating_add_signed(by.into()),
        Change::AnyTimestamp { timestamp } => to.timestamp = timestamp,
        Change::NonceInCapitals => to.nonce = to.nonce.to_uppercase(),
        Change::NonceDigit { at, with } => to.nonce = twisted(&to.nonce, at, with),
        Change::NonceText { text } => to.nonce = text,
        Change::SignatureDigit { at, with } => to.signature = twisted(&to.signature, at, with),
        Change::SignatureOf { .. } => to.signature = other.map_or_else(String::new, |other| other.signature),
        Change::SignatureText { text } => to.signature = text,
    }
    to
}
