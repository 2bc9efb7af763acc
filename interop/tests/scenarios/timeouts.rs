//! A validator that waits only so long; a miner that takes its time.

use std::time::Duration;

use btlightning_interop::{Class, data, within};
use tokio::sync::mpsc;

use super::stage::{Miner, VALIDATOR, answer, connected, error};
use crate::peers::client;

#[tokio::test]
async fn a_query_that_times_out_costs_only_itself() {
    let miner = Miner::start().await;
    miner.unary("stuck", |_| std::future::pending()).await;
    let validator = connected(&miner).await;
    let id = miner.connection_of(VALIDATOR).await;
    let request = || client::QuicRequest::new("stuck".into(), data([]));
    for timeout in [Duration::ZERO, Duration::from_millis(100)] {
        let query = validator.query_axon_with_timeout(miner.axon(), request(), timeout);
        let (class, words) = error(within("a timeout", query).await);
        assert_eq!(class, Class::Transport, "{timeout:?}: {words}");
        assert!(words.contains("timed out"), "{words}");
    }
    answer(&validator, &miner, "echo", data([])).await;
    assert_eq!(miner.connection_of(VALIDATOR).await, id, "the same connection");
}

#[tokio::test]
async fn a_timeout_may_be_as_long_as_one_likes() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let request = client::QuicRequest::new("echo".into(), data([]));
    let query = validator.query_axon_with_timeout(miner.axon(), request, Duration::MAX);
    assert!(within("an answer", query).await.expect("an answer").success);
}

#[tokio::test]
async fn queries_that_nobody_waits_for_leave_nothing_behind() {
    let miner = Miner::start().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    miner
        .unary("stuck", move |_| {
            started.send(()).expect("the test is there");
            std::future::pending()
        })
        .await;
    let validator = connected(&miner).await;
    let id = miner.connection_of(VALIDATOR).await;
    for _ in 0..20 {
        let request = client::QuicRequest::new("stuck".into(), data([]));
        tokio::select! {
            answer = validator.query_axon(miner.axon(), request) => panic!("answered: {answer:?}"),
            start = within("the handler", starts.recv()) => start.expect("started"),
        }
    }
    answer(&validator, &miner, "echo", data([])).await;
    assert_eq!(miner.connection_of(VALIDATOR).await, id, "the same connection");
}
