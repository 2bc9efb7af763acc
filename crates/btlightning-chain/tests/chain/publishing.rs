//! What a miner says on the chain: where it is, and which TLS key it holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use btlightning_chain::chain::{Backend, Chain as Ours};
use btlightning_chain::error::ChainError;
use btlightning_chain::publish::{
    Axon, AxonError, HotkeySigner, PublishError, Published, Publisher, TLS_KEY_PIN_ALGORITHM,
};
use btlightning_proto::identity::{Hotkey, Keypair, TlsKeyPin};
use btlightning_testkit::chain::{Call, Certificate, Chain, ChainBuilder, Neuron, Outcome, RuntimeOptions};
use btlightning_testkit::keys::seed;

use crate::subnet::{AMPLE, NETUID, account, asking, asking_by, config};

const SUBMIT: &str = "author_submitAndWatchExtrinsic";
const BOTH: [Backend; 2] = [Backend::Legacy, Backend::ChainHead];

fn key(name: &str) -> Keypair {
    Keypair::from_seed(seed(name))
}

fn hotkey(name: &str) -> Hotkey {
    key(name).hotkey()
}

fn signer(name: &str) -> HotkeySigner {
    let key = key(name);
    HotkeySigner::new(key.hotkey(), move |payload| Ok(key.sign(payload).to_vec()))
}

fn publisher(chain: &Ours) -> Publisher {
    Publisher::new(chain, NETUID, signer("miner")).inclusion_timeout(AMPLE)
}

fn axon(address: &str) -> Axon {
    let address: SocketAddr = address.parse().unwrap();
    Axon::new(address.ip(), address.port())
}

/// A subnet with two miners that have published nothing.
async fn subnet(builder: ChainBuilder) -> Chain {
    let chain = builder.start().await.unwrap();
    chain.update(|state| {
        let subnet = state.add_subnet(NETUID);
        for name in ["miner", "other"] {
            subnet.register(Neuron::new(*hotkey(name).as_bytes(), account("owner")));
        }
    });
    chain
}

fn neuron(chain: &Chain, name: &str) -> Neuron {
    let mut state = chain.state();
    state.subnet(NETUID).by_hotkey_mut(hotkey(name).as_bytes()).unwrap().clone()
}

fn announced(chain: &Chain) -> Option<SocketAddr> {
    neuron(chain, "miner").axon.and_then(|axon| axon.address())
}

fn outcomes(chain: &Chain) -> Vec<Outcome> {
    chain.extrinsics().into_iter().map(|submission| submission.outcome).collect()
}

fn block_of(published: Result<Published, PublishError>) -> u64 {
    match published.unwrap() {
        Published::Included { block_number, .. } => block_number,
        Published::Unchanged => panic!("nothing was published"),
    }
}

#[tokio::test]
async fn an_axon_is_announced_once() {
    for backend in BOTH {
        for address in ["8.8.8.8:8443", "[2606:4700::1111]:8443", "10.0.0.1:1"] {
            let chain = subnet(Chain::builder()).await;
            let ours = asking_by(backend, chain.url());
            let publisher = publisher(&ours);
            assert_eq!(publisher.published().await, Ok((None, None)));

            let block = block_of(publisher.publish(axon(address)).await);
            assert_eq!(outcomes(&chain), [Outcome::Succeeded { block }]);
            assert_eq!(announced(&chain), Some(address.parse().unwrap()));
            let on_chain = neuron(&chain, "miner").axon.unwrap();
            assert_eq!((on_chain.block, on_chain.version, on_chain.protocol), (block, 1, 4));

            assert_eq!(publisher.publish(axon(address)).await, Ok(Published::Unchanged));
            let newer = Axon { version: 2, ..axon(address) };
            assert_eq!(publisher.publish(newer).await, Ok(Published::Unchanged));
            assert_eq!(publisher.published().await, Ok((Some(axon(address)), None)));
            assert_eq!(chain.extrinsics().len(), 1, "{backend:?}");
        }
    }
}

#[tokio::test]
async fn every_kind_of_runtime_takes_it() {
    let kinds: [fn(&mut RuntimeOptions); 3] = [
        |runtime| runtime.metadata_versions = vec![16],
        |runtime| runtime.metadata_versions = vec![15],
        RuntimeOptions::only_legacy_metadata,
    ];
    for change in kinds {
        let chain = subnet(Chain::builder().runtime(change)).await;
        let publisher = publisher(&asking([chain.url()]));
        let pin = TlsKeyPin::from_bytes([1; 32]);
        block_of(publisher.publish_with_tls_key(axon("8.8.8.8:8443"), pin).await);
        assert_eq!(announced(&chain), Some("8.8.8.8:8443".parse().unwrap()));
    }
}

