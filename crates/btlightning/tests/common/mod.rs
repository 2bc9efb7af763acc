//! A miner on a loopback port, and a validator that is nothing but quinn and the bytes of the protocol: it can say what
//! no client of ours would.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use btlightning::server::{
    Handler, LightningServer, LightningServerConfig, LightningServerConfigBuilder, Response,
};
use btlightning_proto::identity::{Awaiting, Hotkey, Keypair, ProvenMiner};
use btlightning_proto::wire::{
    HandshakeRequest, HandshakeResponse, MessageType, ResponseEnvelope, ScanLimits, StreamEnd, decode_map,
    encode_map, encode_packet_frame, from_payload, parse_frame_header, parse_stream_chunk,
};
use btlightning_testkit::by_hand::{Visitor, socket as bound, tls};
use bytes::Bytes;
use quinn::{ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rmpv::Value;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub mod by_hand;
pub mod sim;

pub type Data = std::collections::HashMap<String, Value>;

/// Real time after which a test is stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `work`, not for ever.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: nothing for {PATIENCE:?}"),
    }
}

/// Waits for something that no event announces.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            // sleeps: between two looks, and no longer than what is looked for takes
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

pub fn key(name: &str) -> Keypair {
    Keypair::from_seed(btlightning_testkit::keys::seed(name))
}

pub fn hotkey(name: &str) -> Hotkey {
    key(name).hotkey()
}

pub fn data<const N: usize>(pairs: [(&str, Value); N]) -> Data {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub use btlightning_testkit::by_hand::unix_secs;

/// A server that serves.
pub struct Miner {
    pub server: Arc<LightningServer>,
    pub addr: SocketAddr,
    pub serving: JoinHandle<btlightning::Result<()>>,
}

/// A configuration whose idle timeout does not get in the way.
pub fn config() -> LightningServerConfigBuilder {
    LightningServerConfig::builder()
}

impl Miner {
    pub async fn start() -> Self {
        Self::with(config(), |_| {}).await
    }

    pub async fn with(
        config: LightningServerConfigBuilder,
        change: impl FnOnce(&mut LightningServer),
    ) -> Self {
        let mut server = new_server(config);
        change(&mut server);
        server.start().await.unwrap();
        Self::serve(server)
    }

    pub fn serve(server: LightningServer) -> Self {
        let addr = server.local_addr().unwrap();
        let server = Arc::new(server);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Self { server, addr, serving }
    }

    /// How many connections have authenticated.
    pub async fn members(&self) -> usize {
        self.server.get_connection_stats().await.unwrap()["total_connections"].parse().unwrap()
    }

    pub async fn members_are(&self, count: usize) {
        eventually("the number of members", async || (self.members().await == count).then_some(())).await;
    }
}

/// A server with the hotkey and key pair of `miner`.
pub fn new_server(config: LightningServerConfigBuilder) -> LightningServer {
    let miner = hotkey("miner").to_string();
    let mut server =
        LightningServer::with_config(miner, "127.0.0.1".into(), 0, config.build().unwrap()).unwrap();
    server.set_miner_keypair(btlightning_testkit::keys::seed("miner"));
    server
}

/// A validator's socket.
pub fn socket() -> Endpoint {
    socket_at((Ipv4Addr::LOCALHOST, 0).into())
}

pub fn socket_at(addr: SocketAddr) -> Endpoint {
    bound(addr).unwrap()
}

pub fn client_config(alpn: &[u8], change: impl FnOnce(&mut TransportConfig)) -> quinn::ClientConfig {
    tls::client_config(alpn, change).unwrap()
}

/// A connection of a validator, who may be nobody yet. Whatever goes wrong with it fails the test.
pub struct Raw(Visitor);

impl Deref for Raw {
    type Target = Visitor;

    fn deref(&self) -> &Visitor {
        &self.0
    }
}

impl Raw {
    /// A stranger from a socket of its own.
    pub async fn connect(miner: &Miner) -> Self {
        Self::connect_from(socket(), miner.addr).await.unwrap()
    }

    pub async fn connect_from(endpoint: Endpoint, addr: SocketAddr) -> Result<Self, ConnectionError> {
        Ok(Self(within("connect", Visitor::connect(endpoint, addr)).await?))
    }

    /// A connection that `name` has authenticated on.
    pub async fn authenticated(miner: &Miner, name: &str) -> Self {
        let raw = Self::connect(miner).await;
        raw.accepted(name).await;
        raw
    }

    /// Authenticates as `name`, and checks what the miner proves.
    pub async fn accepted(&self, name: &str) -> ProvenMiner {
        let (request, awaiting) = self.opening(name, |_| {});
        let response = self.handshake(&request).await;
        let proven = awaiting.verify(&response).unwrap();
        assert_eq!(proven.hotkey, hotkey("miner"));
        proven
    }

    /// Is refused as `name`.
    pub async fn refused(&self, name: &str) -> HandshakeResponse {
        let (request, _) = self.opening(name, |_| {});
        self.handshake_refused(&request).await
    }

    pub async fn handshake_refused(&self, request: &HandshakeRequest) -> HandshakeResponse {
        let response = self.handshake(request).await;
        assert!(!response.accepted, "{response:?}");
        assert_eq!(
            (response.signature.as_str(), response.connection_id.as_str(), &response.cert_fingerprint),
            ("", "", &None)
        );
        response
    }

    /// A handshake of `name`, signed, and then changed.
    pub fn opening(
        &self,
        name: &str,
        change: impl FnOnce(&mut HandshakeRequest),
    ) -> (HandshakeRequest, Awaiting) {
        self.opening_at(name, unix_secs(), change)
    }

    pub fn opening_at(
        &self,
        name: &str,
        timestamp: u64,
        change: impl FnOnce(&mut HandshakeRequest),
    ) -> (HandshakeRequest, Awaiting) {
        self.0.opening(&key(name), timestamp, change).unwrap()
    }

    pub async fn handshake(&self, request: &HandshakeRequest) -> HandshakeResponse {
        within("an answer to a handshake", self.0.handshake(request)).await.unwrap()
    }

    /// Opens a stream, writes `bytes` and ends it.
    pub async fn send(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        within("a stream", self.0.send(bytes)).await.unwrap()
    }

    /// Says `bytes` on a fresh stream and reads all that is answered.
    pub async fn exchange(&self, bytes: &[u8]) -> Answer {
        Answer(within("an answer", self.0.exchange(bytes)).await.unwrap())
    }

    /// Asks a handler.
    pub async fn ask(&self, name: &str, data: &Data) -> Answer {
        self.exchange(&request(name, data)).await
    }

    /// Asks a handler, which answers.
    pub async fn answer(&self, name: &str, data: &Data) -> Data {
        self.ask(name, data).await.data()
    }

    /// Asks a handler, which does not answer. Says what is answered instead.
    pub async fn failure(&self, name: &str, data: &Data) -> String {
        self.ask(name, data).await.failure()
    }

    /// Why the server closed the connection.
    pub async fn closed_for(&self) -> String {
        match within("the close", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code, VarInt::from_u32(0));
                String::from_utf8(close.reason.to_vec()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }
}

/// The frame of a request.
pub fn request(name: &str, data: &Data) -> Vec<u8> {
    encode_packet_frame(name, unix_secs(), 1 << 26, |out| encode_map(data, out)).unwrap()
}

/// Reads a stream to its end.
pub async fn read(receive: &mut RecvStream) -> Answer {
    Answer(Bytes::from(within("an answer", receive.read_to_end(1 << 26)).await.unwrap()))
}

/// All bytes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(pub Bytes);

impl Answer {
    /// The frames, which have to fill the stream.
    pub fn frames(&self) -> Vec<(MessageType, Bytes)> {
        let mut rest = self.0.clone();
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let (kind, payload) = parse_frame_header(&rest, 1 << 26).unwrap();
            let payload = rest.slice_ref(payload);
            let _ = rest.split_to(5 + payload.len());
            frames.push((kind, payload));
        }
        frames
    }

    pub fn only(&self) -> (MessageType, Bytes) {
        let mut frames = self.frames();
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    fn response(&self) -> ResponseEnvelope {
        let (kind, payload) = self.only();
        assert_eq!(kind, MessageType::SynapseResponse);
        ResponseEnvelope::parse(&payload, &ScanLimits::for_payload(payload.len())).unwrap()
    }

    /// The data of a handler that succeeded.
    pub fn data(&self) -> Data {
        let response = self.response();
        assert!(response.success(), "{:?}", response.error());
        assert_eq!(response.error(), None);
        decode_map(response.data()).unwrap()
    }

    pub fn typed<T: for<'de> Deserialize<'de>>(&self) -> T {
        from_payload(self.response().data()).unwrap()
    }

    /// What a failed answer says.
    pub fn failure(&self) -> String {
        let response = self.response();
        assert!(!response.success());
        assert!(decode_map(response.data()).unwrap().is_empty());
        response.error().unwrap().to_owned()
    }

    /// The chunks, and what the message after them says.
    pub fn chunks(&self) -> (Vec<Bytes>, Option<String>) {
        let mut frames = self.frames();
        let (kind, end) = frames.pop().expect("an end");
        assert_eq!(kind, MessageType::StreamEnd);
        let end = StreamEnd::decode(&end).unwrap();
        assert_eq!(end.success, end.error.is_none());
        let chunks = frames.iter().map(|(kind, payload)| {
            assert_eq!(*kind, MessageType::StreamChunk);
            parse_stream_chunk(payload).unwrap()
        });
        (chunks.collect(), end.error)
    }
}

/// Polls once, which is how a call is begun without waiting for it.
pub async fn is_pending(mut work: std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx).is_pending())).await
}

