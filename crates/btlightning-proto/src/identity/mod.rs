//! Who is who: hotkeys, signatures, the handshake, the replay window and the handshake limiter.
//!
//! What a peer sends is parsed here once into types that cannot hold anything else ([`Hotkey`], [`Nonce`],
//! [`CertFingerprint`]).

pub mod fingerprint;
pub mod hotkey;
pub mod nonce;
pub mod sr25519;

pub use fingerprint::{CertFingerprint, FingerprintError};
pub use hotkey::{Hotkey, HotkeyError};
pub use nonce::{Nonce, NonceError};
pub use sr25519::{Keypair, SignatureError};