#[tokio::test]
async fn a_miner_that_moves_has_to_wait_for_the_rate_limit() {
    let chain = subnet(Chain::builder()).await;
    let publisher = publisher(&asking([chain.url()]));
    let block = block_of(publisher.publish(axon("8.8.8.8:8443")).await);

    // The next block is the first after, and fifty have to lie between.
    let moved = axon("8.8.4.4:8443");
    let about = Duration::from_secs(49 * 12);
    let too_soon = PublishError::RateLimited { blocks_left: 49, about };
    assert_eq!(publisher.publish(moved).await, Err(too_soon));
    chain.produce_blocks(48);
    let error = publisher.publish(moved).await.unwrap_err();
    assert!(matches!(error, PublishError::RateLimited { blocks_left: 1, .. }), "{error}");
    assert_eq!(chain.extrinsics().len(), 1, "nothing was submitted");

    chain.produce_block();
    assert_eq!(block_of(publisher.publish(moved).await), block + 50);
    assert_eq!(announced(&chain), Some("8.8.4.4:8443".parse().unwrap()));
}

#[tokio::test]
async fn who_may_wait_for_the_rate_limit_does() {
    for backend in BOTH {
        let chain = subnet(Chain::builder()).await;
        let ours = asking_by(backend, chain.url());
        let first = block_of(publisher(&ours).publish(axon("8.8.8.8:8443")).await);
        let waiting = tokio::spawn({
            let publisher = publisher(&ours).wait_for_rate_limit(AMPLE);
            async move { publisher.publish(axon("8.8.4.4:8443")).await }
        });
        // Blocks come one after the other, and not before the waiting task was able to look at them.
        while chain.block_number() < first + 49 {
            chain.produce_block();
            tokio::task::yield_now().await;
        }
        let published = tokio::time::timeout(AMPLE, waiting).await.unwrap().unwrap();
        assert_eq!(block_of(published), first + 50, "{backend:?}");
    }
}

#[tokio::test]
async fn who_may_wait_only_so_long_is_told() {
    let chain = subnet(Chain::builder()).await;
    let ours = asking([chain.url()]);
    block_of(publisher(&ours).publish(axon("8.8.8.8:8443")).await);
    let publisher = publisher(&ours).wait_for_rate_limit(Duration::from_millis(50));
    let error = publisher.publish(axon("8.8.4.4:8443")).await.unwrap_err();
    assert!(matches!(error, PublishError::RateLimited { blocks_left: 49, .. }), "{error}");
}

#[tokio::test]
async fn an_axon_is_taken_down_and_comes_back() {
    let chain = subnet(Chain::builder()).await;
    chain.update(|state| state.subnet(NETUID).hyperparameters.serving_rate_limit = 0);
    let publisher = publisher(&asking([chain.url()]));
    assert_eq!(publisher.reset().await, Ok(Published::Unchanged), "there is none");

    block_of(publisher.publish(axon("8.8.8.8:8443")).await);
    block_of(publisher.reset().await);
    let on_chain = neuron(&chain, "miner").axon.unwrap();
    assert_eq!((on_chain.ip, on_chain.port, on_chain.ip_type, on_chain.protocol), (0, 1, 4, 4));
    assert_eq!(publisher.reset().await, Ok(Published::Unchanged));
    block_of(publisher.publish(axon("8.8.8.8:8443")).await);
    assert_eq!(chain.extrinsics().len(), 3);
}

#[tokio::test]
async fn what_the_chain_would_refuse_is_not_signed() {
    let chain = subnet(Chain::builder()).await;
    let ours = asking([chain.url()]);
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = |name: &'static str| {
        let asked = asked.clone();
        HotkeySigner::new(hotkey(name), move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            Err("nobody should ask".to_owned())
        })
    };
    let publisher = Publisher::new(&ours, NETUID, counting("miner"));
    for address in ["127.0.0.1:8443", "[::1]:8443", "255.255.255.255:8443", "8.8.8.8:0"] {
        let error = publisher.publish(axon(address)).await.unwrap_err();
        assert!(matches!(error, PublishError::Axon(AxonError::Address(_) | AxonError::Port)), "{error}");
    }
    let stranger = Publisher::new(&ours, NETUID, counting("stranger"));
    let error = stranger.publish(axon("8.8.8.8:8443")).await.unwrap_err();
    assert_eq!(error, PublishError::NotRegistered { netuid: NETUID, hotkey: hotkey("stranger") });
    assert_eq!(asked.load(Ordering::SeqCst), 0);

    let error = publisher.publish(axon("8.8.8.8:8443")).await.unwrap_err();
    assert_eq!(error, PublishError::Signer { reason: "nobody should ask".to_owned() });
    assert_eq!(chain.extrinsics(), []);
}

