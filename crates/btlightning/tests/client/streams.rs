//! Streaming answers.

use std::collections::HashMap;
use std::time::Duration;

use btlightning::server::{Handler, HandlerError};
use btlightning::{CallError, CallOptions, LightningClientConfig, LightningError, PeerError, QuicRequest};
use btlightning_testkit::Link;

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
    // A stream that has failed never looks like one that has ended.
    assert!(matches!(stream.next().await.unwrap_err(), CallError::StreamOver));

    // On streams, published programs match on another class.
    let request = QuicRequest::from_typed("break", &Ping { n: 0 }).unwrap();
    let mut published = client.query_axon_stream(miner.axon(), request).await.unwrap();
    published.next_chunk().await.unwrap().unwrap();
    let error = published.next_chunk().await.unwrap_err();
    assert!(
        matches!(&error, LightningError::Stream(words) if words == "stream processing failed"),
        "{error}"
    );
    assert!(published.collect_all().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_chunk_that_is_dropped_loses_nothing() {
    let (world, miner, client) = ready(65, config()).await;
    // Large chunks over a slow path, so that most waits end in the middle of one.
    miner.server.register(
        "large",
        Handler::streaming(|_, chunks| async move {
            for n in 0..4u8 {
                chunks.send(vec![n; 200_000]).await?;
            }
            Ok(())
        }),
    );
    let slow = Link {
        delay: Duration::from_millis(30),
        bandwidth_bytes_per_second: Some(1 << 20),
        ..Link::default()
    };
    world.net.set_link(miner.addr.ip(), "10.0.0.1".parse().unwrap(), slow);
    let mut stream =
        client.call_stream(miner.axon(), "large", &Ping { n: 0 }, CallOptions::new()).await.unwrap();
    let (mut received, mut dropped) = (Vec::new(), 0);
    loop {
        match tokio::time::timeout(Duration::from_millis(7), stream.next()).await {
            Err(_) => dropped += 1,
            Ok(chunk) => match chunk.unwrap() {
                Some(chunk) => received.push(chunk),
                None => break,
            },
        }
    }
    assert!(dropped > 20, "{dropped} waits were dropped");
    let expected: Vec<_> = (0..4u8).map(|n| vec![n; 200_000]).collect();
    assert!(received == expected, "the chunks came whole and in order");
}

#[tokio::test(start_paused = true)]
async fn streams_that_nobody_reads_do_not_hold_up_other_calls() {
    let (_world, miner, client) = ready(66, config()).await;
    miner.server.register(
        "blob",
        Handler::streaming(|_, chunks| async move {
            for _ in 0..20 {
                chunks.send(vec![7; 1 << 20]).await?;
            }
            Ok(())
        }),
    );
    let mut unread = Vec::new();
    for _ in 0..4 {
        let mut stream =
            client.call_stream(miner.axon(), "blob", &Ping { n: 0 }, CallOptions::new()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        unread.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(5)).await; // virtual: each has filled its window by now
    let asked = tokio::time::Instant::now();
    client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 }).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    for stream in &mut unread {
        let mut chunks = 1;
        while stream.next().await.unwrap().is_some() {
            chunks += 1;
        }
        assert_eq!(chunks, 20);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_chunk_has_its_bounds_too() {
    let quick = LightningClientConfig { stream_chunk_timeout: Some(Duration::from_secs(3)), ..config() };
    let (_world, miner, client) = ready(67, quick).await;
    miner.server.register("silent", Handler::streaming(|_, _chunks| std::future::pending()));
    let began = tokio::time::Instant::now();
    let mut stream =
        client.call_stream(miner.axon(), "silent", &Ping { n: 0 }, CallOptions::new()).await.unwrap();
    stream.next().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(4), "the chunk timeout: {:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    let options = CallOptions::new().first_byte_timeout(Duration::from_secs(1));
    let mut stream = client.call_stream(miner.axon(), "silent", &Ping { n: 0 }, options).await.unwrap();
    stream.next().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2), "the first byte's: {:?}", began.elapsed());
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
