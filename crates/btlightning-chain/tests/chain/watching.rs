//! A metagraph that is kept in sync.

use std::time::Duration;

use btlightning_chain::error::{ChainError, NodeError};
use btlightning_chain::watch::MetagraphWatch;
use btlightning_testkit::chain::{Chain, Failure};

use crate::subnet::{AMPLE, NETUID, asking, config, miner, neuron, populated, ss58};

const OFTEN: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_watch_sees_miners_move_join_and_leave() {
    let chain = populated(Chain::builder()).await;
    let mut watch = MetagraphWatch::start(asking([chain.url()]), NETUID, OFTEN).unwrap();
    let first = watch.first(AMPLE).await.unwrap();
    assert_eq!(first.metagraph.n, 9);
    chain.update(|state| {
        let subnet = state.subnet(NETUID);
        *subnet.neuron_mut(1).unwrap() = miner("miner", "8.8.4.4:9999");
        subnet.replace(2, miner("newcomer", "1.1.1.1:1"));
        subnet.register(neuron("last"));
    });
    let seen = loop {
        let snapshot = tokio::time::timeout(AMPLE, watch.changed()).await.unwrap().unwrap();
        if snapshot.metagraph.block > first.metagraph.block {
            break snapshot;
        }
    };
    let metagraph = &seen.metagraph;
    assert_eq!(metagraph.n, 10);
    assert_eq!(metagraph.neurons[1].axon_port, 9999);
    assert_eq!(metagraph.get_uid_by_hotkey(&ss58("newcomer")), Some(2));
    assert_eq!(metagraph.get_uid_by_hotkey(&ss58("inactive")), None);
    // What was given out before is as it was.
    assert_eq!(first.metagraph.n, 9);
}

#[tokio::test]
async fn while_no_node_answers_the_last_metagraph_stays_and_its_age_is_visible() {
    let chain = populated(Chain::builder()).await;
    let watch = MetagraphWatch::start(asking([chain.url()]), NETUID, OFTEN).unwrap();
    let before = watch.first(AMPLE).await.unwrap();
    chain.node().stop().await.unwrap();
    let error = loop {
        if let Err(error) = watch.refreshed(AMPLE).await {
            break error;
        }
    };
    assert!(matches!(error, ChainError::NoNode(_)), "{error}");
    let status = watch.status();
    assert!(status.failures_in_a_row > 0);
    assert!(matches!(status.last_error, Some(ChainError::NoNode(_))));
    assert_eq!((status.block, status.neurons, status.endpoint), (Some(before.metagraph.block), 9, None));
    let younger = status.age.unwrap();
    assert!(watch.refreshed(AMPLE).await.is_err());
    assert!(watch.status().age.unwrap() > younger);
    assert_eq!(watch.latest().unwrap().metagraph, before.metagraph);
    // It comes back by itself.
    chain.update(|state| {
        state.subnet(NETUID).register(neuron("last"));
    });
    chain.node().restart().await.unwrap();
    let mut watch = watch;
    let after = loop {
        let snapshot = tokio::time::timeout(AMPLE, watch.changed()).await.unwrap().unwrap();
        if snapshot.metagraph.n == 10 {
            break snapshot;
        }
    };
    assert!(after.age() < status.age.unwrap() + AMPLE);
    assert_eq!(watch.refreshed(AMPLE).await.map(|snapshot| snapshot.metagraph.n), Ok(10));
    assert_eq!(watch.status().failures_in_a_row, 0);
}

#[tokio::test]
async fn a_sync_that_is_asked_for_is_one_that_begins_after() {
    let chain = populated(Chain::builder()).await;
    let watch = MetagraphWatch::start(asking([chain.url()]), NETUID, SELDOM).unwrap();
    watch.first(AMPLE).await.unwrap();
    for more in 0..3u16 {
        chain.update(|state| {
            state.subnet(NETUID).register(neuron(&format!("more-{more}")));
        });
        assert_eq!(watch.refreshed(AMPLE).await.unwrap().metagraph.n, 10 + more);
    }
}

#[tokio::test]
async fn before_the_first_sync_the_reason_for_waiting_is_known() {
    let chain = populated(Chain::builder()).await;
    chain.fail(Failure::HangUp).await.unwrap();
    let watch = MetagraphWatch::start(asking([chain.url()]), NETUID, SELDOM).unwrap();
    assert!(matches!(watch.refreshed(AMPLE).await, Err(ChainError::NoNode(_))));
    assert!(matches!(watch.first(Duration::from_millis(1)).await, Err(ChainError::NoNode(_))));
    assert_eq!(watch.status().age, None);
    chain.heal().await.unwrap();
    // The retry comes by itself, long before the interval is over.
    assert_eq!(watch.first(AMPLE).await.unwrap().metagraph.n, 9);
}

#[tokio::test]
async fn a_node_that_is_behind_does_not_turn_time_back() {
    let ahead = populated(Chain::builder()).await;
    let behind = populated(Chain::builder()).await;
    assert_eq!(ahead.genesis_hash(), behind.genesis_hash());
    ahead.produce_blocks(5);
    let watch = MetagraphWatch::start(asking([ahead.url(), behind.url()]), NETUID, SELDOM).unwrap();
    let read = watch.first(AMPLE).await.unwrap().metagraph.block;
    ahead.node().stop().await.unwrap();
    let Err(ChainError::NoNode(failures)) = watch.refreshed(AMPLE).await else { panic!("time went back") };
    let last = &failures.last().unwrap().error;
    assert_eq!(*last, NodeError::Behind { block: behind.finalized_number(), seen: read });
    behind.produce_blocks(5);
    assert_eq!(watch.refreshed(AMPLE).await.unwrap().metagraph.block, behind.finalized_number());
}

#[tokio::test]
async fn the_task_ends_with_the_last_clone() {
    let chain = populated(Chain::builder()).await;
    let watch = MetagraphWatch::start(asking([chain.url()]), NETUID, OFTEN).unwrap();
    let clone = watch.clone();
    drop(watch);
    assert!(clone.refreshed(AMPLE).await.is_ok());
    assert_eq!(chain.node().connections(), 1);
    drop(clone);
    // The connection belongs to the chain, which only the watch held.
    tokio::time::timeout(AMPLE, async {
        while chain.node().connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_interval_has_bounds() {
    let ours = || btlightning_chain::chain::Chain::new(config(["ws://127.0.0.1:1"])).unwrap();
    for interval in [Duration::ZERO, Duration::MAX] {
        let refused = MetagraphWatch::start(ours(), NETUID, interval);
        assert!(matches!(refused, Err(ChainError::Setting { setting: "sync_interval", .. })));
    }
}

#[test]
fn outside_of_a_runtime_nothing_starts() {
    let ours = btlightning_chain::chain::Chain::new(config(["ws://127.0.0.1:1"])).unwrap();
    assert!(matches!(MetagraphWatch::start(ours, NETUID, SELDOM), Err(ChainError::ShuttingDown)));
}