#[tokio::test]
async fn a_signature_of_another_key_is_not_submitted() {
    let chain = subnet(Chain::builder()).await;
    let other = key("other");
    let signer = HotkeySigner::new(hotkey("miner"), move |payload| Ok(other.sign(payload).to_vec()));
    let publisher = Publisher::new(&asking([chain.url()]), NETUID, signer);
    let error = publisher.publish(axon("8.8.8.8:8443")).await.unwrap_err();
    assert!(matches!(error, PublishError::Signer { .. }), "{error}");
    assert_eq!(chain.extrinsics(), []);
}

#[tokio::test]
async fn the_chains_own_word_for_a_failure_is_told() {
    for backend in BOTH {
        let chain = subnet(Chain::builder().hold_extrinsics()).await;
        let ours = asking_by(backend, chain.url());
        let publishing = tokio::spawn({
            let publisher = publisher(&ours);
            let pin = TlsKeyPin::from_bytes([1; 32]);
            async move { publisher.publish_with_tls_key(axon("8.8.8.8:8443"), pin).await }
        });
        submitted(&chain, backend, 1).await;
        // Deregistered in the block before.
        chain.update(|state| {
            let subnet = state.subnet(NETUID);
            let uid = subnet.uid(hotkey("miner").as_bytes()).unwrap();
            subnet.replace(uid, Neuron::new(account("newcomer"), account("owner")));
        });
        chain.produce_block();
        let error = tokio::time::timeout(AMPLE, publishing).await.unwrap().unwrap().unwrap_err();
        let PublishError::Failed { error } = &error else { panic!("{backend:?}: {error}") };
        assert!(error.contains("HotKeyNotRegisteredInNetwork"), "{error}");
    }
}

#[tokio::test]
async fn of_two_at_once_one_is_told_so() {
    let chain = subnet(Chain::builder().hold_extrinsics()).await;
    let ours = asking([chain.url()]);
    let first = tokio::spawn({
        let publisher = publisher(&ours);
        async move { publisher.publish(axon("8.8.8.8:8443")).await }
    });
    submitted(&chain, Backend::Legacy, 1).await;
    let error = publisher(&ours).publish(axon("8.8.4.4:8443")).await.unwrap_err();
    let PublishError::Rejected { reason } = &error else { panic!("{error}") };
    assert!(reason.to_lowercase().contains("priority"), "{reason}");

    chain.produce_block();
    block_of(tokio::time::timeout(AMPLE, first).await.unwrap().unwrap());
    assert_eq!(announced(&chain), Some("8.8.8.8:8443".parse().unwrap()));
}

/// Waits until the chain was sent so many extrinsics.
async fn submitted(chain: &Chain, backend: Backend, count: u64) {
    let method = match backend {
        Backend::ChainHead => "transactionWatch_v1_submitAndWatch",
        _ => SUBMIT,
    };
    chain.wait_for_request(method, count).await;
}

#[tokio::test]
async fn a_node_that_is_lost_before_the_block_is_failed_over() {
    for backend in BOTH {
        for is_block_first in [false, true] {
            let chain = subnet(Chain::builder().hold_extrinsics()).await;
            let second = chain.add_node().unwrap();
            let mut config = config([chain.url(), second.url()]);
            config.backend = backend;
            let ours = Ours::new(config).unwrap();
            let publishing = tokio::spawn({
                let publisher = publisher(&ours);
                async move { publisher.publish(axon("8.8.8.8:8443")).await }
            });
            submitted(&chain, backend, 1).await;
            chain.node().stop().await.unwrap();
            if !is_block_first {
                // The pool of the second node has the extrinsic from the first.
                submitted(&chain, backend, 2).await;
            }
            let block = chain.produce_block();
            let published = tokio::time::timeout(AMPLE, publishing).await.unwrap().unwrap();
            assert_eq!(block_of(published), block, "{backend:?} {is_block_first}");
            assert_eq!(outcomes(&chain), [Outcome::Succeeded { block }], "one extrinsic, once");
        }
    }
}

#[tokio::test]
async fn the_only_node_may_restart_before_the_block() {
    let chain = subnet(Chain::builder().hold_extrinsics()).await;
    let ours = asking([chain.url()]);
    let publishing = tokio::spawn({
        let publisher = publisher(&ours);
        async move { publisher.publish(axon("8.8.8.8:8443")).await }
    });
    submitted(&chain, Backend::Legacy, 1).await;
    chain.node().stop().await.unwrap();
    let block = chain.produce_block();
    chain.node().restart().await.unwrap();
    let published = tokio::time::timeout(AMPLE, publishing).await.unwrap().unwrap();
    assert_eq!(block_of(published), block);
    assert_eq!(chain.extrinsics().len(), 1);
}

