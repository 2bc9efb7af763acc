//! Runtimes of other times: older metadata, missing calls, wrapped answers, upgrades.

use btlightning_chain::chain::Backend;
use btlightning_chain::error::ChainError;
use btlightning_testkit::chain::{Chain, RuntimeOptions};

use crate::subnet::{AMPLE, NETUID, asking, asking_by, populated, read_at, summary};

type Change = fn(&mut RuntimeOptions);

#[tokio::test]
async fn every_kind_of_runtime_is_read_alike() {
    let today = populated(Chain::builder()).await;
    let expected = summary(&asking([today.url()]).metagraph(NETUID).await.unwrap());
    let kinds: [(&str, Change); 7] = [
        ("V16", |runtime| runtime.metadata_versions = vec![16]),
        ("V15", |runtime| runtime.metadata_versions = vec![15]),
        ("V14", |runtime| runtime.metadata_versions = vec![14]),
        ("V14 and no choice", RuntimeOptions::only_legacy_metadata),
        ("wrapped", |runtime| runtime.wrap_answers_in_vec = true),
        ("wrapped, and V14", |runtime| {
            runtime.wrap_answers_in_vec = true;
            runtime.only_legacy_metadata();
        }),
        ("no call, and V14", |runtime| {
            runtime.remove("NeuronInfoRuntimeApi_get_neurons_lite");
            runtime.only_legacy_metadata();
        }),
    ];
    for (kind, change) in kinds {
        let chain = populated(Chain::builder().runtime(change)).await;
        for backend in [Backend::Legacy, Backend::ChainHead] {
            let read = asking_by(backend, chain.url()).metagraph(NETUID).await;
            assert_eq!(read.as_ref().map(summary), Ok(expected.clone()), "{kind}, {backend:?}");
        }
    }
}

#[tokio::test]
async fn metadata_is_fetched_once_a_runtime_version() {
    let chain = populated(Chain::builder()).await;
    let ours = asking([chain.url()]);
    let fetched = || chain.requests().count("Metadata_metadata_at_version");
    ours.metagraph(NETUID).await.unwrap();
    ours.metagraph(NETUID).await.unwrap();
    chain.node().drop_connections();
    ours.metagraph(NETUID).await.unwrap();
    assert_eq!(fetched(), 1);
    chain.upgrade_runtime(400);
    ours.metagraph(NETUID).await.unwrap();
    assert_eq!(fetched(), 2);
}

#[tokio::test]
async fn metadata_of_a_few_runtime_versions_is_kept_and_no_more() {
    let chain = populated(Chain::builder()).await;
    let ours = asking([chain.url()]);
    for spec_version in 400..409 {
        chain.upgrade_runtime(spec_version);
        ours.metagraph(NETUID).await.unwrap();
    }
    // It goes with the connection that it was kept for, after every fifth.
    assert_eq!(chain.requests().count("rpc_methods"), 2);
    assert_eq!(chain.node().connections(), 1);
    assert_eq!(ours.status().last_error, None);
}

#[tokio::test]
async fn metadata_is_bounded_whatever_is_asked_and_comes_of_it() {
    // What is asked once a connection.
    let first = [(Backend::Legacy, "chain_getBlockHash"), (Backend::ChainHead, "chainSpec_v1_genesisHash")];
    for (backend, first) in first {
        let chain = populated(Chain::builder()).await;
        let ours = asking_by(backend, chain.url());
        for spec_version in 400..409 {
            chain.upgrade_runtime(spec_version);
            if spec_version % 2 == 0 {
                ours.tls_key_pins(NETUID).await.unwrap();
                continue;
            }
            let failing = ours.run(|client| async move {
                client.at_current_block().await.unwrap();
                Err::<(), _>(ChainError::NoSuchSubnet { netuid: NETUID })
            });
            assert_eq!(failing.await, Err(ChainError::NoSuchSubnet { netuid: NETUID }));
        }
        assert_eq!(chain.requests().count(first), 2, "{backend:?}");
    }
}

#[tokio::test]
async fn a_node_that_names_one_version_after_another_is_not_believed() {
    for backend in [Backend::Legacy, Backend::ChainHead] {
        let chain = &populated(Chain::builder()).await;
        let ours = asking_by(backend, chain.url());
        // One operation, in which the node is asked again and again.
        let met = ours.run(|client| async move {
            for spec_version in 400..500 {
                chain.upgrade_runtime(spec_version);
                loop {
                    match client.at_current_block().await {
                        Ok(at) if at.spec_version() == spec_version => break,
                        // Followers hear of it a little later.
                        Ok(_) => tokio::task::yield_now().await,
                        Err(error) => return Ok(error.to_string()),
                    }
                }
            }
            Ok("all were believed".to_owned())
        });
        let error = tokio::time::timeout(AMPLE, met).await.unwrap().unwrap();
        assert!(error.contains("one runtime version after another"), "{backend:?}: {error}");
        assert!(chain.requests().count("Metadata_metadata_at_version") <= 8);
        // And then all is well again.
        assert!(ours.metagraph(NETUID).await.is_ok(), "{backend:?}");
    }
}

#[tokio::test]
async fn an_upgrade_is_taken_up_while_connected() {
    let chain = populated(Chain::builder()).await;
    for backend in [Backend::Legacy, Backend::ChainHead] {
        chain.runtime(|runtime| *runtime = RuntimeOptions::default());
        let ours = asking_by(backend, chain.url());
        let before = ours.metagraph(NETUID).await.unwrap();
        // From a runtime of today to one whose answers are wrapped, which only its metadata says.
        chain.runtime(|runtime| {
            runtime.spec_version = 366;
            runtime.wrap_answers_in_vec = true;
        });
        let after = read_at(&ours, chain.finalized_number()).await;
        assert_eq!(summary(&after), summary(&before), "{backend:?}");
        assert!(after.block > before.block);
        assert_eq!(ours.status().failures_in_a_row, 0);
    }
}

#[tokio::test]
async fn a_runtime_without_subnets_is_named_as_such() {
    let chain = populated(Chain::builder()).await;
    let ours = asking([chain.url()]);
    // A pallet that has gone looks like one whose values are none.
    chain.runtime(|runtime| runtime.remove("NeuronInfoRuntimeApi"));
    let key = chain.storage_key("SubtensorModule", "SubnetworkN", &[&NETUID.to_le_bytes()]);
    chain.update(|state| state.set_storage(key.clone(), Some(vec![0xff; 9])));
    let error = ours.metagraph(NETUID).await.unwrap_err();
    assert!(matches!(&error, ChainError::NoNode(failures) if failures.len() == 1), "{error}");
    assert!(error.to_string().contains("for the neurons of a subnet"), "{error}");
}
