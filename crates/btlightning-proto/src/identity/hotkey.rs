//! [`Hotkey`], a Bittensor hotkey: a 32-byte sr25519 public key that has exactly one spelling.
//!
//! A peer is whoever holds the key, so keys are compared by their bytes. Texts are parsed once, at the edge, and only
//! the canonical spelling passes: otherwise one peer could appear under several names, each with its own share of
//! connections, nonces and attempts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use blake2::{Blake2b512, Digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::LightningError;

/// A hotkey by its public key: `Display`, `FromStr` and serde use its canonical SS58 spelling with prefix 42.
///
/// It is never all zero (the group's identity point, for which anyone could sign). Whether the bytes are a point of
/// the curve at all is found out only when a signature is verified: such a key can be named, but nobody can prove it.
///
/// Writing one out costs a base58 encoding, a few microseconds; comparing and hashing cost nothing of the kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hotkey([u8; Hotkey::BYTES]);

impl Hotkey {
    /// Length of a public key in bytes.
    pub const BYTES: usize = 32;
    /// Length of every canonical spelling in bytes: 35 bytes that begin with 42 always make 48 base58 digits.
    pub const TEXT_BYTES: usize = 48;

    /// The hotkey of a public key as sr25519 and the chain store it.
    ///
    /// # Errors
    /// [`HotkeyError::IdentityPoint`] for 32 zero bytes.
    pub fn from_public_key(public_key: [u8; Self::BYTES]) -> Result<Self, HotkeyError> {
        if public_key == [0; Self::BYTES] {
            return Err(HotkeyError::IdentityPoint);
        }
        Ok(Self(public_key))
    }

    /// The public key.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, HotkeyError> {
        // Base58 is quadratic in the length of what it reads, so nothing longer than a spelling can be is read at all.
        if text.len() > TEXT_BYTES_READ_MAX {
            return Err(HotkeyError::TooLong { found: text.len() });
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| HotkeyError::NotBase58)?;
        let (payload, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(HotkeyError::Length { found: bytes.len() })?;
        match payload.first() {
            Some(&NETWORK_PREFIX) => {}
            Some(&first) => return Err(HotkeyError::OtherNetwork { first_byte: first }),
            None => return Err(HotkeyError::Length { found: bytes.len() }),
        }
        let public_key = payload[1..].try_into().map_err(|_| HotkeyError::Length { found: bytes.len() })?;
        if ss58_checksum(payload) != *checksum {
            return Err(HotkeyError::Checksum);
        }
        let hotkey = Self::from_public_key(public_key)?;
        if hotkey.spell().as_str() != text {
            return Err(HotkeyError::NotCanonical);
        }
        Ok(hotkey)
    }

    fn spell(&self) -> Spelling {
        let mut bytes = [0; 1 + Self::BYTES + CHECKSUM_BYTES];
        bytes[0] = NETWORK_PREFIX;
        bytes[1..=Self::BYTES].copy_from_slice(&self.0);
        let checksum = ss58_checksum(&bytes[..=Self::BYTES]);
        bytes[1 + Self::BYTES..].copy_from_slice(&checksum);

        let mut digits = [0; Self::TEXT_BYTES];
        bs58::encode(bytes).onto(&mut digits[..]).expect("35 bytes that begin with 42 make 48 base58 digits");
        Spelling(digits)
    }
}

/// The prefix of the generic Substrate network, which Bittensor uses.
const NETWORK_PREFIX: u8 = 42;
const CHECKSUM_BYTES: usize = 2;
/// Longer than any spelling with any prefix, so that a key of another network is called that.
const TEXT_BYTES_READ_MAX: usize = 64;

/// The first two bytes of blake2b-512 over the SS58 domain and the payload, as the SS58 registry defines it.
fn ss58_checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Blake2b512::new().chain_update(b"SS58PRE").chain_update(payload).finalize();
    [hash[0], hash[1]]
}

/// The canonical text on the stack.
struct Spelling([u8; Hotkey::TEXT_BYTES]);

impl Spelling {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base58 digits are ASCII")
    }
}

impl fmt::Display for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.spell().as_str())
    }
}

impl fmt::Debug for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hotkey {
    type Err = HotkeyError;

    fn from_str(text: &str) -> Result<Self, HotkeyError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Hotkey {
    type Error = HotkeyError;

    fn try_from(text: &str) -> Result<Self, HotkeyError> {
        Self::parse(text)
    }
}

impl Serialize for Hotkey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.spell().as_str())
    }
}

