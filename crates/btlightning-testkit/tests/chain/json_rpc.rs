//! JSON-RPC itself: batches, errors, subscriptions, and the methods one by one.

use crate::clients::{Key, NETUID, Plain, chain_of_three, hex};
use btlightning_testkit::chain::{Chain, RpcMethods};
use parity_scale_codec::Encode;
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_not_a_request_is_told_so() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    for (text, code) in [
        ("{", -32700),
        ("[]", -32600),
        ("{}", -32600),
        ("7", -32600),
        (r#"{"id":1,"method":7}"#, -32600),
        (r#"{"id":1,"method":"state_dance"}"#, -32601),
        (r#"{"id":1,"method":"state_getStorage"}"#, -32602),
        (r#"{"id":1,"method":"state_getStorage","params":["0xzz"]}"#, -32602),
        (r#"{"id":1,"method":"state_getStorage","params":["0x00","0x00"]}"#, -32602),
        (r#"{"id":1,"method":"archive_v1_finalizedHeight","params":[]}"#, -32601),
    ] {
        client.send(text).await;
        assert_eq!(client.receive().await["error"]["code"], code, "{text}");
    }
}

#[tokio::test]
async fn a_batch_is_answered_in_one_message_and_in_order() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let request =
        |id: u64, method: &str| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": [] });
    let batch =
        json!([request(9, "system_chainType"), request(8, "no_such"), request(7, "chain_subscribeNewHeads")]);
    client.send(&batch.to_string()).await;
    let answers = client.receive().await;
    let ids: Vec<_> =
        answers.as_array().unwrap().iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [9, 8, 7]);
    assert_eq!((&answers[0]["result"], &answers[1]["error"]["code"]), (&json!("Local"), &json!(-32601)));
    let subscription = answers[2]["result"].clone();
    assert_eq!(client.notified(&subscription).await["number"], "0x1");
}

#[tokio::test]
async fn heads_are_notified_of_until_the_client_has_enough() {
    let chain = Chain::builder().finality_lag(2).start().await.unwrap();
    let mut client = Plain::connect(&chain.url()).await;
    let best = client.call("chain_subscribeNewHeads", json!([])).await;
    let all = client.call("chain_subscribeAllHeads", json!([])).await;
    let finalized = client.call("chain_subscribeFinalizedHeads", json!([])).await;
    chain.produce_blocks(3);
    for number in ["0x0", "0x1", "0x2", "0x3"] {
        assert_eq!(client.notified(&best).await["number"], number);
        assert_eq!(client.notified(&all).await["number"], number);
    }
    for number in ["0x0", "0x1"] {
        assert_eq!(client.notified(&finalized).await["number"], number);
    }
    assert_eq!((chain.block_number(), chain.finalized_number()), (3, 1));
    for (method, subscription) in [("New", &best), ("All", &all)] {
        let method = format!("chain_unsubscribe{method}Heads");
        assert_eq!(client.call(&method, json!([subscription])).await, true);
        assert_eq!(client.call(&method, json!([subscription])).await, false);
    }
    chain.produce_block();
    assert_eq!(client.receive().await["params"]["subscription"], finalized, "the others are gone");
}

#[tokio::test]
async fn values_are_notified_of_when_they_change() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let key = hex(chain.storage_key("SubtensorModule", "ValidatorPermit", &[&NETUID.encode()]));
    let subscription = client.call("state_subscribeStorage", json!([[key]])).await;
    let value = |changes: Value| changes["changes"][0][1].clone();
    assert_eq!(value(client.notified(&subscription).await), "0x0c010000");
    chain.produce_block();
    chain.update(|state| state.subnet(NETUID).neuron_mut(1).unwrap().validator_permit = true);
    assert_eq!(value(client.notified(&subscription).await), "0x0c010100");
}

#[tokio::test]
async fn a_new_runtime_is_notified_of() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let subscription = client.call("state_subscribeRuntimeVersion", json!([])).await;
    assert_eq!(client.notified(&subscription).await["specVersion"], 365);
    let before = client.call("chain_getBlockHash", json!([])).await;
    chain.upgrade_runtime(366);
    assert_eq!(client.notified(&subscription).await["specVersion"], 366);
    let version = client.call("state_getRuntimeVersion", json!([before])).await;
    assert_eq!(version["specVersion"], 365, "the past keeps its runtime");
}

#[tokio::test]
async fn a_node_prunes_what_is_old() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let hash = client.call("chain_getBlockHash", json!([1])).await;
    chain.produce_blocks(300);
    let key = hex(chain.storage_key("System", "Number", &[]));
    let error = client.error("state_getStorage", json!([key, hash])).await;
    assert!(error["message"].as_str().unwrap().contains("State already discarded"), "{error}");
    assert_eq!(client.call("chain_getHeader", json!([hash])).await["number"], "0x1");
    let error = client.error("state_getStorage", json!([key, hex([7; 32])])).await;
    assert!(error["message"].as_str().unwrap().contains("Header was not found"), "{error}");
}

