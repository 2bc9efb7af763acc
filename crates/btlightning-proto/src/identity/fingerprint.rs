//! [`CertFingerprint`], what both sides sign to tie a handshake to the TLS connection it runs on.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

/// blake2b-256 of a certificate in DER; `Display` and `FromStr` use standard base64 with padding, 44 characters.
///
/// The client hashes the certificate it sees, the server the one it holds. A peer in the middle has to show a
/// certificate of its own, so the two texts differ and neither signature verifies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertFingerprint([u8; CertFingerprint::BYTES]);

impl CertFingerprint {
    /// Length of a fingerprint in bytes.
    pub const BYTES: usize = 32;
    /// Length of its text in bytes.
    pub const TEXT_BYTES: usize = 44;

    /// The fingerprint of a leaf certificate.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self(Blake2b::<U32>::digest(der).into())
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for CertFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_BYTES];
        let written = STANDARD.encode_slice(self.0, &mut text).expect("32 bytes make 44 base64 digits");
        f.pad(std::str::from_utf8(&text[..written]).expect("base64 digits are ASCII"))
    }
}

impl fmt::Debug for CertFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CertFingerprint {
    type Err = FingerprintError;

    /// Accepts the one spelling that `Display` writes: padded, no whitespace, no stray bits in the last digit.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        if text.len() != Self::TEXT_BYTES {
            return Err(FingerprintError);
        }
        let bytes = STANDARD.decode(text).map_err(|_| FingerprintError)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

/// The text is not the base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("certificate fingerprint is not the base64 of 32 bytes")]
pub struct FingerprintError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_blake2b_256() {
        // The digest of the empty input, from the reference implementation of RFC 7693.
        let expected = [
            0x0e, 0x57, 0x51, 0xc0, 0x26, 0xe5, 0x43, 0xb2, 0xe8, 0xab, 0x2e, 0xb0, 0x60, 0x99, 0xda, 0xa1,
            0xd1, 0xe5, 0xdf, 0x47, 0x77, 0x8f, 0x77, 0x87, 0xfa, 0xab, 0x45, 0xcd, 0xf1, 0x2f, 0xe3, 0xa8,
        ];
        assert_eq!(CertFingerprint::of_certificate(b"").as_bytes(), &expected);
    }

    #[test]
    fn the_text_comes_back_as_the_same_fingerprint() {
        let fingerprint = CertFingerprint::of_certificate(b"certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.len(), CertFingerprint::TEXT_BYTES);
        assert_eq!(text.parse(), Ok(fingerprint));
    }

    #[test]
    fn only_the_one_spelling_is_accepted() {
        let text = CertFingerprint::of_certificate(b"").to_string();
        assert_eq!(text, "DldRwCblQ7Loqy6wYJnaodHl30d3j3eH+qtFzfEv46g=");
        for other in [
            "".to_owned(),
            text.trim_end_matches('=').to_owned(),
            text.replace('+', "-"),
            text.replace("g=", "h="),
            format!("{text} "),
        ] {
            assert_eq!(other.parse::<CertFingerprint>(), Err(FingerprintError), "{other}");
        }
    }
}
