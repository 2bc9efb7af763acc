//! A client and a server of bare QUIC. They say exactly the bytes that a test gives them, and show what they are told:
//! each byte of an answer, how a connection was closed, what a client asks of TLS.

mod miner;
mod tls;
mod validator;

pub use self::miner::{BareMiner, Handshake, Link};
pub use self::validator::BareValidator;
use crate::waiting::within;

/// The most that is read of a stream: more than any test sends.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a peer closed a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The application's error code.
    pub code: u64,
    /// The words.
    pub reason: String,
}

impl Close {
    /// The close with the code 0 and these words, which is what both packages do.
    pub fn orderly(reason: &str) -> Self {
        Self { code: 0, reason: reason.to_owned() }
    }

    /// How the peer closes `connection`.
    ///
    /// # Panics
    /// When the connection ends in another way.
    pub async fn of(connection: &quinn::Connection) -> Self {
        match within("a close", connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => Self {
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            other => panic!("not closed by the peer's application: {other}"),
        }
    }
}

/// A frame, put together by hand.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's payload is small");
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}
