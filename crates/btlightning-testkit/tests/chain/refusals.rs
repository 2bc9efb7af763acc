//! Extrinsics that a node must not take, put together byte by byte.

use crate::clients::{Key, NETUID, Plain, chain_of_three, hex, populate};
use btlightning_testkit::chain::{Axon, Chain, Outcome};
use parity_scale_codec::{Compact, Encode};
use serde_json::{Value, json};
use sp_crypto_hashing::blake2_256;

const SPEC_VERSION: u32 = 365;
const TRANSACTION_VERSION: u32 = 1;

/// An extrinsic that is about to be signed, and what its signature covers beside it.
struct Draft {
    call: Vec<u8>,
    era: Vec<u8>,
    nonce: u32,
    spec_version: u32,
    transaction_version: u32,
    genesis: [u8; 32],
    birth: [u8; 32],
}

impl Draft {
    fn new(chain: &Chain) -> Self {
        let genesis = chain.genesis_hash();
        Self {
            call: serve_axon(Axon::at("203.0.113.9:9000".parse().unwrap()), None),
            era: vec![0],
            nonce: 0,
            spec_version: SPEC_VERSION,
            transaction_version: TRANSACTION_VERSION,
            genesis,
            birth: genesis,
        }
    }

    /// The extrinsic, signed by `key` and said to be by `signer`.
    fn sign(&self, key: &Key, signer: &Key) -> Vec<u8> {
        let (tip, no_metadata_hash) = (Compact(0_u64), 0_u8);
        let extra = [self.era.clone(), (Compact(self.nonce), tip, no_metadata_hash).encode()].concat();
        let implicit =
            (self.spec_version, self.transaction_version, self.genesis, self.birth, None::<[u8; 32]>);
        let mut payload = [self.call.clone(), extra.clone(), implicit.encode()].concat();
        if payload.len() > 256 {
            payload = blake2_256(&payload).to_vec();
        }
        let (signed_v4, address_id, sr25519) = (0x84_u8, 0_u8, 1_u8);
        let head = (signed_v4, address_id, signer.account(), sr25519, key.sign_bytes(&payload)).encode();
        [head, extra, self.call.clone()].concat().encode()
    }

    fn signed(&self) -> Value {
        let key = Key::named("newcomer");
        json!([hex(self.sign(&key, &key))])
    }
}

fn serve_axon(axon: Axon, certificate: Option<Vec<u8>>) -> Vec<u8> {
    let arguments = Axon::encode(&axon)[size_of::<u64>()..].to_vec();
    let call = if certificate.is_some() { 40_u8 } else { 4 };
    let mut encoded = [(7_u8, call, NETUID).encode(), arguments].concat();
    if let Some(certificate) = certificate {
        encoded.extend(certificate.encode());
    }
    encoded
}

async fn refused(client: &mut Plain, params: Value) -> (i64, String) {
    let error = client.error("author_submitExtrinsic", params).await;
    (error["code"].as_i64().unwrap(), error["data"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_draft_itself_is_good() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let watch = client.call("author_submitAndWatchExtrinsic", Draft::new(&chain).signed()).await;
    assert_eq!(client.notified(&watch).await, "ready");
    assert!(client.notified(&watch).await["inBlock"].is_string());
    assert_eq!(chain.extrinsics()[0].outcome, Outcome::Succeeded { block: 2 });
}

#[tokio::test]
async fn a_signature_over_anything_else_is_refused() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let (key, other) = (Key::named("newcomer"), Key::named("miner"));
    let draft = || Draft::new(&chain);
    let good = draft().sign(&key, &key);
    // Behind the length, the kind, the address and the scheme.
    let signature_at = 2 + 1 + 33 + 1;
    let mut flipped = good.clone();
    flipped[signature_at + 40] ^= 1;
    let mut another_port = good.clone();
    let port_at = good.len() - 6;
    another_port[port_at] ^= 1;
    let cases = [
        ("a flipped bit", flipped),
        ("another port", another_port),
        ("another key", draft().sign(&other, &key)),
        ("another signer", draft().sign(&key, &other)),
        ("another chain", Draft { genesis: [9; 32], birth: [9; 32], ..draft() }.sign(&key, &key)),
        ("another spec", Draft { spec_version: 364, ..draft() }.sign(&key, &key)),
        ("another transaction version", Draft { transaction_version: 2, ..draft() }.sign(&key, &key)),
        ("another birth", Draft { birth: [9; 32], ..draft() }.sign(&key, &key)),
    ];
    for (what, extrinsic) in cases {
        let bad_proof = (1010, "Transaction has a bad signature".to_owned());
        assert_eq!(refused(&mut client, json!([hex(extrinsic)])).await, bad_proof, "{what}");
    }
    assert_eq!(chain.block_number(), 1);
    client.call("author_submitExtrinsic", json!([hex(good)])).await;
}

#[tokio::test]
async fn a_long_payload_is_signed_by_its_hash() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let axon = Axon::at("203.0.113.9:9000".parse().unwrap());
    let draft = Draft { call: serve_axon(axon, Some(vec![7; 300])), ..Draft::new(&chain) };
    client.call("author_submitExtrinsic", draft.signed()).await;
}

