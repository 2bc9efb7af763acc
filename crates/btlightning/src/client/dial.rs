//! One dial: QUIC to an address, then the handshake that proves which hotkey is there.
//!
//! A server holds one hotkey, and the request does not say which one is wanted; so one handshake settles who is at the
//! address, and a connection is never anybody else's. The caller compares the proven hotkey with those it wants.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use btlightning_proto::identity::{HandshakeError, Hotkey, Nonce, Opening, ProvenMiner};
use btlightning_proto::peers::{AddressError, PeerAddr};
use btlightning_proto::wire::{HandshakeResponse, MessageType, encode_frame};
use bytes::Bytes;
use quinn::Connection;

use super::shared::Shared;
use crate::error::LightningError;
use crate::transport::close::{self, CloseReason};
use crate::transport::frame_io::{FrameReader, FrameSender};
use crate::transport::tls;
use crate::util::unix_timestamp_secs;

/// The largest handshake answer that is read, in bytes. An honest one takes under 400.
const HANDSHAKE_PAYLOAD_BYTES_MAX: usize = 4096;

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
    /// The signer failed.
    #[error("{0}")]
    Signing(String),
}

impl DialError {
    /// Whether the peer is there and the answer was no, so that asking again soon is pointless.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Handshake(_) | Self::WrongHotkey { .. } | Self::Incompatible(_))
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
            Self::Signing(_) => "signing_failed",
        }
    }
}

impl From<&DialError> for LightningError {
    fn from(error: &DialError) -> Self {
        let text = error.to_string();
        match error {
            DialError::Handshake(_) | DialError::WrongHotkey { .. } => Self::Handshake(text),
            DialError::Signing(_) => Self::Signing(text),
            _ => Self::Connection(text),
        }
    }
}

/// A live connection and whose it is.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// The only hotkey that this connection is good for.
    pub(crate) proven: Hotkey,
    pub(crate) since: Instant,
}

/// Dials `addr` and finds out who is there. Takes at most the connect timeout. Dropping the future abandons the dial
/// and closes what was opened.
pub(crate) async fn dial(shared: &Shared, addr: &PeerAddr) -> Result<Link, DialError> {
    let socket_addr = addr.socket_addr()?;
    let after = shared.config.connect_timeout;
    let deadline = tokio::time::Instant::now() + after;

    let connecting = shared.connect(socket_addr, addr)?;
    let connection = tokio::time::timeout_at(deadline, connecting)
        .await
        .map_err(|_| DialError::Unanswered { addr: socket_addr, after })?
        .map_err(|error| connect_failure(&error, socket_addr, after))?;

    // From here on an early return must close the connection: quinn would do so silently, without a reason.
    let guard = Unproven(Some(connection.clone()));
    let proven = tokio::time::timeout_at(deadline, prove(shared, &connection))
        .await
        .map_err(|_| DialError::HandshakeTimeout { addr: socket_addr, after })??;
    guard.keep();
    Ok(Link { connection, proven: proven.hotkey, since: tokio::time::Instant::now().into_std() })
}

/// The handshake on a fresh connection.
async fn prove(shared: &Shared, connection: &Connection) -> Result<ProvenMiner, DialError> {
    let fingerprint = tls::peer_fingerprint(connection)
        .ok_or_else(|| DialError::Incompatible("the server showed no certificate".to_owned()))?;
    let opening = Opening::new(shared.validator()?, fingerprint, unix_timestamp_secs(), fresh_nonce()?);
    let signature = sign(shared, opening.text_to_sign()).await?;
    let (request, awaiting) =
        opening.sign_with(&signature).map_err(|error| DialError::Signing(error.to_string()))?;
    let frame = encode_frame(&request, HANDSHAKE_PAYLOAD_BYTES_MAX)
        .map_err(|error| DialError::Local(error.to_string()))?;

    let lost = |why: &dyn std::fmt::Display| match connection.close_reason() {
        Some(error) => DialError::Lost(close::describe(&error)),
        None => DialError::Lost(why.to_string()),
    };
    let (send, receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    let mut sender = FrameSender::new(send);
    sender.send(Bytes::from(frame)).await.map_err(|error| lost(&error))?;
    sender.finish();
    let answer = FrameReader::new(receive)
        .frame(HANDSHAKE_PAYLOAD_BYTES_MAX)
        .await
        .map_err(|error| lost(&error))?
        .ok_or_else(|| lost(&"the server ended the handshake without an answer"))?;
    if answer.kind != MessageType::HandshakeResponse {
        return Err(DialError::Incompatible(format!("a {:?} answered the handshake", answer.kind)));
    }
    let response = HandshakeResponse::decode(&answer.payload)
        .map_err(|error| DialError::Incompatible(format!("the handshake's answer is malformed: {error}")))?;
    // A verification takes a few tens of microseconds and happens once a connection: not worth a change of threads.
    Ok(awaiting.verify(&response)?)
}

/// Asks the signer, which may call out to a wallet and take its time, on the signature thread.
async fn sign(shared: &Shared, text: String) -> Result<Vec<u8>, DialError> {
    let signer = shared.signer().ok_or_else(|| DialError::Signing("No signer configured".to_owned()))?;
    let signed = shared.signatures.run(move || signer.sign(text.as_bytes())).await;
    match signed {
        Ok(Ok(signature)) => Ok(signature),
        Ok(Err(LightningError::Signing(why))) => Err(DialError::Signing(why)),
        Ok(Err(other)) => Err(DialError::Signing(other.to_string())),
        Err(queue) => Err(DialError::Signing(queue.to_string())),
    }
}

fn connect_failure(error: &quinn::ConnectionError, addr: SocketAddr, after: Duration) -> DialError {
    match error {
        quinn::ConnectionError::TimedOut => DialError::Unanswered { addr, after },
        // Alerts of TLS arrive as crypto errors, 0x100 and up (RFC 9001, section 4.8).
        quinn::ConnectionError::TransportError(transport) if is_crypto(transport.code) => {
            DialError::Incompatible(close::describe(error))
        }
        quinn::ConnectionError::ConnectionClosed(closed) if is_crypto(closed.error_code) => {
            DialError::Incompatible(close::describe(error))
        }
        quinn::ConnectionError::VersionMismatch => DialError::Incompatible(close::describe(error)),
        _ => DialError::Lost(close::describe(error)),
    }
}

fn is_crypto(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

fn fresh_nonce() -> Result<Nonce, DialError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| DialError::Local(format!("no randomness: {error}")))?;
    Ok(Nonce::from_random(bytes))
}

/// Closes a connection on which no wanted hotkey was proven.
struct Unproven(Option<Connection>);

impl Unproven {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            CloseReason::NoAuthenticatedHotkeys.close(connection);
        }
    }
}

/// A link whose hotkey nobody wants here.
pub(crate) fn reject(link: &Link, addr: &PeerAddr) -> DialError {
    CloseReason::NoAuthenticatedHotkeys.close(&link.connection);
    DialError::WrongHotkey { addr: addr.clone(), proven: link.proven }
}
