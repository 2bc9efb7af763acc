//! Who is who: hotkeys, signatures, the handshake, the replay window and the handshake limiter.
//!
//! What a peer sends is parsed here once into types that cannot hold anything else ([`Hotkey`], [`Nonce`],
//! [`CertFingerprint`], [`TlsKeyPin`]), and the handshake's steps are types too, so that a check cannot be left out or done too late.

pub mod attempts;
pub mod fingerprint;
pub mod handshake;
pub mod hotkey;
pub mod nonce;
pub mod replay;
pub mod source;
pub mod sr25519;
pub mod tls_key_pin;

pub use attempts::{AttemptLimiter, AttemptLimits, Claimed};
pub use fingerprint::{CertFingerprint, FingerprintError};
pub use handshake::{
    Acceptance, AdmittedClaim, Awaiting, Claim, HandshakeError, Opening, ProvenMiner, Refusal, TimelyClaim,
    VerifiedClaim,
};
pub use hotkey::{Hotkey, HotkeyError};
pub use nonce::{Nonce, NonceError};
pub use replay::{ReplayError, ReplayWindow, Standing};
pub use source::SourcePrefix;
pub use sr25519::{Keypair, SignatureError};
pub use tls_key_pin::{TlsKeyPin, TlsKeyPinError};
