//! Many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use btlightning_interop::{Class, Classified, Data, data, keys, within};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::stage::{Miner, connected, server_config};
use crate::peers::{CLIENT, Make, client};

const QUERIES: usize = 256;

/// A miner that allows `streams` streams, and answers no request before it has `together` of them.
async fn gathering(streams: u32, together: usize) -> Miner {
    let miner = Miner::with(server_config().max_concurrent_bidi_streams(streams)).await;
    let all = Arc::new(Barrier::new(together));
    miner
        .unary("gather", move |data: Data| {
            let all = all.clone();
            async move {
                all.wait().await;
                Ok(data)
            }
        })
        .await;
    miner
}

async fn all_answered(validator: client::LightningClient, miner: &Miner) {
    let validator = Arc::new(validator);
    let mut queries = JoinSet::new();
    for n in 0..QUERIES {
        let (validator, axon) = (validator.clone(), miner.axon());
        queries.spawn(async move {
            let sent = data([("n", n.into()), ("filler", vec![0_u8; n].into())]);
            let request = client::QuicRequest::new("gather".into(), sent.clone());
            let response = validator.query_axon(axon, request).await.expect("an answer");
            assert_eq!((response.success, response.data), (true, sent), "its own answer");
        });
    }
    within("all answers", async {
        while let Some(answered) = queries.join_next().await {
            answered.expect("no panic");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_queries_are_in_flight_at_once() {
    // QUIC gives back the credit for streams that have ended in lots of an eighth of the limit, so that a client may
    // have as many fewer in flight.
    let miner = gathering(300, QUERIES).await;
    let validator = connected(&miner).await;
    all_answered(validator, &miner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_wait_for_their_turn() {
    let miner = gathering(128, QUERIES / 4).await;
    let validator = connected(&miner).await;
    all_answered(validator, &miner).await;
}

/// While ours dials, queries wait for it. In a published client the first one dials, and the others fail meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_come_before_the_connection() {
    let miner = Miner::start().await;
    let validator = Arc::new(super::stage::validator("early", super::stage::client_config()).await);
    let mut queries = JoinSet::new();
    for _ in 0..16 {
        let (validator, axon) = (validator.clone(), miner.axon());
        queries.spawn(async move {
            let request = client::QuicRequest::new("echo".into(), data([]));
            validator.query_axon(axon, request).await
        });
    }
    let answers = within("all answers", queries.join_all()).await;
    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    match CLIENT {
        Make::Ours => assert_eq!(answered, 16, "{answers:?}"),
        Make::Theirs => assert!((1..16).contains(&answered), "{answers:?}"),
    }
    let failures = answers.into_iter().filter_map(Result::err).map(|error| error.class());
    assert!(failures.into_iter().all(|class| class == Class::Connection));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_do_not_get_in_each_others_way() {
    let miner = Miner::start().await;
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    miner
        .sync("count", move |data| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(data)
        })
        .await;
    let mut queries = JoinSet::new();
    for n in 0..8 {
        let (name, axon) = (format!("validator {n}"), miner.axon());
        queries.spawn(async move {
            let validator = super::stage::validator(&name, super::stage::client_config()).await;
            for _ in 0..8 {
                let request = client::QuicRequest::new("count".into(), data([]));
                assert!(validator.query_axon(axon.clone(), request).await.expect("an answer").success);
            }
            validator
        });
    }
    let validators = within("all answers", queries.join_all()).await;
    assert_eq!((served.load(Ordering::SeqCst), miner.connections().await), (64, 8));
    for n in 0..8 {
        let id = miner.connection_of(&format!("validator {n}")).await.expect("connected");
        assert!(id.contains(&keys(&format!("validator {n}")).hotkey));
    }
    drop(validators);
}
