//! A server that answers what it is told to answer.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine;
use btlightning_published::{HandshakeRequest, HandshakeResponse, Signer, Sr25519Signer, util};
use quinn::crypto::rustls::HandshakeData;

use super::{STREAM_BYTES_MAX, frame, tls};
use crate::keys::Keys;
use crate::waiting::within;

/// A server. It accepts only whom a test accepts.
#[derive(Debug)]
pub struct BareMiner {
    /// Where it listens.
    pub addr: SocketAddr,
    keys: Keys,
    fingerprint: String,
    endpoint: quinn::Endpoint,
}

/// A client's connection.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub connection: quinn::Connection,
}

/// A client's handshake, not yet answered.
#[derive(Debug)]
pub struct Handshake {
    /// The bytes that the client sent, to the end of the stream.
    pub bytes: Vec<u8>,
    /// What they say.
    pub request: HandshakeRequest,
    /// The fingerprint of the server's certificate.
    pub fingerprint: String,
    keys: Keys,
    answer: quinn::SendStream,
}

impl BareMiner {
    /// Listens on the loopback address.
    pub fn listen(keys: &Keys) -> Self {
        let (config, certificate) = tls::server();
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        Self {
            addr: endpoint.local_addr().expect("bound"),
            keys: keys.clone(),
            fingerprint: tls::fingerprint(&certificate),
            endpoint,
        }
    }

    /// The next client's connection.
    pub async fn accept(&self) -> Link {
        let incoming = within("a client", self.endpoint.accept()).await.expect("the endpoint is open");
        Link { connection: within("a connection", incoming.into_future()).await.expect("a connection") }
    }

    /// The next handshake on `link`.
    pub async fn handshake(&self, link: &Link) -> Handshake {
        let (bytes, answer) = link.asked().await;
        let (kind, payload) = btlightning_published::parse_frame_header(&bytes, 4096).expect("a frame");
        assert_eq!(kind, btlightning_published::MessageType::HandshakeRequest);
        Handshake {
            request: rmp_serde::from_slice(payload).expect("a handshake request"),
            fingerprint: self.fingerprint.clone(),
            keys: self.keys.clone(),
            bytes,
            answer,
        }
    }

    /// The next client, with its handshake accepted.
    pub async fn welcome(&self) -> Link {
        let link = self.accept().await;
        let handshake = self.handshake(&link).await;
        let acceptance = handshake.acceptance();
        handshake.answer(&acceptance).await;
        link
    }
}

impl Link {
    /// What the client sends on its next stream, to the end; and where the answer goes.
    pub async fn asked(&self) -> (Vec<u8>, quinn::SendStream) {
        within("a request", async {
            let (answer, mut receive) = self.connection.accept_bi().await.expect("a stream");
            (receive.read_to_end(STREAM_BYTES_MAX).await.expect("a request"), answer)
        })
        .await
    }

    /// What the client said in the TLS handshake: the chosen protocol and the server name.
    pub fn tls(&self) -> HandshakeData {
        let said = self.connection.handshake_data().expect("the handshake is done");
        *said.downcast::<HandshakeData>().expect("rustls")
    }
}

impl Handshake {
    /// The answer that every client accepts.
    pub fn acceptance(&self) -> HandshakeResponse {
        let mut response = HandshakeResponse {
            miner_hotkey: self.keys.hotkey.clone(),
            timestamp: util::unix_timestamp_secs(),
            signature: String::new(),
            accepted: true,
            connection_id: format!(
                "conn_{}_{}",
                self.request.validator_hotkey,
                util::unix_timestamp_millis()
            ),
            cert_fingerprint: Some(self.fingerprint.clone()),
        };
        self.sign(&mut response);
        response
    }

    /// Signs `response` as it stands, with the certificate's fingerprint.
    pub fn sign(&self, response: &mut HandshakeResponse) {
        let HandshakeRequest { validator_hotkey, nonce, .. } = &self.request;
        let HandshakeResponse { miner_hotkey, timestamp, .. } = &*response;
        let text = format!(
            "handshake_response:{validator_hotkey}:{miner_hotkey}:{timestamp}:{nonce}:{}",
            self.fingerprint
        );
        let signature = Sr25519Signer::from_seed(self.keys.seed).sign(text.as_bytes()).expect("a signature");
        response.signature = base64::engine::general_purpose::STANDARD.encode(signature);
    }

    /// Answers with `response`.
    pub async fn answer(self, response: &HandshakeResponse) {
        let payload = rmp_serde::to_vec(response).expect("encodes");
        self.answer_with(&frame(2, &payload)).await;
    }

    /// Answers with these bytes and ends the stream.
    pub async fn answer_with(mut self, bytes: &[u8]) {
        // The client may have gone away already; a test sees that elsewhere.
        let _ = self.answer.write_all(bytes).await;
        let _ = self.answer.finish();
    }
}
