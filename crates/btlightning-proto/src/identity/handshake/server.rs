//! The server's side: a claim gains a type with every check that it passes.

use super::{CLOCK_AHEAD_SECS_MAX, decode_signature, encode_signature, request_text, response_text};
use crate::error::LightningError;
use crate::identity::sr25519::{self, SIGNATURE_BYTES, SignatureError};
use crate::identity::{
    CertFingerprint, Hotkey, HotkeyError, Nonce, NonceError, ReplayError, ReplayWindow, Standing,
};
use crate::wire::{HandshakeRequest, HandshakeResponse};

/// A well-formed request. Nothing in it is proven: anyone may have written any hotkey into it.
#[derive(Debug, Clone)]
pub struct Claim {
    validator: Hotkey,
    timestamp: u64,
    nonce: Nonce,
    /// The nonce in the client's letters. Both texts are signed over these.
    nonce_text: String,
    signature: [u8; SIGNATURE_BYTES],
    fingerprint: CertFingerprint,
}

impl Claim {
    /// Reads a request that came over the connection whose certificate has this fingerprint.
    ///
    /// Every field has one length or a small upper bound, so the cost is a few microseconds whatever was sent.
    ///
    /// # Errors
    /// [`Refusal::Validator`], [`Refusal::Nonce`], [`Refusal::SignatureEncoding`].
    pub fn parse(request: &HandshakeRequest, fingerprint: CertFingerprint) -> Result<Self, Refusal> {
        let validator = request.validator_hotkey.parse().map_err(Refusal::Validator)?;
        let nonce = request.nonce.parse().map_err(Refusal::Nonce)?;
        let signature = decode_signature(&request.signature).ok_or(Refusal::SignatureEncoding)?;
        Ok(Self {
            validator,
            timestamp: request.timestamp,
            nonce,
            nonce_text: request.nonce.clone(),
            signature,
            fingerprint,
        })
    }

    /// Whom the request claims to come from: enough to ask the limiter and the permits, no more.
    pub fn validator(&self) -> &Hotkey {
        &self.validator
    }

    /// Holds the claim's timestamp against the server's clock `now`, in Unix seconds. It has to be younger than
    /// `age_secs_max` (by default [`SIGNATURE_AGE_SECS`](super::SIGNATURE_AGE_SECS)), and at most
    /// [`CLOCK_AHEAD_SECS_MAX`] ahead.
    ///
    /// # Errors
    /// [`Refusal::TooOld`], [`Refusal::FromTheFuture`].
    pub fn check_time(self, now: u64, age_secs_max: u64) -> Result<TimelyClaim, Refusal> {
        let age_secs = now.saturating_sub(self.timestamp);
        if age_secs >= age_secs_max {
            return Err(Refusal::TooOld { age_secs });
        }
        let ahead_secs = self.timestamp.saturating_sub(now);
        if ahead_secs > CLOCK_AHEAD_SECS_MAX {
            return Err(Refusal::FromTheFuture { ahead_secs });
        }
        Ok(TimelyClaim(self))
    }
}

/// A claim made now. It is still nothing but a claim.
#[derive(Debug, Clone)]
pub struct TimelyClaim(Claim);

impl TimelyClaim {
    /// Whom the request claims to come from.
    pub fn validator(&self) -> &Hotkey {
        &self.0.validator
    }

    /// Verifies the signature: the expensive step, about a hundred microseconds, for threads that do no I/O.
    ///
    /// # Errors
    /// [`Refusal::Signature`].
    pub fn verify(self) -> Result<VerifiedClaim, Refusal> {
        let Claim { validator, timestamp, nonce_text, signature, fingerprint, .. } = &self.0;
        let text = request_text(validator, *timestamp, nonce_text, fingerprint);
        sr25519::verify(validator, text.as_bytes(), signature).map_err(Refusal::Signature)?;
        Ok(VerifiedClaim(self.0))
    }
}

/// A claim that the holder of the hotkey did sign, for this connection. It may yet be a replay.
#[derive(Debug, Clone)]
pub struct VerifiedClaim(Claim);

impl VerifiedClaim {
    /// Who signed it.
    pub fn validator(&self) -> &Hotkey {
        &self.0.validator
    }

    /// Spends the nonce. `now` is the server's clock in Unix seconds at this moment; verifying may have had to wait.
    ///
    /// # Errors
    /// [`Refusal::Replay`], of which [`ReplayError`] says why.
    pub fn admit(self, window: &mut ReplayWindow, now: u64) -> Result<AdmittedClaim, Refusal> {
        self.admit_as(Standing::Unknown, window, now)
    }

