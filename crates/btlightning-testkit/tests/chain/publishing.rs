//! subxt publishes axons.

use crate::clients::{BACKENDS, Backend, Key, NETUID, chain_of_three, soon, subxt};
use btlightning_testkit::chain::{Axon, Call, Chain, Outcome};
use subxt::{
    PolkadotConfig,
    client::OnlineClientAtBlockImpl,
    dynamic::{self, Value},
    ext::scale_value::Composite,
    transactions::{DynamicPayload, TransactionProgress},
};

/// A call's arguments by name.
type Arguments = Composite<()>;

type Progress = TransactionProgress<PolkadotConfig, OnlineClientAtBlockImpl<PolkadotConfig>>;

fn serve_axon(axon: &Axon) -> DynamicPayload<Arguments> {
    dynamic::tx("SubtensorModule", "serve_axon", Composite::Named(arguments(axon)))
}

fn serve_axon_tls(axon: &Axon, certificate: &[u8]) -> DynamicPayload<Arguments> {
    let mut arguments = arguments(axon);
    arguments.push(("certificate".to_owned(), Value::from_bytes(certificate)));
    dynamic::tx("SubtensorModule", "serve_axon_tls", Composite::Named(arguments))
}

fn arguments(axon: &Axon) -> Vec<(String, Value)> {
    [
        ("netuid", NETUID.into()),
        ("version", axon.version.into()),
        ("ip", axon.ip),
        ("port", axon.port.into()),
        ("ip_type", axon.ip_type.into()),
        ("protocol", axon.protocol.into()),
        ("placeholder1", 0),
        ("placeholder2", 0),
    ]
    .map(|(name, value)| (name.to_owned(), Value::u128(value)))
    .into()
}

async fn submit(
    chain: &Chain,
    backend: Backend,
    call: &DynamicPayload<Arguments>,
    signer: &Key,
) -> Result<Progress, String> {
    let client = subxt(&chain.url(), backend).await;
    let block = soon(client.at_current_block()).await.unwrap();
    let mut transactions = block.transactions();
    soon(transactions.sign_and_submit_then_watch_default(call, signer))
        .await
        .map_err(|error| format!("{error:?}"))
}

fn published(chain: &Chain, name: &str) -> Option<Axon> {
    chain.neuron(NETUID, &Key::named(name).account())?.axon
}

fn at(address: &str) -> Axon {
    Axon::at(address.parse().unwrap())
}

#[tokio::test]
async fn an_axon_is_published_and_the_event_says_so() {
    for backend in BACKENDS {
        let chain = chain_of_three().await;
        let key = Key::named("newcomer");
        let axon = at("[2001:db8::9]:9000");
        let progress = submit(&chain, backend, &serve_axon(&axon), &key).await.unwrap();
        let events = soon(progress.wait_for_finalized_success()).await.unwrap();
        let names: Vec<_> = events.iter().map(|event| event.unwrap().event_name().to_owned()).collect();
        assert_eq!(names, ["AxonServed", "ExtrinsicSuccess"], "{backend:?}");
        let block = chain.block_number();
        assert_eq!(published(&chain, "newcomer"), Some(Axon { block, ..axon }), "{backend:?}");
        let submission = chain.extrinsics().pop().unwrap();
        assert_eq!(submission.signer, Some(key.account()));
        assert_eq!(submission.outcome, Outcome::Succeeded { block });
        assert_eq!(submission.call, Call::ServeAxon { netuid: NETUID, axon });
    }
}

#[tokio::test]
async fn the_next_extrinsic_has_the_next_nonce() {
    let chain = chain_of_three().await;
    chain.update(|state| state.subnet(NETUID).hyperparameters.serving_rate_limit = 0);
    for port in [1, 2, 3] {
        let axon = Axon { port, ..at("203.0.113.9:1") };
        let key = Key::named("newcomer");
        let progress = submit(&chain, Backend::Legacy, &serve_axon(&axon), &key).await.unwrap();
        soon(progress.wait_for_finalized_success()).await.unwrap();
        assert_eq!(published(&chain, "newcomer").unwrap().port, port);
    }
    assert_eq!(chain.state().account(Key::named("newcomer").account()).nonce, 3);
}

#[tokio::test]
async fn an_axon_is_reset() {
    let chain = chain_of_three().await;
    let progress =
        submit(&chain, Backend::Legacy, &serve_axon(&Axon::reset()), &Key::named("miner")).await.unwrap();
    soon(progress.wait_for_finalized_success()).await.unwrap();
    let axon = published(&chain, "miner").unwrap();
    assert_eq!((axon.ip, axon.port, axon.protocol), (0, 1, 4));
}