#[tokio::test]
async fn a_nonce_counts_once() {
    let chain = Chain::builder().hold_extrinsics().start().await.unwrap();
    populate(&chain);
    let mut client = Plain::connect(&chain.url()).await;
    let draft = Draft::new(&chain).signed();
    client.call("author_submitExtrinsic", draft.clone()).await;
    assert_eq!(refused(&mut client, draft.clone()).await.0, 1013);
    let another = Draft { call: serve_axon(Axon::reset(), None), ..Draft::new(&chain) }.signed();
    assert_eq!(refused(&mut client, another.clone()).await.0, 1014);
    chain.produce_block();
    let stale = (1010, "Transaction is outdated".to_owned());
    assert_eq!(refused(&mut client, draft).await, stale);
    assert_eq!(refused(&mut client, another).await, stale);
}

#[tokio::test]
async fn a_nonce_that_is_ahead_waits_for_those_before_it() {
    let chain = Chain::builder().hold_extrinsics().start().await.unwrap();
    populate(&chain);
    chain.update(|state| state.subnet(NETUID).hyperparameters.serving_rate_limit = 0);
    let mut client = Plain::connect(&chain.url()).await;
    let account = btlightning_testkit::chain::ss58(&Key::named("newcomer").account());
    let ahead = Draft { nonce: 1, ..Draft::new(&chain) }.signed();
    let watch = client.call("author_submitAndWatchExtrinsic", ahead).await;
    assert_eq!(client.notified(&watch).await, "future");
    assert_eq!(client.call("system_accountNextIndex", json!([account])).await, 0);
    chain.produce_block();
    assert_eq!(chain.extrinsics(), []);
    client.call("author_submitExtrinsic", Draft::new(&chain).signed()).await;
    assert_eq!(client.call("system_accountNextIndex", json!([account])).await, 2);
    let block = chain.produce_block();
    let outcomes: Vec<_> = chain.extrinsics().into_iter().map(|extrinsic| extrinsic.outcome).collect();
    assert_eq!(outcomes, [Outcome::Succeeded { block }, Outcome::Succeeded { block }]);
    assert!(client.notified(&watch).await["inBlock"].is_string());
    assert!(client.notified(&watch).await["finalized"].is_string());
}

#[tokio::test]
async fn what_is_no_longer_good_when_its_block_is_made_is_dropped() {
    let chain = Chain::builder().hold_extrinsics().start().await.unwrap();
    populate(&chain);
    let mut client = Plain::connect(&chain.url()).await;
    let watch = client.call("author_submitAndWatchExtrinsic", Draft::new(&chain).signed()).await;
    assert_eq!(client.notified(&watch).await, "ready");
    assert_eq!(client.call("author_pendingExtrinsics", json!([])).await.as_array().unwrap().len(), 1);
    chain.upgrade_runtime(SPEC_VERSION + 1);
    // The block of the upgrade still had the old runtime, and with it the extrinsic.
    assert!(client.notified(&watch).await["inBlock"].is_string());
    let late = Draft { nonce: 1, ..Draft::new(&chain) };
    assert_eq!(refused(&mut client, late.signed()).await.1, "Transaction has a bad signature");
    chain.update(|state| state.subnet(NETUID).hyperparameters.serving_rate_limit = 0);
    let renewed = Draft { spec_version: SPEC_VERSION + 1, ..late };
    let watch = client.call("author_submitAndWatchExtrinsic", renewed.signed()).await;
    assert_eq!(client.notified(&watch).await, "ready");
    // The hotkey is deregistered first, and then the extrinsics have their turn.
    chain.update(|state| state.remove_subnet(NETUID));
    let reason = "Custom error: 10".to_owned();
    assert_eq!(chain.extrinsics().pop().unwrap().outcome, Outcome::Refused { reason });
    assert_eq!(client.notified(&watch).await, "invalid");
}

