//! [`TlsKeyPin`], by which a client knows a miner's TLS key before it sends anything.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 of a TLS key's SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in DER.
///
/// The pin is of the key and not of a certificate, so a miner that keeps its key may make a new certificate at each
/// start. `Display` writes 64 lowercase hex digits, those that
/// `openssl pkey -in key.pem -pubout -outform der | sha256sum` prints; `FromStr` reads either case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsKeyPin([u8; TlsKeyPin::BYTES]);

impl TlsKeyPin {
    /// Length of a pin in bytes.
    pub const BYTES: usize = 32;
    /// Length of its text in bytes.
    pub const TEXT_BYTES: usize = 64;

    /// The pin of a public key, given as a SubjectPublicKeyInfo in DER.
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        Self(Sha256::digest(spki_der).into())
    }

    /// A pin that was published as these bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for TlsKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TlsKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TlsKeyPin {
    type Err = TlsKeyPinError;

    fn from_str(text: &str) -> Result<Self, TlsKeyPinError> {
        let digits: &[u8; Self::TEXT_BYTES] = text.as_bytes().try_into().map_err(|_| TlsKeyPinError)?;
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Result<u8, TlsKeyPinError> {
    let value = char::from(digit).to_digit(16).ok_or(TlsKeyPinError)?;
    u8::try_from(value).map_err(|_| TlsKeyPinError)
}

/// The text is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("TLS key pin is not 64 hex digits")]
pub struct TlsKeyPinError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_what_openssl_and_sha256sum_say() {
        // openssl pkey -pubout -outform der of a P-256 key, and its sha256sum.
        let spki = SPKI.split_whitespace().flat_map(bytes_of_hex).collect::<Vec<_>>();
        assert_eq!(TlsKeyPin::of_public_key(&spki).to_string(), PIN);
    }

    const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200046a0e442cdb6e286a243ef8b2703c6cd6cba477 \
        130a33a9884ab320291b912ed7b280d7ebc83efd780a7b9c35ccf36672b1a982332e752532c340203e9d55d1b1";
    const PIN: &str = "914ede5375498e39ca10f9bb0a97285d28ff61ef6c4c7dbbeb7961730cb72a20";

    fn bytes_of_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_text_comes_back_as_the_same_pin() {
        let pin = TlsKeyPin::of_public_key(b"key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(pin.to_string().to_uppercase().parse(), Ok(pin));
        assert_eq!(TlsKeyPin::from_bytes(*pin.as_bytes()), pin);
    }

    #[test]
    fn what_is_not_64_hex_digits_is_no_pin() {
        let text = TlsKeyPin::of_public_key(b"key").to_string();
        for other in [
            "".to_owned(),
            text[1..].to_owned(),
            format!("{text}0"),
            text.replace('a', "g"),
            format!("+{}", &text[1..]),
        ] {
            assert_eq!(other.parse::<TlsKeyPin>(), Err(TlsKeyPinError), "{other}");
        }
    }
}
