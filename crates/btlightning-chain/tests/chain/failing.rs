//! Nodes that fail, one at a time and all at once.

use std::time::{Duration, Instant};

use btlightning_chain::chain::{Backend, Chain as Ours};
use btlightning_chain::error::{ChainError, EndpointFailure, NodeError};
use btlightning_testkit::chain::{Chain, Failure, Garbage};

use crate::subnet::{AMPLE, NETUID, asking, config, populated};

/// Time enough for a node that answers, and short enough to wait for one that does not.
const SHORT: Duration = Duration::from_secs(2);

fn impatient<T: AsRef<str>>(urls: impl IntoIterator<Item = T>) -> Ours {
    let mut config = config(urls);
    config.connect_timeout = SHORT;
    config.call_timeout = SHORT;
    config.operation_timeout = 2 * SHORT;
    Ours::new(config).unwrap()
}

fn failures() -> Vec<Failure> {
    let garbage = [
        Garbage::NotJson,
        Garbage::Binary,
        Garbage::WrongId,
        Garbage::WrongType,
        Garbage::Oversized(17 << 20),
        Garbage::Truncated,
        Garbage::Trailing,
        Garbage::Noise,
        Garbage::EndlessLength,
    ];
    let error = Failure::Error { code: -32000, message: "no \u{1b}[2Jway".into() };
    [Failure::Refuse, Failure::HangUp, Failure::Mute, Failure::Silent, Failure::Disconnect, error]
        .into_iter()
        .chain(garbage.map(Failure::Garbage))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fails_in_any_way_is_failed_over() {
    let chain = populated(Chain::builder()).await;
    let good = chain.add_node().unwrap();
    let expected = asking([good.url()]).metagraph(NETUID).await.unwrap();
    for failure in failures() {
        // From the start, and in use.
        for connected in [false, true] {
            let ours = impatient([chain.url(), good.url()]);
            if connected {
                ours.metagraph(NETUID).await.unwrap();
                assert_eq!(ours.status().endpoint, Some(chain.url()));
            }
            chain.fail(failure.clone()).await.unwrap();
            let read = tokio::time::timeout(AMPLE, ours.metagraph(NETUID)).await.unwrap();
            assert_eq!(read.as_ref(), Ok(&expected), "{failure:?}, connected: {connected}");
            let status = ours.status();
            assert_eq!(status.failures_in_a_row, 0);
            // What the runtime answered is too long then, and storage, which is not, makes up for it.
            if failure != Failure::Garbage(Garbage::Trailing) {
                assert_eq!(status.endpoint, Some(good.url()), "{failure:?}, connected: {connected}");
                let error = status.last_error.unwrap().to_string();
                assert!(error.len() < 400 && !error.contains('\u{1b}'), "{error}");
            }
            chain.heal().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_is_failed_over_by_chain_head_too() {
    let chain = populated(Chain::builder()).await;
    let good = chain.add_node().unwrap();
    for failure in [Failure::Silent, Failure::Disconnect, Failure::Garbage(Garbage::WrongType)] {
        let mut config = config([chain.url(), good.url()]);
        config.backend = Backend::ChainHead;
        config.call_timeout = SHORT;
        config.operation_timeout = 2 * SHORT;
        let ours = Ours::new(config).unwrap();
        let expected = ours.metagraph(NETUID).await.unwrap();
        chain.node().fail_only(&["chainHead_v1_call"], failure.clone());
        assert_eq!(ours.metagraph(NETUID).await, Ok(expected), "{failure:?}");
        assert_eq!(ours.status().endpoint, Some(good.url()));
        chain.heal().await.unwrap();
    }
}

#[tokio::test]
async fn when_every_node_fails_each_is_named_and_each_is_asked_once() {
    let chain = populated(Chain::builder()).await;
    let second = chain.add_node().unwrap();
    let ours = impatient([chain.url(), second.url()]);
    chain.node().fail(Failure::HangUp).await.unwrap();
    second.fail(Failure::Error { code: 1, message: "go away".into() }).await.unwrap();
    let Err(ChainError::NoNode(failures)) = ours.metagraph(NETUID).await else { panic!("somebody answered") };
    let endpoints: Vec<_> = failures.iter().map(|failure| failure.endpoint.clone()).collect();
    assert_eq!(endpoints, [chain.url(), second.url()]);
    assert!(matches!(failures[0].error, NodeError::Unreachable { .. }), "{failures:?}");
    assert!(
        matches!(&failures[1].error, NodeError::Refused { reason, .. } if reason == "go away"),
        "{failures:?}"
    );
    assert_eq!(ours.status().failures_in_a_row, 2);
    assert_eq!(ours.status().endpoint, None);
    second.heal().await.unwrap();
    assert!(ours.metagraph(NETUID).await.is_ok());
    assert_eq!(ours.status().endpoint, Some(second.url()));
}

#[tokio::test]
async fn a_node_that_restarts_is_connected_anew() {
    let chain = populated(Chain::builder()).await;
    let ours = impatient([chain.url()]);
    ours.metagraph(NETUID).await.unwrap();
    chain.node().stop().await.unwrap();
    assert!(matches!(ours.metagraph(NETUID).await, Err(ChainError::NoNode(_))));
    chain.node().restart().await.unwrap();
    assert!(ours.metagraph(NETUID).await.is_ok());
    // A connection that broke while nobody looked costs nobody an error.
    chain.node().drop_connections();
    assert!(ours.metagraph(NETUID).await.is_ok());
}

#[tokio::test]
async fn a_silent_node_costs_no_more_than_its_time() {
    let chain = populated(Chain::builder()).await;
    let ours = impatient([chain.url()]);
    ours.metagraph(NETUID).await.unwrap();
    chain.fail(Failure::Silent).await.unwrap();
    let began = Instant::now();
    let Err(ChainError::NoNode(failures)) = ours.metagraph(NETUID).await else { panic!("it answered") };
    // Once over the connection that was open, and once over a new one.
    assert!(began.elapsed() >= 2 * SHORT && began.elapsed() < 4 * SHORT, "{:?}", began.elapsed());
    let timed_out = |failure: &EndpointFailure| matches!(failure.error, NodeError::TimedOut { .. });
    assert!(failures.len() == 2 && failures.iter().all(timed_out), "{failures:?}");
}

#[tokio::test]
async fn everyone_shares_one_connection_however_many_ask_at_once() {
    let chain = populated(Chain::builder()).await;
    let ours = asking([chain.url()]);
    let asked: Vec<_> = (0..16)
        .map(|_| {
            let ours = ours.clone();
            tokio::spawn(async move { ours.metagraph(NETUID).await })
        })
        .collect();
    for asked in asked {
        assert!(asked.await.unwrap().is_ok());
    }
    assert_eq!(chain.node().connections(), 1);
    assert_eq!(chain.requests().count("rpc_methods"), 1);
}

#[tokio::test]
async fn an_attempt_outlives_whoever_asked_for_it() {
    let chain = populated(Chain::builder()).await;
    let ours = asking([chain.url()]);
    {
        let mut asked = Box::pin(ours.metagraph(NETUID));
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx))).await.is_pending()
        );
    }
    assert!(ours.metagraph(NETUID).await.is_ok());
    assert_eq!(chain.requests().count("rpc_methods"), 1);
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused() {
    let chain = populated(Chain::builder()).await;
    let other = populated(Chain::builder().spec_version(366)).await;
    assert_ne!(chain.genesis_hash(), other.genesis_hash());
    let ours = impatient([chain.url(), other.url()]);
    ours.metagraph(NETUID).await.unwrap();
    chain.node().stop().await.unwrap();
    let Err(ChainError::NoNode(failures)) = ours.metagraph(NETUID).await else {
        panic!("the other chain was asked")
    };
    assert!(matches!(failures.last().unwrap().error, NodeError::OtherChain { .. }), "{failures:?}");
    chain.node().restart().await.unwrap();
    assert!(ours.metagraph(NETUID).await.is_ok());
}

#[tokio::test]
async fn a_node_that_only_says_which_chain_it_belongs_to_does_not_shut_out_the_others() {
    let chain = populated(Chain::builder()).await;
    let other = populated(Chain::builder().spec_version(366)).await;
    other.node().fail_only(&["state_call"], Failure::Error { code: 1, message: "no".into() });
    let ours = impatient([other.url(), chain.url()]);
    assert!(ours.metagraph(NETUID).await.is_ok());
    assert_eq!(ours.status().genesis, Some(chain.genesis_hash()));
}

#[tokio::test]
async fn settings_are_checked_before_anything_is_connected() {
    let mut none = config(["ws://127.0.0.1:1"]);
    none.endpoints.clear();
    assert!(matches!(Ours::new(none), Err(ChainError::Network(_))));
    let mut zero = config(["ws://127.0.0.1:1"]);
    zero.call_timeout = Duration::ZERO;
    assert!(matches!(Ours::new(zero), Err(ChainError::Setting { setting: "call_timeout", .. })));
    let mut long = config(["ws://127.0.0.1:1"]);
    long.operation_timeout = Duration::MAX;
    assert!(matches!(Ours::new(long), Err(ChainError::Setting { setting: "operation_timeout", .. })));
}

#[test]
fn a_chain_outlives_the_runtime_it_was_used_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let of_node = tokio::runtime::Runtime::new().unwrap();
    let chain = of_node.block_on(populated(Chain::builder()));
    let ours = asking([chain.url()]);
    for _ in 0..2 {
        assert!(runtime().block_on(ours.metagraph(NETUID)).is_ok());
    }
    // A runtime that goes while a connection is being made.
    chain.node().drop_connections();
    runtime().block_on(async {
        let mut asked = Box::pin(ours.metagraph(NETUID));
        std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx))).await.is_pending()
    });
    let read = runtime().block_on(ours.metagraph(NETUID));
    assert!(matches!(read, Ok(_) | Err(ChainError::ShuttingDown)), "{read:?}");
    assert!(runtime().block_on(ours.metagraph(NETUID)).is_ok());
}
