//! The client's side: open, wait, verify.

use super::{decode_signature, encode_signature, request_text, response_text};
use crate::error::LightningError;
use crate::identity::sr25519::{self, SIGNATURE_BYTES, SignatureError};
use crate::identity::{CertFingerprint, FingerprintError, Hotkey, HotkeyError, Nonce};
use crate::wire::{HandshakeRequest, HandshakeResponse};

/// A handshake that the client is about to sign.
#[derive(Debug, Clone)]
pub struct Opening {
    validator: Hotkey,
    fingerprint: CertFingerprint,
    timestamp_secs: u64,
    nonce: Nonce,
}

impl Opening {
    /// An opening by `validator` towards the holder of the certificate that TLS showed.
    ///
    /// `timestamp_secs` is the client's clock in Unix seconds; `nonce` must be fresh and unpredictable, because it is
    /// all that tells this handshake's answer from a recorded one.
    pub fn new(validator: Hotkey, fingerprint: CertFingerprint, timestamp_secs: u64, nonce: Nonce) -> Self {
        Self { validator, fingerprint, timestamp_secs, nonce }
    }

    /// The text whose UTF-8 bytes the validator's hotkey has to sign.
    pub fn text_to_sign(&self) -> String {
        request_text(&self.validator, self.timestamp_secs, &self.nonce.to_string(), &self.fingerprint)
    }

    /// The request to send, and what to judge the answer with.
    ///
    /// The signature comes from a signer that may be anything, so its length is checked. Whether it is right is left
    /// to the server: checking it here would double the cost of every dial.
    ///
    /// # Errors
    /// [`SignatureError::Length`] when it is not 64 bytes.
    pub fn sign_with(self, signature: &[u8]) -> Result<(HandshakeRequest, Awaiting), SignatureError> {
        let signature: &[u8; SIGNATURE_BYTES] =
            signature.try_into().map_err(|_| SignatureError::Length { found: signature.len() })?;
        let request = HandshakeRequest {
            validator_hotkey: self.validator.to_string(),
            timestamp: self.timestamp_secs,
            nonce: self.nonce.to_string(),
            signature: encode_signature(signature),
        };
        Ok((request, Awaiting { opening: self }))
    }
}

/// A handshake whose answer is still to come.
#[derive(Debug, Clone)]
pub struct Awaiting {
    opening: Opening,
}

impl Awaiting {
    /// Judges the answer: a signature is verified, which takes about a hundred microseconds.
    ///
    /// # Errors
    /// [`HandshakeError`], in the order of its variants. After any of them nothing is known about the peer.
    pub fn verify(self, response: &HandshakeResponse) -> Result<ProvenMiner, HandshakeError> {
        if !response.accepted {
            return Err(HandshakeError::Refused);
        }
        let miner: Hotkey = response.miner_hotkey.parse().map_err(HandshakeError::MinerHotkey)?;
        self.check_fingerprint(response)?;
        if !is_fit_for_logs(&response.connection_id) {
            return Err(HandshakeError::ConnectionId);
        }
        let signature = decode_signature(&response.signature).ok_or(HandshakeError::SignatureEncoding)?;
        sr25519::verify(&miner, self.text_signed_by(&miner, response.timestamp).as_bytes(), &signature)
            .map_err(HandshakeError::Signature)?;
        Ok(ProvenMiner {
            hotkey: miner,
            connection_id: response.connection_id.clone(),
            timestamp: response.timestamp,
        })
    }

    /// The server has to name its certificate: an answer without it would not say for which connection it is meant.
    fn check_fingerprint(&self, response: &HandshakeResponse) -> Result<(), HandshakeError> {
        let claimed = response.cert_fingerprint.as_deref().ok_or(HandshakeError::FingerprintMissing)?;
        let claimed: CertFingerprint = claimed.parse().map_err(HandshakeError::FingerprintText)?;
        if claimed != self.opening.fingerprint {
            return Err(HandshakeError::FingerprintMismatch);
        }
        Ok(())
    }

    fn text_signed_by(&self, miner: &Hotkey, timestamp: u64) -> String {
        let Opening { validator, fingerprint, nonce, .. } = &self.opening;
        response_text(validator, miner, timestamp, &nonce.to_string(), fingerprint)
    }
}

/// The connection id is the one field that nobody signs and that is shown to people.
fn is_fit_for_logs(connection_id: &str) -> bool {
    connection_id.len() <= CONNECTION_ID_BYTES_MAX && !connection_id.chars().any(char::is_control)
}

/// Published servers write 67 bytes; four times that leaves room for others.
const CONNECTION_ID_BYTES_MAX: usize = 256;

/// A miner that proved, on this connection, that it holds its hotkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenMiner {
    /// Who it is.
    pub hotkey: Hotkey,
    /// The server's name for the connection: at most 256 bytes, no control characters, otherwise unproven.
    pub connection_id: String,
    /// The miner's clock in Unix seconds when it signed. Not held against the client's clock: the nonce is what makes
    /// the answer fresh.
    pub timestamp: u64,
}

impl ProvenMiner {
    /// Passes the miner on if it is the one that was wanted.
    ///
    /// # Errors
    /// [`HandshakeError::OtherMiner`], which names both.
    pub fn expect(self, wanted: &Hotkey) -> Result<Self, HandshakeError> {
        if self.hotkey != *wanted {
            return Err(HandshakeError::OtherMiner { wanted: *wanted, proven: self.hotkey });
        }
        Ok(self)
    }
}

/// Why the client does not trust the answer to its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The server said no. It does not say why, and nobody signed that it said so.
    #[error("the miner refused the handshake")]
    Refused,
    /// The miner's hotkey is not one, or not in its canonical spelling.
    #[error("miner hotkey: {0}")]
    MinerHotkey(#[source] HotkeyError),
    /// The answer does not say for which certificate it is meant.
    #[error("the answer has no certificate fingerprint")]
    FingerprintMissing,
    /// The fingerprint is not base64 of 32 bytes.
    #[error("the answer's {0}")]
    FingerprintText(#[source] FingerprintError),
    /// The server holds another certificate than the one seen: somebody sits in the middle.
    #[error("the answer is for another certificate than the connection's")]
    FingerprintMismatch,
    /// The connection id is too long, or has control characters.
    #[error("the connection id is unfit to be shown")]
    ConnectionId,
    /// The signature is not base64 of 64 bytes.
    #[error("the miner's signature is not the base64 of {SIGNATURE_BYTES} bytes")]
    SignatureEncoding,
    /// The miner does not hold the hotkey it names, or signed something else.
    #[error("the miner's {0}")]
    Signature(#[source] SignatureError),
    /// The miner proved to be somebody else than the one wanted.
    #[error("the address belongs to {proven}, not to {wanted}")]
    OtherMiner {
        /// Whom the caller wanted.
        wanted: Hotkey,
        /// Who answered and proved it.
        proven: Hotkey,
    },
}

impl HandshakeError {
    /// The reason as fixed words for logs and metrics, without anything a peer wrote.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::MinerHotkey(_) => "bad_miner_hotkey",
            Self::FingerprintMissing => "no_fingerprint",
            Self::FingerprintText(_) => "bad_fingerprint",
            Self::FingerprintMismatch => "other_certificate",
            Self::ConnectionId => "bad_connection_id",
            Self::SignatureEncoding => "bad_signature_encoding",
            Self::Signature(_) => "bad_signature",
            Self::OtherMiner { .. } => "other_miner",
        }
    }
}

impl From<HandshakeError> for LightningError {
    fn from(err: HandshakeError) -> Self {
        Self::Handshake(err.to_string())
    }
}
