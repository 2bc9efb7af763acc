//! When a handler's work ends before it does: its time is up, its caller is gone, or its answer is not read.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use btlightning::server::{ChunkError, Handler, Response, StreamingSynapseHandler};
use btlightning_proto::wire::MessageType;
use common::sim::World;
use common::{Data, Dropped, Miner, Raw, client_config, config, data, read, request, socket, within};
use quinn::VarInt;
use rmpv::Value;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

#[tokio::test]
async fn a_handler_has_its_time_and_no_more() {
    let miner = Miner::with(config().handler_timeout_secs(1), |_| {}).await;
    let raw = Raw::authenticated(&miner, "alice").await;
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    miner.server.register(
        "blocking",
        Handler::blocking(move |_| {
            // Ends with the test at the latest.
            let _ = held.lock().unwrap().recv();
            Response::from_map(&data([]))
        }),
    );
    let (dropped, dropping) = oneshot::channel();
    let dropped = Mutex::new(Some(dropped));
    miner.server.register(
        "async",
        Handler::unary(move |_| {
            let guard = Dropped(dropped.lock().unwrap().take());
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        }),
    );
    miner.server.register(
        "streaming",
        Handler::streaming(|_, chunks| async move {
            chunks.send("one").await?;
            std::future::pending().await
        }),
    );
    // The deadline of a stream holds even while chunks flow.
    miner.server.register(
        "endless",
        Handler::streaming(|_, chunks| async move {
            loop {
                chunks.send("more").await?;
                // sleeps: a stream in which chunks never stop coming
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }),
    );
    let nothing = data([]);
    let (blocking, unary, streaming, endless) = tokio::join!(
        raw.failure("blocking", &nothing),
        raw.failure("async", &nothing),
        raw.ask("streaming", &nothing),
        raw.ask("endless", &nothing),
    );
    assert_eq!((blocking.as_str(), unary.as_str()), ("handler timed out", "handler timed out"));
    within("the drop", dropping).await.unwrap();
    let (chunks, end) = streaming.chunks();
    assert_eq!((chunks.len(), end.as_deref()), (1, Some("handler timed out")));
    let (chunks, end) = endless.chunks();
    assert!(chunks.len() > 1);
    assert_eq!(end.as_deref(), Some("handler timed out"));
    drop(release);
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_caller_wants_no_answer() {
    let miner = Miner::start().await;
    let raw = Raw::authenticated(&miner, "alice").await;
    let (begun, mut beginning) = tokio::sync::mpsc::channel(1);
    let (drops, mut dropping) = tokio::sync::mpsc::unbounded_channel();
    let guarded = move || {
        let (dropped, was_dropped) = oneshot::channel();
        let drops = drops.clone();
        tokio::spawn(async move {
            let _ = was_dropped.await;
            let _ = drops.send(());
        });
        (begun.clone(), Dropped(Some(dropped)))
    };
    let also = guarded.clone();
    miner.server.register(
        "unary",
        Handler::unary(move |_| {
            let (begun, guard) = guarded();
            async move {
                let _guard = guard;
                begun.send(()).await?;
                std::future::pending().await
            }
        }),
    );
    miner.server.register(
        "streaming",
        Handler::streaming(move |_, chunks| {
            let (begun, guard) = also();
            async move {
                let _guard = guard;
                chunks.send("one").await?;
                begun.send(()).await?;
                std::future::pending().await
            }
        }),
    );
    for name in ["unary", "streaming"] {
        let (_send, mut receive) = raw.send(&request(name, &data([]))).await;
        within("the handler", beginning.recv()).await.unwrap();
        receive.stop(VarInt::from_u32(0)).unwrap();
        within("the drop", dropping.recv()).await.unwrap();
    }
    assert!(raw.is_open());
}

#[tokio::test]
async fn a_handler_learns_that_nobody_reads_its_chunks() {
    let miner = Miner::start().await;
    let raw = Raw::authenticated(&miner, "alice").await;
    let (told, mut telling) = tokio::sync::mpsc::channel(1);
    miner.server.register(
        "detached",
        Handler::streaming(move |_, chunks| {
            let told = told.clone();
            async move {
                tokio::spawn(async move {
                    let failed = loop {
                        if let Err(failed) = chunks.send(vec![0; 1024]).await {
                            break failed;
                        }
                    };
                    told.send(failed).await.unwrap();
                });
                std::future::pending().await
            }
        }),
    );
    let (_send, mut receive) = raw.send(&request("detached", &data([]))).await;
    let mut some = [0; 1024];
    within("a chunk", receive.read_exact(&mut some)).await.unwrap();
    receive.stop(VarInt::from_u32(0)).unwrap();
    assert_eq!(within("the failure", telling.recv()).await, Some(ChunkError::CallerGone));
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up_on() {
    let miner = Miner::with(config().handler_timeout_secs(1), |_| {}).await;
    // Less than what would have more time for its size.
    let large = Arc::new(vec![7_u8; 60_000]);
    let chunk = large.clone();
    miner.server.register(
        "unary",
        Handler::unary(move |_| {
            let large = large.clone();
            async move { Response::from_map(&data([("b", Value::Binary(large.to_vec()))])) }
        }),
    );
    miner.server.register(
        "streaming",
        Handler::streaming(move |_, chunks| {
            let chunk = chunk.clone();
            async move { Ok(chunks.send(chunk.to_vec()).await?) }
        }),
    );
    let narrow = client_config(b"btlightning", |transport| {
        transport.stream_receive_window(VarInt::from_u32(4096));
    });
    let mut endpoint = socket();
    endpoint.set_default_client_config(narrow);
    let raw = Raw::connect_from(endpoint, miner.addr).await.unwrap();
    raw.accepted("alice").await;
    let mut receiving = Vec::new();
    for name in ["unary", "streaming"] {
        receiving.push(raw.send(&request(name, &data([]))).await.1);
    }
    for mut receive in receiving {
        let reset = within("the reset", receive.received_reset()).await.unwrap();
        assert_eq!(reset, Some(VarInt::from_u32(0)));
    }
    assert_eq!(raw.failure("nobody knows", &data([])).await, "unrecognized synapse type");
}

#[tokio::test]
async fn a_request_that_does_not_arrive_in_time_is_given_up_on() {
    let miner = Miner::with(config().handler_timeout_secs(1), |_| {}).await;
    miner.server.register("echo", Handler::unary(|call| async move { Response::from_map(&call.to_map()?) }));
    let raw = Raw::authenticated(&miner, "alice").await;
    let whole = request("echo", &data([("k", Value::from("v"))]));
    // Half a header, a header, half a payload: each stream is reset, and the connection goes on.
    let mut streams = Vec::new();
    for arrived in [1, 3, 5, whole.len() - 1] {
        let (mut send, receive) = raw.connection.open_bi().await.unwrap();
        send.write_all(&whole[..arrived]).await.unwrap();
        // Kept: a sender that is dropped ends its stream.
        streams.push((arrived, send, receive));
    }
    // Nor is a second handshake waited for.
    let (mut send, receive) = raw.connection.open_bi().await.unwrap();
    send.write_all(&[MessageType::HandshakeRequest as u8, 0, 0, 1, 0, 0x87]).await.unwrap();
    streams.push((6, send, receive));
    for (arrived, _send, mut receive) in streams {
        let given_up = within("the end of the stream", receive.read_to_end(1024)).await;
        assert!(given_up.is_err(), "{arrived} bytes: {given_up:?}");
    }
    assert_eq!(raw.answer("echo", &data([])).await, data([]));
}

/// A validator in virtual time, and the peer of a miner, that takes little of an answer before it reads it.
async fn narrow(world: &World, miner: &Miner) -> Raw {
    let endpoint = world.socket(client_config(b"btlightning", |transport| {
        transport.stream_receive_window(VarInt::from_u32(4096));
    }));
    let raw = Raw::connect_from(endpoint, miner.addr).await.unwrap();
    raw.accepted("alice").await;
    raw
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_has_more_time_to_be_read() {
    let world = World::new();
    let miner = world.miner(config().handler_timeout_secs(1)).await;
    let answer = data([("b", Value::Binary(vec![7; 200_000]))]);
    let given = answer.clone();
    miner.server.register(
        "unary",
        Handler::unary(move |_| {
            let given = given.clone();
            async move { Response::from_map(&given) }
        }),
    );
    miner.server.register(
        "streaming",
        Handler::streaming(|_, chunks| async move {
            for _ in 0..4 {
                chunks.send(vec![7; 50_000]).await?;
            }
            Ok(())
        }),
    );
    let raw = narrow(&world, &miner).await;
    for begins_after_secs in [2, 5] {
        let (_send, mut unary) = raw.send(&request("unary", &data([]))).await;
        let (_send, mut streaming) = raw.send(&request("streaming", &data([]))).await;
        // sleeps: in virtual time, for longer than a small answer would be kept; then for longer than these are
        tokio::time::sleep(Duration::from_secs(begins_after_secs)).await;
        if begins_after_secs == 2 {
            assert_eq!(read(&mut unary).await.data(), answer);
            let (chunks, end) = read(&mut streaming).await.chunks();
            assert_eq!((chunks.len(), end), (4, None));
        } else {
            for receive in [&mut unary, &mut streaming] {
                assert!(receive.read_to_end(1 << 20).await.is_err());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_published_handler_has_sent_is_written_after_its_time_too() {
    struct Hangs(Mutex<Option<oneshot::Sender<()>>>);
    #[async_trait]
    impl StreamingSynapseHandler for Hangs {
        async fn handle(&self, _: &str, _: Data, sender: Sender<Vec<u8>>) -> btlightning::Result<()> {
            let _guard = Dropped(self.0.lock().unwrap().take());
            for _ in 0..4 {
                sender.try_send(vec![7; 30_000]).unwrap();
            }
            std::future::pending().await
        }
    }
    let world = World::new();
    let miner = world.miner(config().handler_timeout_secs(1)).await;
    let (dropped, dropping) = oneshot::channel();
    let handler = Arc::new(Hangs(Mutex::new(Some(dropped))));
    miner.server.register_streaming_handler("hangs".into(), handler).await.unwrap();
    let raw = narrow(&world, &miner).await;
    let (_send, mut receive) = raw.send(&request("hangs", &data([]))).await;
    within("the drop", dropping).await.unwrap();
    let (chunks, end) = read(&mut receive).await.chunks();
    assert_eq!((chunks.len(), end.as_deref()), (4, Some("handler timed out")));
}

#[tokio::test]
async fn a_handler_is_told_when_its_request_was_there_and_until_when_it_has_time() {
    let miner = Miner::with(config().handler_timeout_secs(7), |_| {}).await;
    let (told, mut telling) = tokio::sync::mpsc::channel(1);
    miner.server.register(
        "when",
        Handler::unary(move |call| {
            let told = told.clone();
            async move {
                told.send((*call.caller(), Instant::now())).await?;
                Response::from_map(&data([]))
            }
        }),
    );
    let raw = Raw::authenticated(&miner, "alice").await;
    let whole = request("when", &data([]));
    let (mut send, _receive) = raw.connection.open_bi().await.unwrap();
    send.write_all(&whole[..7]).await.unwrap();
    // The server has what was written: later streams of the connection are answered.
    assert_eq!(raw.failure("nobody knows", &data([])).await, "unrecognized synapse type");
    let before = Instant::now();
    send.write_all(&whole[7..]).await.unwrap();
    let (caller, called) = within("the handler", telling.recv()).await.unwrap();
    assert!(before <= caller.received_at && caller.received_at <= called);
    assert_eq!(caller.deadline - caller.received_at, Duration::from_secs(7));
}