/// A chain in block `number`, and an extrinsic that is good from block 10 to block 13.
async fn chain_and_mortal(number: u64) -> (Chain, Draft) {
    let chain = chain_of_three().await;
    chain.produce_blocks(number - chain.block_number());
    let mut client = Plain::connect(&chain.url()).await;
    let birth = client.call("chain_getBlockHash", json!([10])).await;
    let birth = hex::decode(&birth.as_str().unwrap()[2..]).unwrap().try_into().unwrap();
    // A period of 2^2 blocks, and 10 is its phase, 2.
    let era = (1_u16 | 2 << 4).encode();
    let draft = Draft { era, birth, ..Draft::new(&chain) };
    (chain, draft)
}

#[tokio::test]
async fn an_era_ends() {
    // It is the next block that an extrinsic must be good for.
    let (chain, draft) = chain_and_mortal(12).await;
    let mut client = Plain::connect(&chain.url()).await;
    client.call("author_submitExtrinsic", draft.signed()).await;
    // The next era begins in block 14, whose hash nobody can know before it is there.
    for (number, reason) in
        [(13, "Transaction has an ancient birth block"), (14, "Transaction has a bad signature")]
    {
        let (chain, draft) = chain_and_mortal(number).await;
        let mut client = Plain::connect(&chain.url()).await;
        assert_eq!(refused(&mut client, draft.signed()).await.1, reason);
    }
}

#[tokio::test]
async fn what_is_no_extrinsic_is_refused() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let key = Key::named("newcomer");
    let good = Draft::new(&chain).sign(&key, &key);
    let unknown_call = Draft { call: vec![7, 250], ..Draft::new(&chain) }.sign(&key, &key);
    let too_much = Draft { call: [Draft::new(&chain).call, vec![0]].concat(), ..Draft::new(&chain) };
    let cases = [
        Vec::new(),
        vec![0],
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        unknown_call,
        too_much.sign(&key, &key),
        vec![0xff; 200],
    ];
    for bytes in cases {
        let params = json!([hex(&bytes)]);
        assert_eq!(refused(&mut client, params).await.0, 1001, "{}", hex(&bytes));
    }
    // Unsigned, and general without an extension that says who it is by.
    let call = Draft::new(&chain).call;
    let bare = [vec![4], call.clone()].concat().encode();
    let general = [vec![0x45, 0, 0, 0, 0, 0], call].concat().encode();
    for bytes in [bare, general] {
        let unknown_origin = (1010, "The transaction extension did not authorize any origin".to_owned());
        assert_eq!(refused(&mut client, json!([hex(&bytes)])).await, unknown_origin);
    }
}

#[tokio::test]
async fn the_newer_way_says_why_in_an_event() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let draft = Draft { spec_version: 1, ..Draft::new(&chain) }.signed();
    let watch = client.call("transactionWatch_v1_submitAndWatch", draft).await;
    let event = client.notified(&watch).await;
    assert_eq!(event, json!({ "event": "invalid", "error": "Transaction has a bad signature" }));
    let watch = client.call("transactionWatch_v1_submitAndWatch", Draft::new(&chain).signed()).await;
    assert_eq!(client.notified(&watch).await["event"], "validated");
    let included = client.notified(&watch).await;
    assert_eq!(
        (&included["event"], &included["block"]["index"]),
        (&json!("bestChainBlockIncluded"), &json!("1"))
    );
    assert_eq!(client.notified(&watch).await["event"], "finalized");
    let broadcast = client.call("transaction_v1_broadcast", Draft::new(&chain).signed()).await;
    assert_eq!(client.call("transaction_v1_stop", json!([broadcast])).await, Value::Null);
    client.error("transaction_v1_stop", json!([broadcast])).await;
}