impl<'de> Deserialize<'de> for Hotkey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<str>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Why a text or a key is not a [`Hotkey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HotkeyError {
    /// The text is longer than any SS58 spelling of a public key; it was not looked at.
    #[error("a text of {found} bytes is too long to be a hotkey")]
    TooLong {
        /// Length of the text in bytes.
        found: usize,
    },
    /// The text has a character that is no base58 digit, such as a space.
    #[error("hotkey is not base58")]
    NotBase58,
    /// The text decodes to something other than prefix, 32-byte key and checksum.
    #[error("hotkey decodes to {found} bytes, not 35")]
    Length {
        /// Decoded length in bytes.
        found: usize,
    },
    /// The text is spelled for another network than 42, even if it is the same key.
    #[error("hotkey is spelled for another network (first byte {first_byte}, not 42)")]
    OtherNetwork {
        /// First decoded byte: the whole prefix below 64, half of it above.
        first_byte: u8,
    },
    /// The checksum belongs to other bytes; most likely a typing error.
    #[error("hotkey checksum does not match")]
    Checksum,
    /// The text decodes to a key but is not how that key is spelled.
    #[error("hotkey is not in its canonical spelling")]
    NotCanonical,
    /// The key is the group's identity point, 32 zero bytes, for which anyone could sign.
    #[error("hotkey is the identity point")]
    IdentityPoint,
}

/// A hotkey that reaches a caller as a bare `HotkeyError` is one the program itself was given, so it is a matter of
/// configuration. What a peer claims is wrapped in [`HandshakeError`](super::HandshakeError) or
/// [`Refusal`](super::Refusal).
impl From<HotkeyError> for LightningError {
    fn from(err: HotkeyError) -> Self {
        Self::Config(err.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    const ALICE_KEY: [u8; 32] = [
        0xd4, 0x35, 0x93, 0xc7, 0x15, 0xfd, 0xd3, 0x1c, 0x61, 0x14, 0x1a, 0xbd, 0x04, 0xa9, 0x9f, 0xd6, 0x82,
        0x2c, 0x85, 0x58, 0x85, 0x4c, 0xcd, 0xe3, 0x9a, 0x56, 0x84, 0xe7, 0xa5, 0x6d, 0xa2, 0x7d,
    ];

    fn spell_with(prefix: &[u8], key: &[u8]) -> String {
        let payload = [prefix, key].concat();
        let checksum = ss58_checksum(&payload);
        bs58::encode([payload.as_slice(), &checksum].concat()).into_string()
    }

    #[test]
    fn alice_is_spelled_as_substrate_spells_her() {
        let alice = Hotkey::from_public_key(ALICE_KEY).unwrap();
        assert_eq!(alice.to_string(), ALICE);
        assert_eq!(format!("{alice:?}"), ALICE);
        assert_eq!(ALICE.parse(), Ok(alice));
        assert_eq!(Hotkey::try_from(ALICE), Ok(alice));
    }

    #[test]
    fn the_same_key_for_another_network_is_refused() {
        // Polkadot's, Kusama's and a two-byte prefix.
        assert_eq!(
            spell_with(&[0], &ALICE_KEY).parse::<Hotkey>(),
            Err(HotkeyError::OtherNetwork { first_byte: 0 })
        );
        assert_eq!(
            spell_with(&[2], &ALICE_KEY).parse::<Hotkey>(),
            Err(HotkeyError::OtherNetwork { first_byte: 2 })
        );
        assert_eq!(
            spell_with(&[0x50, 0x03], &ALICE_KEY).parse::<Hotkey>(),
            Err(HotkeyError::OtherNetwork { first_byte: 0x50 })
        );
    }

    #[test]
    fn other_lengths_are_refused_whatever_their_checksum() {
        assert_eq!(
            spell_with(&[42], &ALICE_KEY[..31]).parse::<Hotkey>(),
            Err(HotkeyError::Length { found: 34 })
        );
        assert_eq!(spell_with(&[42], &[7; 33]).parse::<Hotkey>(), Err(HotkeyError::Length { found: 36 }));
        assert_eq!("".parse::<Hotkey>(), Err(HotkeyError::Length { found: 0 }));
        assert_eq!("1".parse::<Hotkey>(), Err(HotkeyError::Length { found: 1 }));
        assert_eq!("z".repeat(65).parse::<Hotkey>(), Err(HotkeyError::TooLong { found: 65 }));
    }

    #[test]
    fn whitespace_hex_and_leading_ones_are_refused() {
        assert_eq!(format!(" {ALICE}").parse::<Hotkey>(), Err(HotkeyError::NotBase58));
        assert_eq!(format!("{ALICE}\n").parse::<Hotkey>(), Err(HotkeyError::NotBase58));
        assert_eq!(format!("0x{}", "d4".repeat(31)).parse::<Hotkey>(), Err(HotkeyError::NotBase58));
        assert!(format!("1{ALICE}").parse::<Hotkey>().is_err());
    }

    #[test]
    fn a_changed_character_fails_the_checksum() {
        assert_eq!(ALICE.replace("utQY", "utQZ").parse::<Hotkey>(), Err(HotkeyError::Checksum));
        assert!(ALICE.to_lowercase().parse::<Hotkey>().is_err());
    }

    #[test]
    fn the_identity_point_is_refused_in_both_forms() {
        assert_eq!(Hotkey::from_public_key([0; 32]), Err(HotkeyError::IdentityPoint));
        assert_eq!(spell_with(&[42], &[0; 32]).parse::<Hotkey>(), Err(HotkeyError::IdentityPoint));
    }

    #[test]
    fn serde_uses_the_spelling_and_refuses_what_parsing_refuses() {
        let alice = Hotkey::from_public_key(ALICE_KEY).unwrap();
        let bytes = rmp_serde::to_vec(&alice).unwrap();
        assert_eq!(bytes, rmp_serde::to_vec(ALICE).unwrap());
        assert_eq!(rmp_serde::from_slice::<Hotkey>(&bytes).unwrap(), alice);
        let polkadot = rmp_serde::to_vec(&spell_with(&[0], &ALICE_KEY)).unwrap();
        assert!(rmp_serde::from_slice::<Hotkey>(&polkadot).is_err());
    }
}
