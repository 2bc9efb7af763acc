// A program that uses the whole API of btlightning 0.2.15: every type, every method, every field, every trait, every
// path. It is compiled twice, as it stands, against the published package and against ours; see `on_theirs` and `on_ours`.
//
// What it does with single types is in `published_types.rs`, which is part of this text.
//
// Left out, because they are features that interop does not build: `metagraph` (feature `subtensor`; its published paths and
// calls are in `crates/btlightning/tests/chain/published.rs`) and the wallets (feature `btwallet`).

use std::collections::{HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use btlightning::{
    AsyncSynapseHandler, CallbackSigner, DEFAULT_MAX_FRAME_PAYLOAD, HandshakeObserver, HandshakeRequest,
    HandshakeResponse, LightningClient, LightningClientConfig, LightningClientConfigBuilder, LightningError,
    LightningServer, LightningServerConfig, LightningServerConfigBuilder, MessageType, PeerAddr,
    QuicAxonInfo, QuicRequest, QuicResponse, Result, Signer, SourceAddressResolver, SourceAllowlist,
    Sr25519Signer, StreamingResponse, StreamingSynapseHandler, SynapseHandler, SynapsePacket,
    SynapseResponse, ValidatorPermitResolver, parse_frame_header, typed_async_handler, typed_handler,
};
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::keys;

/// The same things by their paths.
#[allow(unused_imports)]
mod paths {
    use super::btlightning;

    use btlightning::client::{
        LightningClient, LightningClientConfig, LightningClientConfigBuilder, StreamingResponse,
    };
    use btlightning::error::{LightningError, Result};
    use btlightning::server::{
        AsyncSynapseHandler, HandshakeObserver, LightningServer, LightningServerConfig,
        LightningServerConfigBuilder, SourceAddressResolver, SourceAllowlist, StreamingSynapseHandler,
        SynapseHandler, ValidatorPermitResolver, typed_async_handler, typed_handler,
    };
    use btlightning::signing::{CallbackSigner, Signer, Sr25519Signer};
    use btlightning::types::{
        DEFAULT_MAX_FRAME_PAYLOAD, HandshakeRequest, HandshakeResponse, MessageType, PeerAddr, QuicAxonInfo,
        QuicRequest, QuicResponse, StreamChunk, StreamEnd, SynapsePacket, SynapseResponse,
        parse_frame_header,
    };
    pub(super) use btlightning::util::{unix_timestamp_millis, unix_timestamp_secs};
}

include!("published_types.rs");

type Map = HashMap<String, Value>;

struct Upper;

impl SynapseHandler for Upper {
    fn handle(&self, synapse_type: &str, data: Map) -> Result<Map> {
        let text =
            data.get("text").and_then(Value::as_str).ok_or_else(|| LightningError::handler("no text"))?;
        Ok(HashMap::from([
            ("text".to_owned(), text.to_uppercase().into()),
            ("handler".to_owned(), synapse_type.into()),
        ]))
    }
}

struct Lower;

#[async_trait::async_trait]
impl AsyncSynapseHandler for Lower {
    async fn handle(&self, _synapse_type: &str, data: Map) -> Result<Map> {
        tokio::task::yield_now().await;
        Ok(data)
    }
}

struct Words;

#[async_trait::async_trait]
impl StreamingSynapseHandler for Words {
    async fn handle(
        &self,
        _synapse_type: &str,
        data: Map,
        sender: tokio::sync::mpsc::Sender<Vec<u8>>,
    ) -> Result<()> {
        for word in data["text"].as_str().unwrap_or_default().split(' ') {
            sender.send(word.as_bytes().to_vec()).await.map_err(LightningError::handler)?;
        }
        Ok(())
    }
}

struct Permits(HashSet<String>);

impl ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        Ok(self.0.clone())
    }
}

struct Loopback;

impl SourceAddressResolver for Loopback {
    fn resolve_allowed_sources(&self) -> Result<SourceAllowlist> {
        Ok(SourceAllowlist::Enforce(HashSet::from([IpAddr::from([127, 0, 0, 1])])))
    }
}

#[derive(Default)]
struct Guests(Mutex<Vec<(String, IpAddr)>>);

#[async_trait::async_trait]
impl HandshakeObserver for Guests {
    async fn observe_successful_handshake(&self, validator_hotkey: &str, source_ip: IpAddr) {
        self.0.lock().expect("not poisoned").push((validator_hotkey.to_owned(), source_ip));
    }
}