    /// The same for a validator that has this standing with the server; see [`ReplayWindow::admit_as`].
    ///
    /// # Errors
    /// [`Refusal::Replay`], of which [`ReplayError`] says why.
    pub fn admit_as(
        self,
        standing: Standing,
        window: &mut ReplayWindow,
        now: u64,
    ) -> Result<AdmittedClaim, Refusal> {
        let Claim { validator, nonce, timestamp, .. } = self.0;
        window.admit_as(standing, validator, nonce, timestamp, now).map_err(Refusal::Replay)?;
        Ok(AdmittedClaim(self.0))
    }
}

/// A claim that holds, for the first time. The peer is the validator it says it is.
#[derive(Debug)]
pub struct AdmittedClaim(Claim);

impl AdmittedClaim {
    /// Who the peer is.
    pub fn validator(&self) -> &Hotkey {
        &self.0.validator
    }

    /// The answer of `miner`, to be signed; `now` is the server's clock in Unix seconds.
    pub fn answer(self, miner: Hotkey, now: u64) -> Acceptance {
        Acceptance { claim: self.0, miner, timestamp: now }
    }
}

/// An acceptance that the miner's hotkey has yet to sign.
#[derive(Debug)]
pub struct Acceptance {
    claim: Claim,
    miner: Hotkey,
    timestamp: u64,
}

impl Acceptance {
    /// The text whose UTF-8 bytes the miner's hotkey has to sign.
    pub fn text_to_sign(&self) -> String {
        let Claim { validator, nonce_text, fingerprint, .. } = &self.claim;
        response_text(validator, &self.miner, self.timestamp, nonce_text, fingerprint)
    }

    /// The response to send; `connection_id` is usually that of [`connection_id`](super::connection_id).
    ///
    /// # Errors
    /// [`SignatureError::Length`] when the signature is not 64 bytes.
    pub fn sign_with(
        self,
        signature: &[u8],
        connection_id: String,
    ) -> Result<HandshakeResponse, SignatureError> {
        let signature: &[u8; SIGNATURE_BYTES] =
            signature.try_into().map_err(|_| SignatureError::Length { found: signature.len() })?;
        Ok(HandshakeResponse {
            miner_hotkey: self.miner.to_string(),
            timestamp: self.timestamp,
            signature: encode_signature(signature),
            accepted: true,
            connection_id,
            cert_fingerprint: Some(self.claim.fingerprint.to_string()),
        })
    }
}

/// The response that refuses, possible at any step once the request was read. It tells the peer nothing about the
/// reason; `now` is the server's clock in Unix seconds.
pub fn refuse(miner: &Hotkey, now: u64) -> HandshakeResponse {
    refusal(miner.to_string(), now)
}

/// The response to a handshake that was not looked at, because it could not be decoded or the limiter said no.
/// Published servers leave the miner's hotkey empty then.
pub fn refuse_unread(now: u64) -> HandshakeResponse {
    refusal(String::new(), now)
}

fn refusal(miner_hotkey: String, now: u64) -> HandshakeResponse {
    HandshakeResponse {
        miner_hotkey,
        timestamp: now,
        signature: String::new(),
        accepted: false,
        connection_id: String::new(),
        cert_fingerprint: None,
    }
}

/// Why a claim does not hold. For the server's own logs: the peer is not told. Whether a claim that holds is let in (the
/// limiter, permits, room) is the server's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The validator's hotkey is not one, or not in its canonical spelling.
    #[error("validator hotkey: {0}")]
    Validator(#[source] HotkeyError),
    /// The nonce is not 32 hex digits.
    #[error("{0}")]
    Nonce(#[source] NonceError),
    /// The signature is not base64 of 64 bytes.
    #[error("signature is not the base64 of {SIGNATURE_BYTES} bytes")]
    SignatureEncoding,
    /// The timestamp has reached the age at which signatures are refused.
    #[error("the request is {age_secs} s old")]
    TooOld {
        /// Its age by the server's clock, in seconds.
        age_secs: u64,
    },
    /// The timestamp is further ahead than clocks may differ.
    #[error("the request is from {ahead_secs} s in the future")]
    FromTheFuture {
        /// How far ahead of the server's clock, in seconds.
        ahead_secs: u64,
    },
    /// The validator does not hold the hotkey it names, or signed something else, such as another certificate.
    #[error("the validator's {0}")]
    Signature(#[source] SignatureError),
    /// The nonce could not be spent.
    #[error(transparent)]
    Replay(ReplayError),
}

impl Refusal {
    /// The reason as fixed words for logs and metrics, without anything a peer wrote.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Validator(_) => "bad_validator_hotkey",
            Self::Nonce(_) => "bad_nonce",
            Self::SignatureEncoding => "bad_signature_encoding",
            Self::TooOld { .. } => "too_old",
            Self::FromTheFuture { .. } => "from_the_future",
            Self::Signature(_) => "bad_signature",
            Self::Replay(err) => err.reason(),
        }
    }
}

impl From<Refusal> for LightningError {
    fn from(refusal: Refusal) -> Self {
        Self::Handshake(refusal.to_string())
    }
}
