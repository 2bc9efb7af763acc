//! Why a connection was closed, in words that the peer sees.
//!
//! Published peers know the reasons of [`CloseReason`]'s first group; they ignore the text of the others, which are
//! for the operator on the other side. The application error code is always 0.

use quinn::{Connection, ConnectionError, Endpoint, VarInt};

/// The reasons this package gives when it closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Server: the same hotkey has made newer connections.
    Replaced,
    /// Server: idle for longer than `cleanup_stale_connections` allows.
    Cleanup,
    /// Server: it stops.
    ServerShutdown,
    /// Server: it was dropped without being stopped.
    Dropped,
    /// Client: it was closed.
    ClientShutdown,
    /// Client: nobody wants this address any more.
    MinerDeregistered,
    /// Client: the hotkey has moved to another address.
    MinerAddrChanged,
    /// Client: the server did not prove a hotkey that is wanted at this address.
    NoAuthenticatedHotkeys,
    /// Server: no handshake within the deadline.
    HandshakeTimeout,
    /// Server: too many handshakes have failed on the connection.
    TooManyHandshakes,
    /// Server: more was sent than a stranger may.
    StrangerAllowance,
    /// Server: the validator floods the connection with frames that say next to nothing.
    FrameFlood,
    /// Server: its place is given to somebody of whom the server knows more, or whose address has fewer.
    Displaced,
    /// Server: another address has fewer strangers, and there was no room for one more.
    CrowdedOut,
    /// Server: the validator's permit is gone.
    PermitRevoked,
    /// Server: the address has left the enforced allowlist.
    SourceNotAllowed,
}

impl CloseReason {
    /// The reason as the peer reads it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Cleanup => "cleanup",
            Self::ServerShutdown => "server_shutdown",
            Self::Dropped => "dropped",
            Self::ClientShutdown => "client_shutdown",
            Self::MinerDeregistered => "miner_deregistered",
            Self::MinerAddrChanged => "miner_addr_changed",
            Self::NoAuthenticatedHotkeys => "no_authenticated_hotkeys",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::TooManyHandshakes => "too_many_handshakes",
            Self::StrangerAllowance => "stranger_allowance",
            Self::FrameFlood => "frame_flood",
            Self::Displaced => "displaced",
            Self::CrowdedOut => "crowded_out",
            Self::PermitRevoked => "permit_revoked",
            Self::SourceNotAllowed => "source_not_allowed",
        }
    }

    /// Closes `connection` for this reason. What was not yet acknowledged is lost.
    pub(crate) fn close(self, connection: &Connection) {
        connection.close(VarInt::from_u32(0), self.as_str().as_bytes());
    }

    /// Closes every connection of `endpoint` for this reason, and the endpoint.
    pub(crate) fn close_all(self, endpoint: &Endpoint) {
        endpoint.close(VarInt::from_u32(0), self.as_str().as_bytes());
    }
}

/// The longest text of a peer's close reason that is repeated in a log line or an error.
const PEER_REASON_BYTES_MAX: usize = 120;

/// The longest text of QUIC's and TLS's own that is repeated. It may quote what a peer sent, a whole certificate's names
/// included.
const LIBRARY_WORDS_BYTES_MAX: usize = 256;

/// Says in words why a connection ended. What the peer wrote, or had written, is escaped and cut short.
pub(crate) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by peer: {}", printable(&close.reason))
        }
        ConnectionError::ConnectionClosed(close) => {
            format!("closed by peer's transport: {} ({})", close.error_code, printable(&close.reason))
        }
        ConnectionError::TimedOut => "no packet from the peer within the idle timeout".to_owned(),
        ConnectionError::LocallyClosed => "closed by this side".to_owned(),
        ConnectionError::Reset => "reset: the peer has forgotten this connection".to_owned(),
        ConnectionError::TransportError(error) => {
            format!(
                "QUIC failed: {}",
                printable_within(error.to_string().as_bytes(), LIBRARY_WORDS_BYTES_MAX)
            )
        }
        other => printable_within(other.to_string().as_bytes(), LIBRARY_WORDS_BYTES_MAX),
    }
}

/// At most [`PEER_REASON_BYTES_MAX`] bytes of what a peer wrote, fit for one line of a log.
pub(crate) fn printable(text: &[u8]) -> String {
    printable_within(text, PEER_REASON_BYTES_MAX)
}

/// At most `bytes_max` bytes of a text from elsewhere, fit for one line of a log.
pub(crate) fn printable_within(text: &[u8], bytes_max: usize) -> String {
    let cut = &text[..text.len().min(bytes_max)];
    let mut printable: String = String::from_utf8_lossy(cut).escape_debug().collect();
    if cut.len() < text.len() {
        printable.push('…');
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_wrote_is_one_short_escaped_line() {
        assert_eq!(printable(b"done"), "done");
        assert_eq!(printable(b"a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        let long = printable(&[b'x'; 4096]);
        assert_eq!(long.chars().count(), PEER_REASON_BYTES_MAX + 1);
    }

    #[test]
    fn what_tls_says_of_a_peers_certificate_is_one_short_escaped_line() {
        let failed = |reason: String| {
            let mut error = ConnectionError::TransportError(quinn::TransportErrorCode::crypto(42).into());
            if let ConnectionError::TransportError(error) = &mut error {
                error.reason = reason;
            }
            describe(&error)
        };
        assert!(
            failed("invalid peer certificate: BadSignature".into()).ends_with("certificate: BadSignature")
        );
        let words = failed(format!("a\nb\x1b[31m{}", "x".repeat(290_000)));
        assert!(words.contains("a\\nb\\u{1b}[31mxxx"), "{words}");
        assert!(words.len() < 2 * LIBRARY_WORDS_BYTES_MAX);
    }
}
