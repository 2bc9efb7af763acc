//! Peers that are nothing but QUIC and the bytes of the protocol: they can say what no client and no server of ours
//! would.

mod bare;
mod flights;
mod impostor;
mod miner;
pub mod packet;
pub mod tls;
mod valve;

use std::error::Error;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use btlightning_proto::identity::{Awaiting, CertFingerprint, Keypair, Nonce, Opening, ProvenMiner};
use btlightning_proto::wire::{
    HandshakeRequest, HandshakeResponse, MessageType, encode_frame, parse_frame_header,
};
use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};

pub use bare::Bare;
pub use flights::first_flights;
pub use impostor::Impostor;
pub use miner::{Manner, Miner};
pub use valve::Valve;

/// What goes wrong with a peer by hand ends up in the words of a test.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The longest frame that a handshake may be in.
const HANDSHAKE_BYTES_MAX: usize = 4096;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 26;

/// A validator's socket, which has one address for all connections that are made from it.
///
/// # Errors
/// When the address cannot be bound.
pub fn socket(addr: SocketAddr) -> Result<Endpoint, Failure> {
    let mut endpoint = Endpoint::client(addr)?;
    endpoint.set_default_client_config(tls::client_config(tls::ALPN, |_| {})?);
    Ok(endpoint)
}

/// A connection to a miner, of a validator who may be nobody yet.
///
/// Nothing here has a time-out: that is the caller's.
#[derive(Debug)]
pub struct Visitor {
    /// What its packets leave by.
    pub endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
    /// Of the certificate that the miner has shown.
    pub fingerprint: CertFingerprint,
}

impl Visitor {
    /// A stranger.
    ///
    /// # Errors
    /// Why the connection did not come about.
    pub async fn connect(endpoint: Endpoint, addr: SocketAddr) -> Result<Self, ConnectionError> {
        let refused = |_| ConnectionError::LocallyClosed;
        let connection = endpoint.connect(addr, "127.0.0.1").map_err(refused)?.await?;
        let fingerprint = tls::fingerprint(&connection).map_err(|_| ConnectionError::LocallyClosed)?;
        Ok(Self { endpoint, connection, fingerprint })
    }

    /// A handshake of `key`, signed at `timestamp_secs`, and then changed.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn opening(
        &self,
        key: &Keypair,
        timestamp_secs: u64,
        change: impl FnOnce(&mut HandshakeRequest),
    ) -> Result<(HandshakeRequest, Awaiting), Failure> {
        let (mut request, awaiting) = opening(self.fingerprint, key, timestamp_secs)?;
        change(&mut request);
        Ok((request, awaiting))
    }

    /// Says a handshake, and reads what is answered.
    ///
    /// # Errors
    /// When the connection fails, or what is answered is no handshake's answer.
    pub async fn handshake(&self, request: &HandshakeRequest) -> Result<HandshakeResponse, Failure> {
        let answer = self.exchange(&encode_frame(request, HANDSHAKE_BYTES_MAX)?).await?;
        let (kind, payload) = parse_frame_header(&answer, HANDSHAKE_BYTES_MAX)?;
        if kind != MessageType::HandshakeResponse {
            return Err(format!("a handshake was answered by a {kind:?}").into());
        }
        Ok(HandshakeResponse::decode(payload)?)
    }

    /// Authenticates as the owner of `key`.
    ///
    /// # Errors
    /// When the connection fails, or the miner refuses or does not prove itself.
    pub async fn authenticate(&self, key: &Keypair) -> Result<ProvenMiner, Failure> {
        let (request, awaiting) = self.opening(key, unix_secs(), |_| {})?;
        Ok(awaiting.verify(&self.handshake(&request).await?)?)
    }

    /// Opens a stream, writes `bytes` and ends it.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn send(&self, bytes: &[u8]) -> Result<(SendStream, RecvStream), Failure> {
        let (mut send, receive) = self.connection.open_bi().await?;
        send.write_all(bytes).await?;
        let _ = send.finish();
        Ok((send, receive))
    }

    /// Says `bytes` on a fresh stream and reads all that is answered.
    ///
    /// # Errors
    /// When the connection fails, or the answer has more than 64 MiB.
    pub async fn exchange(&self, bytes: &[u8]) -> Result<Bytes, Failure> {
        let (_send, mut receive) = self.send(bytes).await?;
        Ok(Bytes::from(receive.read_to_end(ANSWER_BYTES_MAX).await?))
    }
}

/// A handshake of `key`, signed at `timestamp_secs`, with a miner that has shown a certificate with this fingerprint.
///
/// # Errors
/// When the system has no random numbers.
pub fn opening(
    fingerprint: CertFingerprint,
    key: &Keypair,
    timestamp_secs: u64,
) -> Result<(HandshakeRequest, Awaiting), Failure> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    let opening = Opening::new(key.hotkey(), fingerprint, timestamp_secs, Nonce::from_random(nonce));
    let signature = key.sign(opening.text_to_sign().as_bytes());
    Ok(opening.sign_with(&signature)?)
}

/// The system's clock, as timestamps on the wire are.
pub fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