#[tokio::test]
async fn what_is_in_no_block_in_time_is_said_to_be_so() {
    let chain = subnet(Chain::builder().hold_extrinsics()).await;
    let ours = asking([chain.url()]);
    let after = Duration::from_millis(300);
    let error = publisher(&ours).inclusion_timeout(after).publish(axon("8.8.8.8:8443")).await.unwrap_err();
    assert_eq!(error, PublishError::NotIncluded { after, last: None });

    // It came later, and the next call finds it.
    let block = chain.produce_block();
    assert_eq!(outcomes(&chain), [Outcome::Succeeded { block }]);
    assert_eq!(publisher(&ours).publish(axon("8.8.8.8:8443")).await, Ok(Published::Unchanged));
}

#[tokio::test]
async fn nothing_is_submitted_where_no_node_answers() {
    let chain = subnet(Chain::builder()).await;
    chain.node().stop().await.unwrap();
    let error = publisher(&asking([chain.url()])).publish(axon("8.8.8.8:8443")).await.unwrap_err();
    assert!(matches!(error, PublishError::Chain(ChainError::NoNode(_))), "{error}");
}

#[tokio::test]
async fn who_wants_a_final_block_waits_for_it() {
    for backend in BOTH {
        let chain = subnet(Chain::builder().finality_lag(2)).await;
        let ours = asking_by(backend, chain.url());
        let publishing = tokio::spawn({
            let publisher = publisher(&ours).finalized(true);
            async move { publisher.publish(axon("8.8.8.8:8443")).await }
        });
        submitted(&chain, backend, 1).await;
        let published = tokio::time::timeout(AMPLE, async {
            while !publishing.is_finished() {
                chain.produce_block();
                // sleeps: blocks come as on a chain, one after the other, until the last one that is needed
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            publishing.await.unwrap()
        });
        let block = block_of(published.await.unwrap());
        assert!(chain.finalized_number() >= block, "{backend:?}");
    }
}

#[tokio::test]
async fn a_tls_key_is_published_with_the_axon_and_read_back_as_a_pin() {
    for backend in BOTH {
        let chain = subnet(Chain::builder()).await;
        chain.update(|state| {
            let subnet = state.subnet(NETUID);
            subnet.hyperparameters.serving_rate_limit = 0;
            // Somebody else's idea of a certificate.
            let foreign = Certificate { algorithm: 1, public_key: vec![5; 32] };
            subnet.by_hotkey_mut(hotkey("other").as_bytes()).unwrap().certificate = Some(foreign);
        });
        let ours = asking_by(backend, chain.url());
        let publisher = publisher(&ours);
        assert_eq!(publisher.clear_tls_key().await, Ok(Published::Unchanged));

        let (place, pin) = (axon("8.8.8.8:8443"), TlsKeyPin::of_public_key(b"key"));
        block_of(publisher.publish_with_tls_key(place, pin).await);
        let expected = Certificate { algorithm: TLS_KEY_PIN_ALGORITHM, public_key: pin.as_bytes().to_vec() };
        assert_eq!(neuron(&chain, "miner").certificate, Some(expected));
        assert_eq!(announced(&chain), Some("8.8.8.8:8443".parse().unwrap()));
        assert_eq!(publisher.published().await, Ok((Some(place), Some(pin))));
        let pins = ours.tls_key_pins(NETUID).await.unwrap();
        assert_eq!(pins, [(hotkey("miner"), pin)].into(), "{backend:?}: the other's is not a pin");
        assert_eq!(ours.tls_key_pins(NETUID + 1).await, Ok([].into()));

        // Nothing new, then only the address, then only the key.
        assert_eq!(publisher.publish_with_tls_key(place, pin).await, Ok(Published::Unchanged));
        let moved = axon("8.8.4.4:8443");
        block_of(publisher.publish_with_tls_key(moved, pin).await);
        block_of(publisher.publish(place).await);
        assert_eq!(publisher.published().await, Ok((Some(place), Some(pin))), "the key stays");
        let next = TlsKeyPin::of_public_key(b"next key");
        block_of(publisher.publish_with_tls_key(place, next).await);

        block_of(publisher.clear_tls_key().await);
        assert_eq!(publisher.published().await, Ok((Some(place), None)), "the axon stays");
        assert_eq!(ours.tls_key_pins(NETUID).await, Ok([].into()));
        assert_eq!(publisher.clear_tls_key().await, Ok(Published::Unchanged));
        let calls: Vec<_> = chain.extrinsics().into_iter().map(|one| one.call).collect();
        let with_key = |call: &Call| matches!(call, Call::ServeAxonTls { .. });
        assert_eq!(calls.iter().map(with_key).collect::<Vec<_>>(), [true, true, false, true, true]);
    }
}