/// Says when a handler's future is dropped.
pub struct Dropped(pub Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(dropped) = self.0.take() {
            let _ = dropped.send(());
        }
    }
}

/// What blocking handlers wait at, until it is dropped: a test that fails must let go of their threads too.
#[derive(Default)]
pub struct Door {
    shut: Arc<(Mutex<bool>, Condvar)>,
    begun: Arc<AtomicUsize>,
}

impl Door {
    /// A handler that waits at the door, whoever else does.
    pub fn handler(&self) -> Handler {
        let (shut, begun) = (self.shut.clone(), self.begun.clone());
        Handler::blocking(move |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            let (is_open, opened) = &*shut;
            drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
            Response::from_map(&data([]))
        })
    }

    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Waits until at least so many have come to the door.
    pub async fn begun_are(&self, count: usize) {
        eventually("the handlers at the door", async || (self.begun() >= count).then_some(())).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        *self.shut.0.lock().unwrap() = true;
        self.shut.1.notify_all();
    }
}

/// Calls that begin and then wait until they are let go, all at once.
#[derive(Clone)]
pub struct Gate {
    begun: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Self {
        Self { begun: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }

    /// Notes that a call has begun, and waits.
    pub async fn pass(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        // Opened by being closed.
        let _ = self.open.acquire().await;
    }

    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Waits until that many have begun.
    pub async fn begun_are(&self, count: usize) {
        eventually("the calls at the gate", async || (self.begun() >= count).then_some(())).await;
        assert_eq!(self.begun(), count);
    }

    pub fn open(&self) {
        self.open.close();
    }
}
