//! [`Nonce`], what makes each handshake's signature unlike every earlier one.

use std::fmt;
use std::str::FromStr;

/// 128 bits chosen by the client for one handshake.
///
/// `Display` writes 32 lowercase hex digits, and so does every published client. `FromStr` reads either case, and
/// equality is that of the 16 bytes: a replayed request in other letters is the same nonce.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce([u8; Nonce::BYTES]);

impl Nonce {
    /// Length of a nonce in bytes.
    pub const BYTES: usize = 16;
    /// Length of its text in bytes.
    pub const TEXT_BYTES: usize = 32;

    /// The nonce of these bytes, which the caller draws from a cryptographic source of randomness.
    pub fn from_random(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        let digits: &[u8; Self::TEXT_BYTES] = text.as_bytes().try_into().map_err(|_| NonceError)?;
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Result<u8, NonceError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(NonceError),
    }
}

/// The text is not exactly 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nonce is not 32 hex digits")]
pub struct NonceError;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn it_is_written_in_lowercase_and_read_in_either_case() {
        let nonce: Nonce = TEXT.parse().unwrap();
        assert_eq!(nonce.as_bytes()[..3], [0x00, 0x11, 0x22]);
        assert_eq!(nonce.to_string(), TEXT);
        assert_eq!(TEXT.to_uppercase().parse(), Ok(nonce));
    }

    #[test]
    fn anything_but_32_hex_digits_is_refused() {
        for text in ["", &TEXT[1..], &format!("{TEXT}0"), &TEXT.replace('a', "g"), &TEXT.replace("00", "+0")]
        {
            assert_eq!(text.parse::<Nonce>(), Err(NonceError), "{text}");
        }
        // 32 bytes, but not 32 digits.
        assert_eq!("é".repeat(16).parse::<Nonce>(), Err(NonceError));
    }
}