#[tokio::test]
async fn storage_is_given_in_pages_and_in_bulk() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let prefix = hex(chain.storage_key("SubtensorModule", "Keys", &[&NETUID.encode()]));
    let first = client.call("state_getKeysPaged", json!([prefix, 2])).await;
    let rest = client.call("state_getKeysPaged", json!([prefix, 2, first[1]])).await;
    assert_eq!((first.as_array().unwrap().len(), rest.as_array().unwrap().len()), (2, 1));
    let keys = json!([[first[0], rest[0], "0x00"]]);
    let answer = client.call("state_queryStorageAt", keys).await;
    let miner = hex(Key::named("newcomer").account());
    assert_eq!((&answer[0]["changes"][1][1], &answer[0]["changes"][2][1]), (&json!(miner), &Value::Null));
    assert_eq!(client.call("state_getStorageSize", json!([first[0]])).await, 32);
    assert!(client.error("state_getKeysPaged", json!([prefix, 1_001])).await["code"] == 4002);
}

#[tokio::test]
async fn a_test_can_store_what_no_runtime_would() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let key = chain.storage_key("SubtensorModule", "SubnetworkN", &[&NETUID.encode()]);
    chain.update(|state| state.set_storage(key.clone(), Some(vec![0xff; 3])));
    assert_eq!(client.call("state_getStorage", json!([hex(&key)])).await, "0xffffff");
    chain.update(|state| state.set_storage(key.clone(), None));
    assert_eq!(client.call("state_getStorage", json!([hex(&key)])).await, Value::Null);
}

#[tokio::test]
async fn a_node_has_the_methods_that_it_lists() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let mut counts = Vec::new();
    for methods in [RpcMethods::All, RpcMethods::Legacy, RpcMethods::ChainHead] {
        chain.offer(methods);
        let listed = client.call("rpc_methods", json!([])).await;
        let listed: Vec<_> =
            listed["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let has = |name: &str| listed.contains(&name);
        counts.push((has("state_call"), has("chainHead_v1_follow"), has("archive_v1_body")));
        for (name, params) in [("chain_getFinalizedHead", json!([])), ("chainSpec_v1_genesisHash", json!([]))]
        {
            match has(name) {
                true => drop(client.call(name, params).await),
                false => assert_eq!(client.error(name, params).await["code"], -32601, "{name}"),
            }
        }
    }
    assert_eq!(counts, [(true, true, true), (true, false, false), (false, true, true)]);
}

#[tokio::test]
async fn what_was_asked_is_counted_for_each_node_and_for_the_chain() {
    let chain = chain_of_three().await;
    let second = chain.add_node().unwrap();
    let mut clients = [Plain::connect(&chain.url()).await, Plain::connect(&second.url()).await];
    for client in &mut clients {
        client.call("state_call", json!(["Core_version", "0x"])).await;
    }
    clients[1].call("state_call", json!(["Core_version", "0x"])).await;
    second.wait_for_request("Core_version", 2).await;
    chain.wait_for_request("state_call", 3).await;
    let counts = [chain.node().requests(), second.requests(), chain.requests()];
    assert_eq!(counts.map(|requests| requests.count("Core_version")), [1, 2, 3]);
}
