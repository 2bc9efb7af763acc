//! `chainHead_v1`, step by step.

use crate::clients::{NETUID, Plain, chain_of_three, hex, populate};
use btlightning_testkit::chain::{Chain, Neuron};
use parity_scale_codec::Encode;
use serde_json::{Value, json};

/// A client that follows, and has read what it is told at first.
async fn follow(chain: &Chain) -> (Plain, Value, Vec<Value>) {
    let mut client = Plain::connect(&chain.url()).await;
    let follow = client.call("chainHead_v1_follow", json!([true])).await;
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Value| event["event"] != "bestBlockChanged") {
        events.push(client.notified(&follow).await);
    }
    (client, follow, events)
}

#[tokio::test]
async fn a_follower_starts_at_the_finalized_block_and_is_told_of_the_rest() {
    let chain = Chain::builder().finality_lag(2).start().await.unwrap();
    chain.produce_blocks(5);
    let (mut client, follow, events) = follow(&chain).await;
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["initialized", "newBlock", "newBlock", "bestBlockChanged"]);
    assert_eq!(events[0]["finalizedBlockHashes"].as_array().unwrap().len(), 4);
    assert_eq!(events[0]["finalizedBlockRuntime"]["spec"]["specVersion"], 365);
    assert_eq!(events[2]["parentBlockHash"], events[1]["blockHash"]);
    chain.upgrade_runtime(400);
    let new = client.notified(&follow).await;
    assert_eq!((&new["event"], &new["newRuntime"]["spec"]["specVersion"]), (&json!("newBlock"), &json!(400)));
    assert_eq!(client.notified(&follow).await["bestBlockHash"], new["blockHash"]);
    let finalized = client.notified(&follow).await;
    assert_eq!(finalized["finalizedBlockHashes"], json!([events[1]["blockHash"]]));
}

#[tokio::test]
async fn operations_answer_in_events() {
    let chain = chain_of_three().await;
    let (mut client, follow, events) = follow(&chain).await;
    let best = events.last().unwrap()["bestBlockHash"].clone();
    let call = json!([follow, best, "NeuronInfoRuntimeApi_get_neurons_lite", "0x0900"]);
    let started = client.call("chainHead_v1_call", call).await;
    assert_eq!(started["result"], "started");
    let done = client.notified(&follow).await;
    assert_eq!(
        done,
        json!({ "event": "operationCallDone", "operationId": started["operationId"], "output": "0x00" })
    );
    client.call("chainHead_v1_call", json!([follow, best, "No_such", "0x"])).await;
    let failed = client.notified(&follow).await;
    assert_eq!(failed["event"], "operationError");
    assert!(failed["error"].as_str().unwrap().contains("Exported method No_such is not found"));
    client.call("chainHead_v1_body", json!([follow, best])).await;
    assert_eq!(client.notified(&follow).await["value"].as_array().unwrap().len(), 1);
    let header = client.call("chainHead_v1_header", json!([follow, best])).await;
    assert!(header.as_str().unwrap().starts_with("0x"));
}

#[tokio::test]
async fn many_values_come_in_turns() {
    let chain = chain_of_three().await;
    chain.update(|state| {
        for n in 0..1_200_u16 {
            let mut hotkey = [0x77; 32];
            hotkey[..2].copy_from_slice(&n.to_be_bytes());
            state.subnet(NETUID).register(Neuron::new(hotkey, [1; 32]));
        }
    });
    let (mut client, follow, events) = follow(&chain).await;
    let best = events.last().unwrap()["bestBlockHash"].clone();
    let prefix = hex(chain.storage_key("SubtensorModule", "Uids", &[&NETUID.encode()]));
    let query = json!([follow, best, [{ "key": prefix, "type": "descendantsValues" }], null]);
    let started = client.call("chainHead_v1_storage", query).await;
    let (mut items, mut turns) = (0, 1);
    loop {
        let event = client.notified(&follow).await;
        assert_eq!(event["operationId"], started["operationId"]);
        match event["event"].as_str().unwrap() {
            "operationStorageItems" => items += event["items"].as_array().unwrap().len(),
            "operationWaitingForContinue" => {
                turns += 1;
                client.call("chainHead_v1_continue", json!([follow, started["operationId"]])).await;
            }
            "operationStorageDone" => break,
            other => panic!("{other}"),
        }
    }
    assert_eq!((items, turns), (1_203, 2));
    let hash =
        json!([follow, best, [{ "key": hex(b":code"), "type": "hash" }, { "key": "0x00", "type": "value" }]]);
    client.call("chainHead_v1_storage", hash).await;
    let found = client.notified(&follow).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert!(found["items"][0]["hash"].is_string());
}

#[tokio::test]
async fn only_pinned_blocks_are_worked_on() {
    let chain = chain_of_three().await;
    let (mut client, follow, events) = follow(&chain).await;
    let best = events.last().unwrap()["bestBlockHash"].clone();
    assert_eq!(client.call("chainHead_v1_unpin", json!([follow, [best]])).await, Value::Null);
    for method in ["chainHead_v1_header", "chainHead_v1_body"] {
        assert_eq!(client.error(method, json!([follow, best])).await["code"], -32801);
    }
    assert_eq!(client.error("chainHead_v1_unpin", json!([follow, best])).await["code"], -32801);
    let stranger = json!(["no-such-subscription", best]);
    assert_eq!(client.call("chainHead_v1_body", stranger).await["result"], "limitReached");
}

#[tokio::test]
async fn a_follower_can_be_stopped_and_one_that_never_unpins_is() {
    let chain = Chain::builder().start().await.unwrap();
    populate(&chain);
    let (mut client, first, _) = follow(&chain).await;
    chain.stop_follows();
    assert_eq!(client.notified(&first).await["event"], "stop");
    let (mut client, second, _) = follow(&chain).await;
    chain.produce_blocks(512);
    while client.notified(&second).await["event"] != "stop" {}
    assert_eq!(client.call("chainHead_v1_unfollow", json!([second])).await, Value::Null);
}
