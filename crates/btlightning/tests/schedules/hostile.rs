//! Peers that mean harm. They know the protocol, and no key but their own.

use std::net::SocketAddr;
use std::time::Duration;

use btlightning_proto::wire::{
    HandshakeRequest, HandshakeResponse, MessageType, encode_frame, encode_packet_frame, parse_frame_header,
    to_payload,
};
use btlightning_testkit::SimNet;
use quinn::Connection;
use tokio::time::timeout;

use crate::common::{Raw, client_config, unix_secs};
use crate::miner::Question;
use crate::oracle::Oracle;
use crate::plan::Hostile;

/// How long one tries for anything.
const PATIENCE: Duration = Duration::from_secs(8);

/// One that goes for the miner at `addr`. Stays until it is closed or aborted.
pub(crate) struct Intruder {
    pub(crate) net: SimNet,
    pub(crate) oracle: Oracle,
    pub(crate) number: u64,
    pub(crate) addr: SocketAddr,
    /// Whom it would like to be.
    pub(crate) victim: String,
}

impl Intruder {
    pub(crate) async fn go(self, kind: Hostile) {
        let Some(raw) = self.connect().await else { return };
        match kind {
            Hostile::Idles => drop(raw.connection.closed().await),
            Hostile::Babbles => self.babble(&raw).await,
            Hostile::Replays => self.replay(raw).await,
            Hostile::Poses => self.pose(&raw).await,
            Hostile::Visits => self.visit(raw).await,
        }
    }

    async fn connect(&self) -> Option<Raw> {
        let host = format!("10.0.9.{}:0", 1 + self.number % 3);
        let mut endpoint = self.net.endpoint(host.parse().unwrap(), None).ok()?;
        let keep_alive = |transport: &mut quinn::TransportConfig| {
            transport.keep_alive_interval(Some(Duration::from_secs(1)));
        };
        endpoint.set_default_client_config(client_config(b"btlightning", keep_alive));
        timeout(PATIENCE, Raw::connect_from(endpoint, self.addr)).await.ok()?.ok()
    }

    /// What is no handshake, in many ways.
    async fn babble(&self, raw: &Raw) {
        let kinds: [&[u8]; 6] = [
            b"\x03",
            b"\x01\xff\xff\xff\xff",
            b"\x03\x40\x00\x00\x00begins",
            &[0x90; 2000],
            b"\x03\x04\x00\x00\x00\xdf\xff\xff\xff",
            b"",
        ];
        let mut open = Vec::new();
        for n in 0..20 {
            let Ok(Ok((mut send, receive))) = timeout(PATIENCE, raw.connection.open_bi()).await else {
                break;
            };
            let _ = timeout(PATIENCE, send.write_all(kinds[(self.number as usize + n) % kinds.len()])).await;
            if n % 3 == 0 {
                let _ = send.finish();
            }
            open.push((send, receive));
        }
        raw.connection.closed().await;
    }

    /// Says a handshake of its own twice on one connection, and once more on another.
    async fn replay(self, raw: Raw) {
        let (request, _) = raw.opening(&self.name(), |_| {});
        let first = say(&raw.connection, &request).await;
        let again = say(&raw.connection, &request).await;
        self.refused(again, "a handshake that was said before, by its own connection").await;
        if first.is_some_and(|response| response.accepted) {
            let Some(other) = self.connect().await else { return };
            let elsewhere = say(&other.connection, &request).await;
            self.refused(elsewhere, "a handshake that was said before, on another connection").await;
            self.ask(&other.connection, "of nobody").await;
        }
        raw.connection.closed().await;
    }

    /// Says that it is the victim, with its own signature; and asks, as if that had been believed.
    async fn pose(&self, raw: &Raw) {
        let victim = crate::hotkey(&self.victim).to_string();
        let (request, _) = raw.opening(&self.name(), |request| request.validator_hotkey = victim);
        let response = say(&raw.connection, &request).await;
        self.refused(response, "a handshake that the wrong key has signed").await;
        self.ask(&raw.connection, "of nobody").await;
        raw.connection.closed().await;
    }

    /// Authenticates with a key that nobody knows, asks, and leaves without a word.
    async fn visit(&self, raw: Raw) {
        let (request, _) = raw.opening(&self.name(), |_| {});
        if say(&raw.connection, &request).await.is_some_and(|response| response.accepted) {
            let me = crate::hotkey(&self.name()).to_string();
            for _ in 0..3 {
                self.ask(&raw.connection, &me).await;
            }
        }
        let addr = raw.endpoint.local_addr().unwrap();
        self.net.blackhole(addr);
        drop(raw);
        self.net.released(addr).await;
        self.net.restore(addr);
    }

    fn name(&self) -> String {
        format!("intruder {}", self.number)
    }

    async fn refused(&self, response: Option<HandshakeResponse>, what: &str) {
        let accepted = response.is_some_and(|response| response.accepted);
        self.oracle.holds(!accepted, || format!("{} was accepted: {what}", self.name()));
    }

    /// Asks a handler, and does not wait for the answer.
    async fn ask(&self, connection: &Connection, from: &str) {
        let question = Question { nonce: 1, from: from.to_owned(), to: None };
        let request =
            encode_packet_frame("slow", unix_secs(), 1 << 20, |out| to_payload(&question, out)).unwrap();
        let Ok(Ok((mut send, receive))) = timeout(PATIENCE, connection.open_bi()).await else { return };
        let _ = timeout(PATIENCE, send.write_all(&request)).await;
        let _ = send.finish();
        // Dropped, the stream would be given up before anybody has seen it.
        let _ = timeout(Duration::from_millis(500), connection.closed()).await;
        drop((send, receive));
    }
}

/// A handshake, and what is answered to it.
async fn say(connection: &Connection, request: &HandshakeRequest) -> Option<HandshakeResponse> {
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(&encode_frame(request, 4096).ok()?).await.ok()?;
        let _ = send.finish();
        let answer = receive.read_to_end(8192).await.ok()?;
        let (kind, payload) = parse_frame_header(&answer, 8192).ok()?;
        (kind == MessageType::HandshakeResponse).then(|| HandshakeResponse::decode(payload).ok())?
    };
    timeout(PATIENCE, exchange).await.ok()?
}
