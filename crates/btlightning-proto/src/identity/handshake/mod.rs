//! The handshake: each side proves to the other that it holds its hotkey, on this TLS connection and now.
//!
//! # What is said
//!
//! The server's certificate is self-signed and made anew at each start, so TLS gives a private channel to *somebody*.
//! The handshake says to whom. Both texts name both ends of that channel by the certificate's fingerprint: whoever
//! sits in the middle has to show a certificate of its own, and what the honest sides sign for it verifies nowhere
//! else.
//!
//! 1. The client signs `handshake:{validator}:{timestamp}:{nonce}:{fingerprint}` for the certificate it sees, and
//!    sends the fields except the fingerprint, which the server knows.
//! 2. The server takes the request apart, and refuses it at the first thing that is wrong, cheapest first: spellings,
//!    time, signature, nonce. The nonce comes after the signature so that only the holder of a key can spend memory
//!    in that key's name.
//! 3. The server signs `handshake_response:{validator}:{miner}:{timestamp}:{nonce}:{fingerprint}`. Its timestamp is
//!    its own; the nonce is the client's, in the client's letters, and is what makes the answer fresh.
//! 4. The client checks that signature against the hotkey that the answer names. That proves *one* miner for the whole
//!    connection. Whether it is the wanted one is the caller's question ([`ProvenMiner::expect`]).
//!
//! A refusal is not signed and gives no reason: its signature and connection id are empty, its fingerprint is absent.
//!
//! # As types
//!
//! Every step consumes the one before it, so that none can be skipped:
//!
//! ```text
//! client   Opening --sign_with--> (request, Awaiting) --verify--> ProvenMiner
//! server   Claim --check_time--> TimelyClaim --verify--> VerifiedClaim --admit--> AdmittedClaim
//!                --answer--> Acceptance --sign_with--> response
//! ```
//!
//! Signing happens outside, between two steps: the key may be in another process. Times are Unix seconds.

mod client;
mod server;

pub use client::{Awaiting, HandshakeError, Opening, ProvenMiner};
pub use server::{
    Acceptance, AdmittedClaim, Claim, Refusal, TimelyClaim, VerifiedClaim, refuse, refuse_unread,
};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::sr25519::SIGNATURE_BYTES;
use super::{CertFingerprint, Hotkey};

/// The age in seconds at which published servers refuse a signature, unless configured otherwise.
pub const SIGNATURE_AGE_SECS: u64 = 300;
/// The most that [`SIGNATURE_AGE_SECS`] may be configured to be.
pub const SIGNATURE_AGE_SECS_MAX: u64 = 3600;
/// How far ahead of the server's clock a client's timestamp may be, in seconds.
pub const CLOCK_AHEAD_SECS_MAX: u64 = 60;

/// The name that servers give to a connection: who it is, and when in Unix milliseconds it was accepted.
pub fn connection_id(validator: &Hotkey, unix_millis: u64) -> String {
    format!("conn_{validator}_{unix_millis}")
}

/// What the client signs. The nonce is a text because the server has to repeat the client's letters.
fn request_text(validator: &Hotkey, timestamp: u64, nonce: &str, fingerprint: &CertFingerprint) -> String {
    format!("handshake:{validator}:{timestamp}:{nonce}:{fingerprint}")
}

/// What the server signs.
fn response_text(
    validator: &Hotkey,
    miner: &Hotkey,
    timestamp: u64,
    nonce: &str,
    fingerprint: &CertFingerprint,
) -> String {
    format!("handshake_response:{validator}:{miner}:{timestamp}:{nonce}:{fingerprint}")
}

fn encode_signature(signature: &[u8; SIGNATURE_BYTES]) -> String {
    STANDARD.encode(signature)
}

/// The signature in its one base64 spelling, or nothing.
fn decode_signature(text: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    // Looked at first, so that a long text costs nothing.
    if text.len() != SIGNATURE_TEXT_BYTES {
        return None;
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

const SIGNATURE_TEXT_BYTES: usize = 88;
