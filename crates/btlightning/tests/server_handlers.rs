//! Handlers of every kind: what they are given, what their callers read, and when they are dropped.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use btlightning::server::{
    AsyncSynapseHandler, ChunkError, Handler, HandlerError, LightningServerConfigBuilder, Response,
    StreamingSynapseHandler, SynapseHandler, typed_async_handler, typed_handler,
};
use btlightning::{IoThreads, LightningError, Result};
use btlightning_proto::wire::{FrameWriter, MessageType};
use bytes::Bytes;
use common::{Data, Miner, Raw, config, data, is_pending, read, within};
use quinn::VarInt;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

#[derive(Serialize, Deserialize)]
struct Number {
    n: i64,
}

async fn validator(miner: &Miner) -> Raw {
    Raw::authenticated(miner, "alice").await
}

async fn with(config: LightningServerConfigBuilder) -> (Miner, Raw) {
    let miner = Miner::with(config, |_| {}).await;
    let raw = validator(&miner).await;
    (miner, raw)
}

fn n(n: i64) -> Data {
    data([("n", n.into())])
}

/// Published handlers, all of which answer with one more than they are asked.
struct More;

fn more(data: &Data) -> Result<Data> {
    match data.get("n").and_then(Value::as_i64) {
        Some(was) => Ok(n(was + 1)),
        None => Err(LightningError::handler("a secret")),
    }
}

impl SynapseHandler for More {
    fn handle(&self, synapse_type: &str, data: Data) -> Result<Data> {
        assert_eq!(synapse_type, "published");
        more(&data)
    }
}

#[async_trait]
impl AsyncSynapseHandler for More {
    async fn handle(&self, synapse_type: &str, data: Data) -> Result<Data> {
        assert_eq!(synapse_type, "published async");
        tokio::task::yield_now().await;
        more(&data)
    }
}

#[async_trait]
impl StreamingSynapseHandler for More {
    async fn handle(&self, _: &str, data: Data, sender: tokio::sync::mpsc::Sender<Vec<u8>>) -> Result<()> {
        let to = data.get("n").and_then(Value::as_i64).unwrap_or(0);
        for n in 0..to {
            sender.send(vec![u8::try_from(n).unwrap(); 3]).await.map_err(LightningError::handler)?;
        }
        more(&data).map(drop)
    }
}

async fn register_all(miner: &Miner) {
    let server = &miner.server;
    server
        .register("unary", Handler::unary(|call| async move { Response::from_map(&more(&call.to_map()?)?) }));
    server.register(
        "typed",
        Handler::typed(|_, Number { n }| async move { Ok::<_, String>(Number { n: n + 1 }) }),
    );
    server.register("blocking", Handler::blocking(|call| Response::from_map(&more(&call.to_map()?)?)));
    server.register(
        "typed blocking",
        Handler::typed_blocking(|_, Number { n }| Ok::<_, String>(Number { n: n + 1 })),
    );
    server.register_synapse_handler("published".into(), Arc::new(More)).await.unwrap();
    server.register_async_synapse_handler("published async".into(), Arc::new(More)).await.unwrap();
    let typed = typed_handler(|Number { n }| Ok::<_, String>(Number { n: n + 1 }));
    server.register_synapse_handler("published typed".into(), typed).await.unwrap();
    let typed = typed_async_handler(|Number { n }| async move { Ok::<_, String>(Number { n: n + 1 }) });
    server.register_async_synapse_handler("published typed async".into(), typed).await.unwrap();
}

const UNARY: [&str; 8] = [
    "unary",
    "typed",
    "blocking",
    "typed blocking",
    "published",
    "published async",
    "published typed",
    "published typed async",
];

#[tokio::test]
async fn every_kind_of_handler_answers_and_fails_alike() {
    let (miner, raw) = with(config()).await;
    register_all(&miner).await;
    for name in UNARY {
        assert_eq!(raw.answer(name, &n(6)).await, n(7), "{name}");
        assert_eq!(raw.failure(name, &data([])).await, "request processing failed", "{name}");
    }
    assert!(raw.is_open());
}

#[tokio::test]
async fn chunks_arrive_in_order_and_then_the_end() {
    let (miner, raw) = with(config().streaming_channel_buffer(1)).await;
    let count = Handler::streaming(|call, chunks| async move {
        let Number { n } = call.decode()?;
        for n in 0..n {
            chunks.send(n.to_string()).await?;
        }
        if n == 3 { Err("a secret".into()) } else { Ok(()) }
    });
    miner.server.register("count", count);
    let (chunks, end) = raw.ask("count", &n(100)).await.chunks();
    assert_eq!(end, None);
    assert_eq!(chunks, (0..100).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>());
    let (chunks, end) = raw.ask("count", &n(3)).await.chunks();
    assert_eq!((chunks.len(), end.as_deref()), (3, Some("stream processing failed")));
    let (chunks, end) = raw.ask("count", &data([])).await.chunks();
    assert_eq!((chunks.len(), end.as_deref()), (0, Some("stream processing failed")));

    miner.server.register_streaming_handler("published".into(), Arc::new(More)).await.unwrap();
    let (chunks, end) = raw.ask("published", &n(40)).await.chunks();
    assert_eq!(end, None);
    assert_eq!(chunks, (0..40).map(|n| Bytes::from(vec![n; 3])).collect::<Vec<_>>());
    let (chunks, end) = raw.ask("published", &data([])).await.chunks();
    assert_eq!((chunks.len(), end.as_deref()), (0, Some("stream processing failed")));
}

