//! Streaming answers: none, one and many chunks, small and large ones, and ends that are not the end.

use std::time::Duration;

use btlightning_interop::{Class, Data, data, within};
use tokio::sync::mpsc;

use super::stage::{
    Miner, answer, ask, chunks, client_config, connected, connected_with, error, failure, server_config,
    stream,
};
use crate::peers::{CLIENT, Make, client, server};

/// A miner whose `count` streams `n` chunks of `bytes` each.
async fn counting() -> Miner {
    let miner = Miner::start().await;
    miner
        .streaming("count", |data, chunks| async move {
            for chunk in expected(&data) {
                chunks.send(chunk).await.map_err(server::LightningError::handler)?;
            }
            Ok(())
        })
        .await;
    miner
}

fn request(n: usize, bytes: usize) -> Data {
    data([("n", n.into()), ("bytes", bytes.into())])
}

fn expected(request: &Data) -> Vec<Vec<u8>> {
    let number = |key: &str| request[key].as_u64().expect("a number") as usize;
    (0..number("n")).map(|n| vec![n as u8; number("bytes")]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_chunks_of_any_size() {
    let miner = counting().await;
    let validator = connected(&miner).await;
    for (n, bytes) in [(0, 0), (1, 0), (3, 0), (1, 1), (1000, 10), (5, 65_535), (4, 1 << 20), (1, 8 << 20)] {
        let request = request(n, bytes);
        let streamed = chunks(&validator, &miner, "count", request.clone()).await.expect("a stream");
        assert!(streamed == expected(&request), "{n} chunks of {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_arrive_while_the_handler_still_works() {
    let miner = Miner::start().await;
    let (go_on, mut asked) = mpsc::unbounded_channel::<()>();
    let handler_asked = std::sync::Arc::new(tokio::sync::Mutex::new(async move || asked.recv().await));
    miner
        .streaming("slow", move |_, chunks| {
            let asked = handler_asked.clone();
            async move {
                for n in 0..3 {
                    chunks.send(vec![n]).await.map_err(server::LightningError::handler)?;
                    (asked.lock().await)().await;
                }
                Ok(())
            }
        })
        .await;
    let validator = connected(&miner).await;
    let mut slow = stream(&validator, &miner, "slow", data([])).await;
    for n in 0..3 {
        assert_eq!(within("a chunk", slow.next_chunk()).await.expect("a chunk"), Some(vec![n]));
        go_on.send(()).expect("the handler waits");
    }
    assert_eq!(within("the end", slow.next_chunk()).await.expect("the end"), None);

    // After the end published clients report a lost stream; ours, that there is nothing more.
    let after = within("after the end", slow.next_chunk()).await;
    match CLIENT {
        Make::Ours => assert_eq!(after.expect("the end"), None),
        Make::Theirs => assert_eq!(error(after).0, Class::Transport),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_fails_in_the_middle() {
    let miner = Miner::start().await;
    for (name, panics) in [("fails", false), ("panics", true)] {
        miner
            .streaming(name, move |_, chunks| async move {
                for n in 0..2 {
                    chunks.send(vec![n]).await.map_err(server::LightningError::handler)?;
                }
                assert!(!panics, "a secret");
                Err(server::LightningError::handler("a secret"))
            })
            .await;
    }
    let validator = connected(&miner).await;
    for name in ["fails", "panics"] {
        let mut broken = stream(&validator, &miner, name, data([])).await;
        for n in 0..2 {
            assert_eq!(within("a chunk", broken.next_chunk()).await.expect("a chunk"), Some(vec![n]));
        }
        let end = error(within("the end", broken.next_chunk()).await);
        assert_eq!(end, (Class::Stream, "stream processing failed".to_owned()), "{name}");
        let all = error(chunks(&validator, &miner, name, data([])).await);
        assert_eq!(all, (Class::Stream, "stream processing failed".to_owned()), "{name}");
    }
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_takes_too_long() {
    let miner = Miner::with(server_config().handler_timeout_secs(1)).await;
    miner
        .streaming("stuck", |_, chunks| async move {
            chunks.send(vec![1]).await.map_err(server::LightningError::handler)?;
            std::future::pending().await
        })
        .await;
    let validator = connected(&miner).await;
    let mut stuck = stream(&validator, &miner, "stuck", data([])).await;
    assert_eq!(within("a chunk", stuck.next_chunk()).await.expect("a chunk"), Some(vec![1]));
    let end = error(within("the end", stuck.next_chunk()).await);
    assert_eq!(end, (Class::Stream, "handler timed out".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_does_not_come() {
    let miner = Miner::start().await;
    miner
        .streaming("stuck", |_, chunks| async move {
            chunks.closed().await;
            Ok(())
        })
        .await;
    let config = client::LightningClientConfig {
        stream_chunk_timeout: Some(Duration::from_millis(200)),
        ..client_config()
    };
    let validator = connected_with(&miner, config).await;
    let request = client::QuicRequest::new("stuck".into(), data([]));
    let mut stuck =
        within("a stream", validator.query_axon_stream(miner.axon(), request)).await.expect("a stream");
    let (class, words) = error(within("a chunk", stuck.next_chunk()).await);
    assert_eq!(class, Class::Stream);
    assert!(words.contains("timed out"), "{words}");
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_has_heard_enough() {
    let miner = Miner::start().await;
    let (told, mut ended) = mpsc::unbounded_channel();
    miner
        .streaming("endless", move |_, chunks| {
            let end = End(told.clone());
            async move {
                let _end = end;
                while chunks.send(vec![0; 100_000]).await.is_ok() {}
                Ok(())
            }
        })
        .await;
    let validator = connected(&miner).await;
    let mut endless = stream(&validator, &miner, "endless", data([])).await;
    within("a chunk", endless.next_chunk()).await.expect("a chunk").expect("not the end");
    drop(endless);
    within("the handler's end", ended.recv()).await.expect("the handler has ended");
    answer(&validator, &miner, "echo", data([])).await;
}

/// Tells when a handler has ended, be it that it returned or that it was dropped.
struct End(mpsc::UnboundedSender<()>);

impl Drop for End {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_validator_wants_in_all() {
    let miner = counting().await;
    let config = client::LightningClientConfig {
        max_frame_payload_bytes: 1 << 20,
        max_stream_payload_bytes: 1 << 20,
        ..client_config()
    };
    let validator = connected_with(&miner, config).await;
    let (class, words) = error(chunks(&validator, &miner, "count", request(3, 500_000)).await);
    assert_eq!(class, Class::Stream, "{words}");
    // In a published client the bound is one of `collect_all` alone.
    let mut one_by_one = stream(&validator, &miner, "count", request(3, 500_000)).await;
    for _ in 0..2 {
        within("a chunk", one_by_one.next_chunk()).await.expect("a chunk").expect("not the end");
    }
    let third = within("a chunk", one_by_one.next_chunk()).await;
    match CLIENT {
        Make::Ours => assert_eq!(error(third).0, Class::Stream),
        Make::Theirs => assert!(third.expect("a chunk").is_some()),
    }

    let (class, words) = error(chunks(&validator, &miner, "count", request(1, 2 << 20)).await);
    assert_eq!(class, Class::Transport, "{words}");
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handler_decides_whether_an_answer_is_a_stream() {
    let miner = counting().await;
    let validator = connected(&miner).await;
    for n in [0, 2] {
        let (class, words) = error(ask(&validator, &miner, "count", request(n, 1)).await);
        assert_eq!(class, Class::Transport, "{n} chunks: {words}");
    }
    for name in ["echo", "unheard of"] {
        let (class, words) = error(chunks(&validator, &miner, name, data([])).await);
        assert_eq!(class, Class::Stream, "{name}: {words}");
    }
    assert_eq!(failure(&validator, &miner, "unheard of", data([])).await, "unrecognized synapse type");
}