#[derive(Serialize, Deserialize)]
struct Sum {
    terms: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Total {
    total: u32,
}

/// A server that everything is set on, listening.
async fn server(guests: Arc<Guests>) -> Result<(Arc<LightningServer>, SocketAddr)> {
    let (miner, validator) = (keys("miner"), keys("validator"));
    let mut server = LightningServer::new(miner.hotkey.clone(), "127.0.0.1".into(), 0)?;
    server.set_miner_keypair(miner.seed);
    assert!(server.local_addr().is_err(), "it has not been started");
    server.stop().await?;

    let mut server = LightningServer::with_config(miner.hotkey, "127.0.0.1".into(), 0, server_config()?)?;
    server.set_miner_signer(Box::new(Sr25519Signer::from_seed(miner.seed)));
    server.set_validator_permit_resolver(Box::new(Permits(HashSet::from([validator.hotkey]))));
    server.set_source_address_resolver(Box::new(Loopback));
    server.set_handshake_observer(guests);
    server.register_synapse_handler("upper".into(), Arc::new(Upper)).await?;
    server.register_async_synapse_handler("lower".into(), Arc::new(Lower)).await?;
    server.register_streaming_handler("words".into(), Arc::new(Words)).await?;
    let sum = typed_handler(|sum: Sum| match sum.terms.iter().try_fold(0, |a: u32, b| a.checked_add(*b)) {
        Some(total) => Ok(Total { total }),
        None => Err("too much"),
    });
    server.register_synapse_handler("sum".into(), sum).await?;
    let twice =
        typed_async_handler(|one: Total| async move { Ok::<_, String>(Total { total: 2 * one.total }) });
    server.register_async_synapse_handler("twice".into(), twice).await?;
    server.start().await?;
    let addr = server.local_addr()?;
    Ok((Arc::new(server), addr))
}

/// A client that everything is set on, with a socket.
async fn client() -> Result<LightningClient> {
    let validator = keys("validator");
    let client = LightningClient::new(validator.hotkey.clone());
    let error = client
        .query_axon(
            QuicAxonInfo::new(keys("miner").hotkey, "127.0.0.1".into(), 1, 4),
            QuicRequest::new("x".into(), HashMap::new()),
        )
        .await
        .expect_err("no socket yet");
    assert_eq!(told(&error).0, "connection");
    assert!(error.to_string().contains("endpoint not initialized"), "{error}");

    let mut client = LightningClient::with_config(validator.hotkey, client_config()?)?;
    let signer = Sr25519Signer::from_seed(validator.seed);
    client.set_signer(Box::new(CallbackSigner::new(move |message: &[u8]| signer.sign(message))));
    client.create_endpoint().await?;
    Ok(client)
}

/// The program: a server and a client that use all of it.
///
/// # Errors
/// None, if the package is right.
pub async fn run() -> Result<()> {
    traits();
    values()?;
    let guests = Arc::new(Guests::default());
    let (server, addr) = server(guests.clone()).await?;
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_forever().await }
    });
    let mut client = client().await?;
    let miner = QuicAxonInfo::new(keys("miner").hotkey, addr.ip().to_string(), addr.port(), 4);
    client.initialize_connections(vec![miner.clone()]).await?;
    client.update_miner_registry(vec![miner.clone()]).await?;
    assert_eq!(client.authenticated_hotkeys().await, HashSet::from([miner.hotkey.clone()]));

    let text = |text: &str| HashMap::from([("text".to_owned(), Value::from(text))]);
    let upper = client.query_axon(miner.clone(), QuicRequest::new("upper".into(), text("a b"))).await?;
    assert_eq!((upper.success, upper.error, upper.data["text"].as_str()), (true, None, Some("A B")));
    assert!(upper.latency_ms > 0.0);
    let lower = QuicRequest::new("lower".into(), text("a"));
    let lower = client.query_axon_with_timeout(miner.clone(), lower, Duration::from_secs(10)).await?;
    assert_eq!(lower.into_result()?.data, text("a"));
    let sum =
        client.query_axon(miner.clone(), QuicRequest::from_typed("sum", &Sum { terms: vec![1, 2] })?).await?;
    assert_eq!(sum.deserialize_data::<Total>()?.total, 3);
    let twice =
        client.query_axon(miner.clone(), QuicRequest::from_typed("twice", &Total { total: 4 })?).await?;
    assert_eq!(twice.deserialize_data::<Total>()?.total, 8);
    let words = QuicRequest::new("words".into(), text("a b c"));
    let mut words: StreamingResponse = client.query_axon_stream(miner.clone(), words).await?;
    assert_eq!(words.next_chunk().await?, Some(b"a".to_vec()));
    assert_eq!(words.collect_all().await?, [b"b".to_vec(), b"c".to_vec()]);

    let stats = client.get_connection_stats().await?;
    assert_eq!((stats["total_connections"].as_str(), stats["active_miners"].as_str()), ("1", "1"));
    assert_eq!(stats[&format!("connection_{addr}")], "active");
    let stats = server.get_connection_stats().await?;
    assert_eq!((stats["total_connections"].as_str(), stats["verified_connections"].as_str()), ("1", "1"));
    assert!(stats.contains_key(&format!("connection_{}", keys("validator").hotkey)), "{stats:?}");
    server.cleanup_stale_connections(300).await?;
    server.cleanup_expired_nonces().await;
    assert_eq!(server.get_active_nonce_count().await, 1);
    assert_eq!(server.get_permitted_validator_count().await, 1);
    assert_eq!(server.get_allowed_source_count().await, 1);
    assert!(!server.is_source_enforcement_bypassed().await);
    let seen = || guests.0.lock().expect("not poisoned").clone();
    let seen = crate::eventually("the observer", async || (!seen().is_empty()).then(seen)).await;
    assert_eq!(seen, [(keys("validator").hotkey, IpAddr::from([127, 0, 0, 1]))]);

    client.close_all_connections().await?;
    server.stop().await?;
    serving.await.expect("no panic")
}