#[tokio::test]
async fn what_breaks_the_rules_does_not_get_into_the_pool() {
    let chain = chain_of_three().await;
    let cases = [
        ("newcomer", at("127.0.0.1:8091"), "Custom error: 11"),
        ("newcomer", at("[::1]:8091"), "Custom error: 11"),
        ("newcomer", at("255.255.255.255:8091"), "Custom error: 11"),
        ("newcomer", at("203.0.113.9:0"), "Custom error: 13"),
        ("newcomer", Axon { ip_type: 5, ..at("203.0.113.9:1") }, "Custom error: 255"),
        ("stranger", at("203.0.113.9:8091"), "Custom error: 10"),
    ];
    for (name, axon, reason) in cases {
        let refused = submit(&chain, Backend::Legacy, &serve_axon(&axon), &Key::named(name)).await;
        let error = refused.err().unwrap();
        assert!(error.contains("1010") && error.contains(reason), "{axon:?}: {error}");
        let outcome = chain.extrinsics().pop().unwrap().outcome;
        assert_eq!(outcome, Outcome::Refused { reason: reason.into() });
    }
    assert_eq!(chain.block_number(), 1, "no block came of them");
}

#[tokio::test]
async fn a_second_axon_waits_for_the_rate_limit() {
    let chain = chain_of_three().await;
    let key = Key::named("newcomer");
    let serve = async |port: u16| {
        let axon = Axon { port, ..at("203.0.113.9:1") };
        submit(&chain, Backend::Legacy, &serve_axon(&axon), &key).await
    };
    soon(serve(1).await.unwrap().wait_for_finalized_success()).await.unwrap();
    // The next block is judged, which is one on.
    chain.produce_blocks(48);
    assert!(serve(2).await.err().unwrap().contains("Custom error: 12"));
    chain.produce_block();
    soon(serve(2).await.unwrap().wait_for_finalized_success()).await.unwrap();
}

#[tokio::test]
async fn a_key_is_published_and_one_that_is_too_long_is_dropped() {
    let chain = chain_of_three().await;
    chain.update(|state| state.subnet(NETUID).hyperparameters.serving_rate_limit = 0);
    let key = Key::named("newcomer");
    for (certificate, expected) in [(vec![1; 33], Some(32)), (vec![2; 65], Some(64)), (vec![3; 66], Some(64))]
    {
        let call = serve_axon_tls(&at("203.0.113.9:1"), &certificate);
        let progress = submit(&chain, Backend::Legacy, &call, &key).await.unwrap();
        soon(progress.wait_for_finalized_success()).await.unwrap();
        let published = chain.neuron(NETUID, &key.account()).unwrap().certificate;
        assert_eq!(published.map(|certificate| certificate.public_key.len()), expected);
    }
}

#[tokio::test]
async fn a_call_that_fails_in_its_block_says_which_error_it_was() {
    for backend in BACKENDS {
        let chain = chain_of_three().await;
        // The runtime checks this call only when it carries it out.
        let call = serve_axon_tls(&at("127.0.0.1:1"), &[1; 33]);
        let progress = submit(&chain, backend, &call, &Key::named("newcomer")).await.unwrap();
        let error = format!("{:?}", soon(progress.wait_for_finalized_success()).await.err().unwrap());
        assert!(error.contains("InvalidIpAddress"), "{backend:?}: {error}");
        let block = chain.block_number();
        let outcome = chain.extrinsics().pop().unwrap().outcome;
        assert_eq!(outcome, Outcome::Failed { block, error: "InvalidIpAddress".into() });
        assert_eq!(published(&chain, "newcomer"), None);
    }
}

#[tokio::test]
async fn what_costs_a_fee_needs_a_balance_and_is_switched_off_even_so() {
    let chain = chain_of_three().await;
    let call = dynamic::tx(
        "System",
        "remark",
        Composite::Named(vec![("remark".to_owned(), Value::from_bytes(b"hello"))]),
    );
    let refused = submit(&chain, Backend::Legacy, &call, &Key::named("miner")).await.err().unwrap();
    assert!(refused.contains("Inability to pay some fees"), "{refused}");
    chain.update(|state| state.account(Key::named("miner").account()).free = 1_000_000_000);
    let progress = submit(&chain, Backend::Legacy, &call, &Key::named("miner")).await.unwrap();
    let error = format!("{:?}", soon(progress.wait_for_finalized_success()).await.err().unwrap());
    assert!(error.contains("CallFiltered"), "{error}");
}
