//! [`DialError`]: why there is no connection to a miner.

use std::net::SocketAddr;
use std::time::Duration;

use btlightning_proto::identity::{HandshakeError, Hotkey, TlsKeyPin};
use btlightning_proto::peers::{AddressError, PeerAddr};

use crate::error::LightningError;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address cannot be dialled.
    #[error("invalid address: {0}")]
    Address(#[from] AddressError),
    /// This side cannot dial: no socket for the address family, no signer, a local limit.
    #[error("{0}")]
    Local(String),
    /// Nothing answered within the connect timeout: a closed port, a firewall, a host that is down.
    #[error("no QUIC answer from {addr} within {after:?}")]
    Unanswered {
        /// What was dialled.
        addr: SocketAddr,
        /// The connect timeout.
        after: Duration,
    },
    /// QUIC answered, but the handshake was not answered within the connect timeout.
    #[error("{addr} speaks QUIC but did not answer the handshake within {after:?}")]
    HandshakeTimeout {
        /// What was dialled.
        addr: SocketAddr,
        /// The connect timeout.
        after: Duration,
    },
    /// The connection failed or was closed.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer does not speak the protocol: wrong ALPN or TLS version, or a certificate whose key it does not hold.
    #[error("{0}")]
    Incompatible(String),
    /// The peer's answer to the handshake is not acceptable, or it refused this validator.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Another hotkey than any that is wanted here holds this address.
    #[error("the server at {addr} proved to be {proven}")]
    WrongHotkey {
        /// What was dialled.
        addr: PeerAddr,
        /// Whose server it is.
        proven: Hotkey,
    },
    /// The server does not hold the TLS key that is [pinned](crate::LightningClient::pin_tls_keys) for the miner. If every
    /// hotkey that is wanted at the address has a pin, nothing was sent.
    #[error(
        "the server at {addr} holds the TLS key {key}, which is not the one that is pinned for the miner"
    )]
    WrongTlsKey {
        /// What was dialled.
        addr: PeerAddr,
        /// The pin of the server's key.
        key: TlsKeyPin,
    },
    /// The peer did what no honest one does so often, and the connection was closed for it.
    #[error("the peer misbehaves: {0}")]
    Misbehaving(&'static str),
    /// The signer failed.
    #[error("{0}")]
    Signing(String),
}

impl DialError {
    /// Whether the peer is there and the answer was no, or it misbehaves, so that asking again soon is pointless.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Handshake(_)
                | Self::WrongHotkey { .. }
                | Self::WrongTlsKey { .. }
                | Self::Incompatible(_)
                | Self::Misbehaving(_)
        )
    }

    /// The kind of failure as one stable word, for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Address(_) => "invalid_address",
            Self::Local(_) => "local",
            Self::Unanswered { .. } => "unanswered",
            Self::HandshakeTimeout { .. } => "handshake_timeout",
            Self::Lost(_) => "connection_lost",
            Self::Incompatible(_) => "incompatible",
            Self::Handshake(error) => error.reason(),
            Self::WrongHotkey { .. } => "wrong_hotkey",
            Self::WrongTlsKey { .. } => "wrong_tls_key",
            Self::Misbehaving(_) => "misbehaving",
            Self::Signing(_) => "signing_failed",
        }
    }
}

impl From<&DialError> for LightningError {
    fn from(error: &DialError) -> Self {
        let text = error.to_string();
        match error {
            DialError::Handshake(_) | DialError::WrongHotkey { .. } | DialError::WrongTlsKey { .. } => {
                Self::Handshake(text)
            }
            DialError::Signing(_) => Self::Signing(text),
            _ => Self::Connection(text),
        }
    }
}
