//! Streaming answers.

use std::collections::HashMap;
use std::time::Duration;

use btlightning::server::{Handler, HandlerError};
use btlightning::{CallError, CallOptions, LightningClientConfig, LightningError, PeerError, QuicRequest};

use crate::world::{Miner, Ping, World, config, within};

fn register_streams(miner: &Miner) {
    miner.server.register(
        "count",
        Handler::streaming(|call, chunks| async move {
            let Ping { n } = call.decode()?;
            for i in 0..n {
                chunks.send(i.to_be_bytes().to_vec()).await?;
            }
            Ok(())
        }),
    );
    miner.server.register(
        "break",
        Handler::streaming(|_, chunks| async move {
            chunks.send(&b"one"[..]).await?;
            Err(HandlerError::from("out of luck"))
        }),
    );
    miner.server.register(
        "stall",
        Handler::streaming(|_, chunks| async move {
            chunks.send(&b"one"[..]).await?;
            std::future::pending().await
        }),
    );
    miner.server.register(
        "flood",
        Handler::streaming(|_, chunks| async move {
            loop {
                chunks.send(vec![]).await?;
            }
        }),
    );
}

async fn ready(seed: u64, config: LightningClientConfig) -> (World, Miner, btlightning::LightningClient) {
    let world = World::new(seed);
    let miner = world.miner("miner", "10.0.0.2:1").await;
    register_streams(&miner);
    let client = world.client(config).await;
    (world, miner, client)
}

#[tokio::test(start_paused = true)]
async fn chunks_come_in_order_and_the_end_stays_the_end() {
    let (_world, miner, client) = ready(60, config()).await;
    for n in [0u32, 1, 500] {
        let mut stream =
            client.call_stream(miner.axon(), "count", &Ping { n }, CallOptions::new()).await.unwrap();
        let mut next = 0u32;
        while let Some(chunk) = within(stream.next()).await.unwrap() {
            assert_eq!(chunk, next.to_be_bytes().to_vec());
            next += 1;
        }
        assert_eq!(next, n);
        assert!(stream.next().await.unwrap().is_none());
        assert!(stream.timings().first_byte <= stream.timings().last_byte);
    }
    let request = QuicRequest::from_typed("count", &Ping { n: 3 }).unwrap();
    let mut published = client.query_axon_stream(miner.axon(), request).await.unwrap();
    assert_eq!(published.next_chunk().await.unwrap().unwrap(), 0u32.to_be_bytes());
    assert_eq!(published.collect_all().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_comes_after_the_chunks_that_were_sent() {
    let (_world, miner, client) = ready(61, config()).await;
    let mut stream =
        client.call_stream(miner.axon(), "break", &Ping { n: 0 }, CallOptions::new()).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), &b"one"[..]);
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error, CallError::Rejected(PeerError::StreamFailed)), "{error}");
    assert!(stream.next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_miner_that_stalls_is_given_up_after_the_chunk_timeout() {
    let quick = LightningClientConfig { stream_chunk_timeout: Some(Duration::from_secs(3)), ..config() };
    let (_world, miner, client) = ready(62, quick).await;
    let request = QuicRequest::new("stall".into(), HashMap::new());
    let mut stream = client.query_axon_stream(miner.axon(), request).await.unwrap();
    stream.next_chunk().await.unwrap().unwrap();
    let error = stream.next_chunk().await.unwrap_err();
    assert!(matches!(error, LightningError::Stream(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn empty_chunks_without_end_hit_the_stream_limit() {
    let small = LightningClientConfig {
        max_frame_payload_bytes: 1 << 20,
        max_stream_payload_bytes: 1 << 20,
        ..config()
    };
    let (_world, miner, client) = ready(63, small).await;
    let mut stream =
        client.call_stream(miner.axon(), "flood", &Ping { n: 0 }, CallOptions::new()).await.unwrap();
    let error = loop {
        match within(stream.next()).await {
            Ok(Some(chunk)) => assert!(chunk.is_empty()),
            Ok(None) => panic!("the flood has no end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CallError::StreamTooLarge { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_wrong_kind_of_call_is_named() {
    let (_world, miner, client) = ready(64, config()).await;
    let error = client.call::<_, Ping>(miner.axon(), "count", &Ping { n: 1 }).await.unwrap_err();
    assert!(matches!(error, CallError::UnexpectedMessage(_)), "{error}");
    let mut stream =
        client.call_stream(miner.axon(), "echo", &Ping { n: 1 }, CallOptions::new()).await.unwrap();
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error, CallError::UnexpectedMessage(_)), "{error}");
    let mut stream =
        client.call_stream(miner.axon(), "nobody", &Ping { n: 1 }, CallOptions::new()).await.unwrap();
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error, CallError::Rejected(PeerError::UnrecognizedSynapse)), "{error}");
}
