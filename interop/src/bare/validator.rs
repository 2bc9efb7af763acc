//! A client that says what it is told to say.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use btlightning_published::{HandshakeRequest, HandshakeResponse, Signer, Sr25519Signer, util};
use quinn::{ReadError, ReadToEndError};
use rustls::pki_types::CertificateDer;

use super::{STREAM_BYTES_MAX, frame, tls};
use crate::keys::Keys;
use crate::waiting::within;

/// A connection to a server, on which nothing was said yet.
#[derive(Debug)]
pub struct BareValidator {
    /// The connection.
    pub connection: quinn::Connection,
    // Drives the connection, and closes it when it is dropped.
    _endpoint: quinn::Endpoint,
}

impl BareValidator {
    /// Connects as a client of the protocol does.
    pub async fn connect(server: SocketAddr) -> Self {
        Self::offering(server, &[b"btlightning"]).await.expect("a connection")
    }

    /// Connects, offering these protocols.
    ///
    /// # Errors
    /// When the server refuses the connection.
    pub async fn offering(server: SocketAddr, protocols: &[&[u8]]) -> Result<Self, quinn::ConnectionError> {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let connecting =
            endpoint.connect_with(tls::client(protocols), server, "localhost").expect("a dialable address");
        let connection = within("a connection", connecting).await?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// The fingerprint of the server's certificate.
    pub fn fingerprint(&self) -> String {
        let identity = self.connection.peer_identity().expect("a server has a certificate");
        let chain = identity.downcast::<Vec<CertificateDer<'_>>>().expect("rustls certificates");
        tls::fingerprint(&chain[0])
    }

    /// A handshake request that any server accepts.
    pub fn handshake(&self, keys: &Keys) -> HandshakeRequest {
        self.handshake_at(keys, util::unix_timestamp_secs(), &nonce())
    }

    /// A rightly signed handshake request with this time and this nonce.
    pub fn handshake_at(&self, keys: &Keys, timestamp: u64, nonce: &str) -> HandshakeRequest {
        let text = format!("handshake:{}:{timestamp}:{nonce}:{}", keys.hotkey, self.fingerprint());
        let signature = Sr25519Signer::from_seed(keys.seed).sign(text.as_bytes()).expect("a signature");
        HandshakeRequest {
            validator_hotkey: keys.hotkey.clone(),
            timestamp,
            nonce: nonce.to_owned(),
            signature: base64::engine::general_purpose::STANDARD.encode(signature),
        }
    }

    /// Makes the handshake.
    ///
    /// # Panics
    /// When the answer is not an acceptance.
    pub async fn authenticate(&self, keys: &Keys) -> HandshakeResponse {
        let response = self.shake(&self.handshake(keys)).await;
        assert!(response.accepted, "{response:?}");
        response
    }

    /// Sends a handshake request and reads the answer.
    pub async fn shake(&self, request: &HandshakeRequest) -> HandshakeResponse {
        let answer = self.ask(1, &rmp_serde::to_vec(request).expect("encodes")).await;
        let (kind, payload) = (answer[0], &answer[5..]);
        assert_eq!(kind, 2, "a handshake response");
        rmp_serde::from_slice(payload).expect("a handshake response")
    }

    /// Sends one frame on a stream of its own and reads whatever comes back.
    pub async fn ask(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        self.exchange(&frame(kind, payload)).await
    }

    /// Sends these bytes on a stream of their own and reads whatever comes back.
    ///
    /// # Panics
    /// When the server gives up the stream.
    pub async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        self.try_exchange(bytes).await.expect("an answer, be it an empty one")
    }

    /// As [`exchange`](Self::exchange); `None` when the server gives up the stream.
    pub async fn try_exchange(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        within("an exchange", async {
            let (mut send, mut receive) = self.connection.open_bi().await.expect("a stream");
            // A server need not read what it does not want.
            let _ = send.write_all(bytes).await;
            let _ = send.finish();
            match receive.read_to_end(STREAM_BYTES_MAX).await {
                Ok(answer) => Some(answer),
                Err(ReadToEndError::Read(ReadError::Reset(_))) => None,
                Err(error) => panic!("neither an answer nor none: {error}"),
            }
        })
        .await
    }
}

/// 32 hexadecimal digits that no other test in any process has used against the same server.
fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}{:016x}", util::unix_timestamp_millis() as u64, NEXT.fetch_add(1, Ordering::Relaxed))
}
