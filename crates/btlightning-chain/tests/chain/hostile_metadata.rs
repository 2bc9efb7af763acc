//! Metadata that is made to bring down whoever reads by it.

use btlightning_chain::error::{ChainError, NodeError};
use btlightning_chain::publish::{Axon, HotkeySigner, PublishError, Publisher};
use btlightning_proto::identity::Keypair;
use btlightning_testkit::chain::{Chain, Hostility, Neuron, RuntimeOptions};
use btlightning_testkit::keys::seed;

use crate::subnet::{AMPLE, NETUID, account, asking};

/// A chain with a miner on it, and something wrong with its metadata.
async fn hostile(hostility: Hostility) -> Chain {
    let change = |runtime: &mut RuntimeOptions| runtime.hostility = Some(hostility);
    let chain = Chain::builder().runtime(change).start().await.unwrap();
    chain.update(|state| {
        let hotkey = *Keypair::from_seed(seed("miner")).hotkey().as_bytes();
        state.add_subnet(NETUID).register(Neuron::new(hotkey, account("owner")));
    });
    chain
}

fn is_garbage(error: &ChainError) -> bool {
    match error {
        ChainError::NoNode(failures) => {
            failures.iter().all(|failure| matches!(failure.error, NodeError::Garbage { .. }))
        }
        _ => false,
    }
}

#[tokio::test]
async fn keys_of_a_type_that_contains_itself_are_not_encoded() {
    let chain = hostile(Hostility::EndlessKeys("NeuronCertificates")).await;
    let ours = asking([chain.url()]);
    let error = ours.tls_key_pins(NETUID).await.unwrap_err();
    assert!(is_garbage(&error), "{error}");
    // The neurons are read all the same.
    assert_eq!(ours.metagraph(NETUID).await.unwrap().n, 1);
}

#[tokio::test]
async fn nothing_is_signed_by_metadata_that_subxt_cannot_bear() {
    for hostility in [Hostility::NoExtensions, Hostility::EndlessAddress] {
        let chain = hostile(hostility).await;
        let key = Keypair::from_seed(seed("miner"));
        let signer = HotkeySigner::new(key.hotkey(), |_| panic!("it was signed"));
        let publisher = Publisher::new(&asking([chain.url()]), NETUID, signer).inclusion_timeout(AMPLE);
        let error = publisher.publish(Axon::new([8, 8, 8, 8].into(), 8443)).await.unwrap_err();
        let PublishError::Chain(error) = error else { panic!("{hostility:?}: {error}") };
        assert!(
            is_garbage(&error) || matches!(error, ChainError::NotInRuntime { .. }),
            "{hostility:?}: {error}"
        );
    }
}
