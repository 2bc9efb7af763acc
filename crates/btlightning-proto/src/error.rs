//! [`LightningError`], the error of the published API.
//!
//! It carries a sentence and a coarse class. The newer calls return precise enums instead ([`crate::wire::FrameError`],
//! [`crate::identity::HandshakeError`], ...), each of which converts into a `LightningError` for the published calls.

use std::fmt::Display;

/// The result of a published call.
pub type Result<T> = std::result::Result<T, LightningError>;

/// What went wrong in a published call: a coarse class and a sentence.
///
/// The variants and their `Display` prefixes are those of btlightning 0.2, and the enum can be matched exhaustively.
#[derive(Debug, thiserror::Error)]
pub enum LightningError {
    /// No connection could be made or used.
    #[error("connection error: {0}")]
    Connection(String),
    /// The peer did not prove who it is, or refused us.
    #[error("handshake error: {0}")]
    Handshake(String),
    /// A signature could not be made or read.
    #[error("signing error: {0}")]
    Signing(String),
    /// A value could not be turned into MessagePack or back.
    #[error("serialization error: {0}")]
    Serialization(String),
    /// Bytes could not be moved, or not in time.
    #[error("transport error: {0}")]
    Transport(String),
    /// A synapse handler failed.
    #[error("handler error: {0}")]
    Handler(String),
    /// A setting is out of its bounds, or a needed one is missing.
    #[error("config error: {0}")]
    Config(String),
    /// A streaming answer broke off.
    #[error("stream error: {0}")]
    Stream(String),
}

impl LightningError {
    /// A [`LightningError::Handler`] with the words of `err`, for use with `map_err` in handlers.
    pub fn handler(err: impl Display) -> Self {
        Self::Handler(err.to_string())
    }
}