#[tokio::test]
async fn a_streaming_handler_is_ahead_by_as_many_chunks_as_were_set() {
    struct Ahead;
    #[async_trait]
    impl StreamingSynapseHandler for Ahead {
        async fn handle(&self, _: &str, _: Data, sender: tokio::sync::mpsc::Sender<Vec<u8>>) -> Result<()> {
            for _ in 0..5 {
                sender.try_send(vec![1]).map_err(LightningError::handler)?;
            }
            sender.try_send(vec![2]).unwrap_err();
            Ok(())
        }
    }
    // On one thread nobody takes chunks before the handler waits.
    let (miner, raw) = with(config().streaming_channel_buffer(5).io_threads(IoThreads::Current)).await;
    miner.server.register_streaming_handler("published".into(), Arc::new(Ahead)).await.unwrap();
    miner.server.register(
        "native",
        Handler::streaming(|_, chunks| async move {
            for _ in 0..5 {
                assert!(!is_pending(std::pin::pin!(chunks.send(vec![1]))).await);
            }
            assert!(is_pending(std::pin::pin!(chunks.send(vec![2]))).await);
            Ok(())
        }),
    );
    for name in ["published", "native"] {
        let (chunks, end) = raw.ask(name, &data([])).await.chunks();
        assert_eq!((chunks, end), (vec![Bytes::from(vec![1]); 5], None), "{name}");
    }
}

#[tokio::test]
async fn a_task_that_a_streaming_handler_leaves_behind_sends_on() {
    let (miner, raw) = with(config()).await;
    let detached = Handler::streaming(|_, chunks| async move {
        tokio::spawn(async move {
            for _ in 0..5 {
                tokio::task::yield_now().await;
                chunks.send(&b"late"[..]).await.unwrap();
            }
        });
        Ok(())
    });
    miner.server.register("detached", detached);
    let (chunks, end) = raw.ask("detached", &data([])).await.chunks();
    assert_eq!((chunks.len(), end), (5, None));
}

#[tokio::test]
async fn the_last_registration_of_a_name_counts() {
    let (miner, raw) = with(config()).await;
    miner.server.register("name", Handler::streaming(|_, _| async { Ok(()) }));
    let answers = |n| Handler::typed(move |_, _: Data| async move { Ok::<_, String>(Number { n }) });
    assert!(matches!(miner.server.register("name", answers(1)), Some(Handler::Streaming(_))));
    assert_eq!(raw.answer("name", &data([])).await, n(1));
    miner.server.register("name", answers(2));
    assert_eq!(raw.answer("name", &data([])).await, n(2));
    assert!(miner.server.unregister("name").is_some());
    assert_eq!(raw.failure("name", &data([])).await, "unrecognized synapse type");
}

#[tokio::test]
async fn a_panic_fails_its_own_request_and_nobody_elses() {
    let (miner, raw) = with(config()).await;
    struct Panics;
    impl SynapseHandler for Panics {
        fn handle(&self, _: &str, _: Data) -> Result<Data> {
            panic!("a secret")
        }
    }
    #[async_trait]
    impl AsyncSynapseHandler for Panics {
        async fn handle(&self, _: &str, _: Data) -> Result<Data> {
            tokio::task::yield_now().await;
            panic!("a secret")
        }
    }
    #[async_trait]
    impl StreamingSynapseHandler for Panics {
        async fn handle(&self, _: &str, _: Data, sender: tokio::sync::mpsc::Sender<Vec<u8>>) -> Result<()> {
            sender.send(vec![1]).await.unwrap();
            panic!("a secret")
        }
    }
    let server = &miner.server;
    server.register_synapse_handler("blocking".into(), Arc::new(Panics)).await.unwrap();
    server.register_async_synapse_handler("async".into(), Arc::new(Panics)).await.unwrap();
    server.register_streaming_handler("streaming".into(), Arc::new(Panics)).await.unwrap();
    server.register("at once", Handler::unary(|_| -> std::future::Pending<_> { panic!("a secret") }));
    let (release, held) = oneshot::channel::<()>();
    let held = Mutex::new(Some(held));
    server.register(
        "waits",
        Handler::unary(move |_| {
            let held = held.lock().unwrap().take().unwrap();
            async move {
                held.await?;
                Response::from_map(&n(1))
            }
        }),
    );
    let nothing = data([]);
    let mut waiting = std::pin::pin!(raw.answer("waits", &nothing));
    assert!(is_pending(waiting.as_mut()).await);
    for name in ["blocking", "async", "at once"] {
        assert_eq!(raw.failure(name, &data([])).await, "request processing failed", "{name}");
    }
    let (chunks, end) = raw.ask("streaming", &data([])).await.chunks();
    assert_eq!((chunks.len(), end.as_deref()), (1, Some("stream processing failed")));
    // The handler may not have begun before the panics, but answers after them all the same.
    release.send(()).unwrap();
    assert_eq!(waiting.await, n(1));
}

