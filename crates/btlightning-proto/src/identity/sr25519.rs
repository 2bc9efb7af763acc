//! Signing and verifying: sr25519 (Schnorr signatures over Ristretto) as Substrate does it, with the signing context
//! `substrate`.

use std::fmt;

use schnorrkel::{ExpansionMode, MiniSecretKey, PublicKey, Signature};

use super::Hotkey;
use crate::error::LightningError;

/// Length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// A hotkey with its secret. `Debug` shows the public half only, and the secret is wiped from memory when dropped.
pub struct Keypair {
    inner: schnorrkel::Keypair,
    hotkey: Hotkey,
}

impl Keypair {
    /// The keypair that Substrate's and Bittensor's wallets derive from a 32-byte seed (the mini secret, expanded the
    /// Ed25519 way). Every seed is valid.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let inner = MiniSecretKey::from_bytes(&seed)
            .expect("every 32 bytes are a mini secret")
            .expand_to_keypair(ExpansionMode::Ed25519);
        let hotkey = Hotkey::from_public_key(inner.public.to_bytes())
            .expect("no known seed expands to the zero scalar; finding one breaks SHA-512");
        Self { inner, hotkey }
    }

    /// The public half.
    pub fn hotkey(&self) -> Hotkey {
        self.hotkey
    }

    /// Signs `message`.
    ///
    /// Signatures are randomised, so two of the same message differ; the randomness comes from the operating system,
    /// and a bad source of it does not expose the key. Takes some tens of microseconds.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.inner.sign_simple(SIGNING_CONTEXT, message).to_bytes()
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keypair").field("hotkey", &self.hotkey).finish_non_exhaustive()
    }
}

/// Checks that `hotkey` signed `message`.
///
/// This is the expensive step of a handshake, about a hundred microseconds in a release build, and is the same work
/// for a good and a wrong signature.
///
/// # Errors
/// [`SignatureError`] says which; a signature that is not in its one canonical encoding is refused like a wrong one.
pub fn verify(hotkey: &Hotkey, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    if signature.len() != SIGNATURE_BYTES {
        return Err(SignatureError::Length { found: signature.len() });
    }
    let signature = Signature::from_bytes(signature).map_err(|_| SignatureError::Encoding)?;
    PublicKey::from_bytes(hotkey.as_bytes())
        .map_err(|_| SignatureError::NotAPoint)?
        .verify_simple(SIGNING_CONTEXT, message, &signature)
        .map_err(|_| SignatureError::Mismatch)
}

const SIGNING_CONTEXT: &[u8] = b"substrate";

/// Why a signature proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A signature is 64 bytes.
    #[error("signature is {found} bytes, not {SIGNATURE_BYTES}")]
    Length {
        /// Length in bytes of what was given.
        found: usize,
    },
    /// The bytes are no sr25519 signature: the scheme's marker bit is missing, or the scalar is not reduced.
    #[error("signature is not a canonical sr25519 signature")]
    Encoding,
    /// The hotkey is not a point of the curve, so nobody can sign for it.
    #[error("hotkey is not a point of the curve")]
    NotAPoint,
    /// A well-formed signature by another key, or of another message.
    #[error("signature does not match")]
    Mismatch,
}

impl From<SignatureError> for LightningError {
    fn from(err: SignatureError) -> Self {
        Self::Signing(err.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE_SEED: [u8; 32] = [
        0xe5, 0xbe, 0x9a, 0x50, 0x92, 0xb8, 0x1b, 0xca, 0x64, 0xbe, 0x81, 0xd2, 0x12, 0xe7, 0xf2, 0xf9, 0xeb,
        0xa1, 0x83, 0xbb, 0x7a, 0x90, 0x95, 0x4f, 0x7b, 0x76, 0x36, 0x1f, 0x6e, 0xdb, 0x5c, 0x0a,
    ];

    #[test]
    fn a_seed_expands_as_substrate_expands_it() {
        let alice = Keypair::from_seed(ALICE_SEED);
        assert_eq!(alice.hotkey().to_string(), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    }

    /// The vector that the JavaScript wallets' sr25519 tests use, made by another build of the scheme than ours.
    #[test]
    fn a_signature_made_elsewhere_verifies() {
        let key = bytes("46ebddef8cd9bb167dc30878d7113b7e168e6f0646beffd77d69d39bad76b47a");
        let signature = bytes(concat!(
            "4e172314444b8f820bb54c22e95076f220ed25373e5c178234aa6c211d292712",
            "44b947e3ff3418ff6b45fd1df1140c8cbff69fc58ee6dc96df70936a2bb74b82",
        ));
        let hotkey = Hotkey::from_public_key(key.try_into().unwrap()).unwrap();
        assert_eq!(verify(&hotkey, b"this is a message", &signature), Ok(()));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_signature_holds_for_its_key_and_message_only() {
        let alice = Keypair::from_seed(ALICE_SEED);
        let bob = Keypair::from_seed([2; 32]);
        let signature = alice.sign(b"message");
        assert_eq!(verify(&alice.hotkey(), b"message", &signature), Ok(()));
        assert_eq!(verify(&alice.hotkey(), b"massage", &signature), Err(SignatureError::Mismatch));
        assert_eq!(verify(&bob.hotkey(), b"message", &signature), Err(SignatureError::Mismatch));
    }

    #[test]
    fn other_lengths_are_refused() {
        let alice = Keypair::from_seed(ALICE_SEED);
        let signature = alice.sign(b"message");
        for len in [0, 63] {
            assert_eq!(
                verify(&alice.hotkey(), b"message", &signature[..len]),
                Err(SignatureError::Length { found: len })
            );
        }
        let long = [signature.as_slice(), &[0]].concat();
        assert_eq!(verify(&alice.hotkey(), b"message", &long), Err(SignatureError::Length { found: 65 }));
    }

    #[test]
    fn encodings_that_are_not_canonical_are_refused() {
        let alice = Keypair::from_seed(ALICE_SEED);
        let mut unmarked = alice.sign(b"message");
        unmarked[63] &= 0x7f;
        assert_eq!(verify(&alice.hotkey(), b"message", &unmarked), Err(SignatureError::Encoding));
        let mut unreduced = alice.sign(b"message");
        unreduced[32..].fill(0xff);
        assert_eq!(verify(&alice.hotkey(), b"message", &unreduced), Err(SignatureError::Encoding));
        // An odd field element is never the canonical encoding of a Ristretto point.
        let mut odd_point = alice.sign(b"message");
        odd_point[0] |= 1;
        assert_eq!(verify(&alice.hotkey(), b"message", &odd_point), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_key_that_is_no_point_proves_nothing() {
        let signature = Keypair::from_seed(ALICE_SEED).sign(b"message");
        let nobody = Hotkey::from_public_key([0xff; 32]).unwrap();
        assert_eq!(verify(&nobody, b"message", &signature), Err(SignatureError::NotAPoint));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", Keypair::from_seed(ALICE_SEED));
        assert_eq!(shown, "Keypair { hotkey: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY, .. }");
    }
}