#[tokio::test]
async fn what_is_no_request_is_answered_or_ended_and_the_connection_goes_on() {
    let (_miner, raw) = with(config().max_frame_payload_bytes(1 << 20)).await;
    let frame = |kind, payload: &[u8]| {
        let mut frame = FrameWriter::begin(kind);
        frame.payload_mut().extend_from_slice(payload);
        frame.finish(1 << 26).unwrap()
    };
    // An array of two; a name that is a number; no map; a nest.
    let nest = [&[0x93, 0xa1, b'x', 0x81, 0xa1, b'k'][..], &[0x91; 4096], &[0xc0, 1]].concat();
    for bad in [&b"\xc1"[..], b"", b"\x92\xa1x\x80", b"\x93\x07\x80\x01", b"\x93\xa1x\x90\x01", &nest] {
        let answer = raw.exchange(&frame(MessageType::SynapsePacket, bad)).await;
        assert_eq!(answer.failure(), "invalid request format");
    }
    for kind in [MessageType::SynapseResponse, MessageType::HandshakeResponse, MessageType::StreamEnd] {
        assert!(raw.exchange(&frame(kind, b"\x90")).await.0.is_empty());
    }
    assert!(raw.exchange(&[9, 0, 0, 0, 0]).await.0.is_empty());
    assert!(raw.exchange(&[3, 0, 0]).await.0.is_empty());
    assert!(raw.exchange(&[]).await.0.is_empty());

    let (mut send, mut receive) = raw.connection.open_bi().await.unwrap();
    send.write_all(&[3, 0, 0x10, 0, 1]).await.unwrap();
    assert!(read(&mut receive).await.0.is_empty(), "a frame of one byte too many");
    assert_eq!(within("the stop", send.stopped()).await.unwrap(), Some(VarInt::from_u32(0)));
    assert_eq!(raw.failure("nobody knows", &data([])).await, "unrecognized synapse type");
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_is_said_to_be_that() {
    let (miner, raw) = with(config().max_frame_payload_bytes(1 << 20)).await;
    miner.server.register(
        "large",
        Handler::unary(|_| async { Response::from_map(&data([("b", Value::Binary(vec![0; 1 << 20]))])) }),
    );
    miner.server.register("no map", Handler::typed(|_, _: Data| async { Ok::<_, String>(7) }));
    miner.server.register(
        "nest",
        Handler::blocking(|_| {
            let nest = (0..200).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
            Response::from_map(&HashMap::from([("nest".to_owned(), nest)]))
        }),
    );
    for name in ["large", "no map", "nest"] {
        assert_eq!(raw.failure(name, &data([])).await, "internal serialization error", "{name}");
    }

    miner.server.register(
        "large chunk",
        Handler::streaming(|_, chunks| async move {
            let too_large = chunks.send(vec![0; 1 << 20]).await;
            assert!(matches!(too_large, Err(ChunkError::TooLarge { .. })), "{too_large:?}");
            chunks.send(vec![0; (1 << 20) - 6]).await?;
            Ok(())
        }),
    );
    let (chunks, end) = raw.ask("large chunk", &data([])).await.chunks();
    assert_eq!((chunks.len(), end), (1, None));

    struct Large;
    #[async_trait]
    impl StreamingSynapseHandler for Large {
        async fn handle(&self, _: &str, _: Data, sender: tokio::sync::mpsc::Sender<Vec<u8>>) -> Result<()> {
            sender.send(vec![1]).await.map_err(LightningError::handler)?;
            while sender.send(vec![0; 1 << 20]).await.is_ok() {}
            Err(LightningError::handler("nobody takes it"))
        }
    }
    miner.server.register_streaming_handler("published".into(), Arc::new(Large)).await.unwrap();
    let (chunks, end) = raw.ask("published", &data([])).await.chunks();
    assert_eq!((chunks.len(), end.as_deref()), (1, Some("stream write failed")));
}

#[tokio::test]
async fn requests_on_one_connection_do_not_wait_for_each_other() {
    let (miner, raw) = with(config()).await;
    let barrier = Arc::new(tokio::sync::Barrier::new(100));
    miner.server.register(
        "meet",
        Handler::typed(move |_, n: Number| {
            let barrier = barrier.clone();
            async move {
                barrier.wait().await;
                Ok::<_, String>(n)
            }
        }),
    );
    let raw = Arc::new(raw);
    let mut asking = tokio::task::JoinSet::new();
    for k in 0..100 {
        let raw = raw.clone();
        asking.spawn(async move { assert_eq!(raw.answer("meet", &n(k)).await, n(k)) });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
}

#[test]
fn every_error_is_a_handlers_error() {
    fn fails() -> std::result::Result<(), HandlerError> {
        "x".parse::<u32>()?;
        Ok(())
    }
    assert_eq!(fails().unwrap_err().words(), "invalid digit found in string");
}
