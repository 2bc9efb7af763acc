//! Nodes that fail as they are told to.

use crate::clients::{BACKENDS, Backend, Key, NETUID, Plain, chain_of_three, soon, subxt};
use btlightning_testkit::chain::{Chain, Failure, Garbage};
use parity_scale_codec::{Compact, Decode, Encode};
use serde_json::json;
use std::time::Duration;
use tokio::{io::AsyncReadExt, net::TcpStream};

const NEURONS: &str = "NeuronInfoRuntimeApi_get_neurons_lite";

async fn neurons(client: &mut Plain) -> String {
    let answer = client.call("state_call", json!([NEURONS, "0x0200"])).await;
    answer.as_str().unwrap().to_owned()
}

async fn connects(url: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect(url.strip_prefix("ws://").unwrap()).await
}

#[tokio::test]
async fn a_stopped_node_refuses_and_comes_back_where_it_was() {
    let chain = chain_of_three().await;
    let node = chain.add_node().unwrap();
    for _ in 0..3 {
        let mut client = Plain::connect(&node.url()).await;
        neurons(&mut client).await;
        node.stop().await.unwrap();
        assert_eq!(client.receive_raw().await, None, "the connection is closed");
        let error = connects(&node.url()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        neurons(&mut Plain::connect(&chain.url()).await).await;
        node.restart().await.unwrap();
        neurons(&mut Plain::connect(&node.url()).await).await;
    }
}

#[tokio::test]
async fn nodes_of_a_chain_know_the_same_blocks() {
    let chain = chain_of_three().await;
    let node = chain.add_node().unwrap();
    chain.produce_blocks(4);
    let mut clients = [Plain::connect(&chain.url()).await, Plain::connect(&node.url()).await];
    let mut heads = Vec::new();
    for client in &mut clients {
        heads.push(client.call("chain_getFinalizedHead", json!([])).await);
    }
    assert_eq!(heads[0], heads[1]);
}

#[tokio::test]
async fn connections_are_dropped_and_hung_up_on() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    chain.node().drop_connections();
    assert_eq!(client.receive_raw().await, None);
    let mut client = Plain::connect(&chain.url()).await;
    chain.fail(Failure::HangUp).await.unwrap();
    assert_eq!(client.receive_raw().await, None);
    let mut stream = connects(&chain.url()).await.unwrap();
    let mut byte = [0];
    assert!(matches!(soon(stream.read(&mut byte)).await, Ok(0) | Err(_)));
    chain.heal().await.unwrap();
    neurons(&mut Plain::connect(&chain.url()).await).await;
}

#[tokio::test]
async fn a_silent_node_takes_requests_and_says_nothing() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    client.call("chain_subscribeNewHeads", json!([])).await;
    client.receive().await;
    chain.fail(Failure::Silent).await.unwrap();
    chain.produce_block();
    client.send(&json!({ "id": 1, "method": "system_chain" }).to_string()).await;
    chain.wait_for_request("system_chain", 1).await;
    chain.heal().await.unwrap();
    // What it would have said comes no more.
    client.send(&json!({ "id": 2, "method": "system_chainType" }).to_string()).await;
    assert_eq!(client.receive().await["id"], 2);
}

#[tokio::test]
async fn a_mute_node_does_not_even_shake_hands() {
    let chain = chain_of_three().await;
    chain.fail(Failure::Mute).await.unwrap();
    let stream = connects(&chain.url()).await.unwrap();
    let handshake = tokio_tungstenite::client_async(chain.url(), stream);
    let waiting = tokio::time::timeout(Duration::from_millis(100), handshake).await;
    assert!(waiting.is_err(), "it said something");
}

#[tokio::test]
async fn a_batch_fails_as_its_requests_do() {
    let chain = chain_of_three().await;
    let batch = json!([{ "id": 1, "method": "system_chain" }, { "id": 2, "method": "system_chainType" }]);
    let error = Failure::Error { code: 7, message: "no".into() };
    chain.node().fail_only(&["system_chain"], error);
    let mut client = Plain::connect(&chain.url()).await;
    client.send(&batch.to_string()).await;
    let answer = client.receive().await;
    assert_eq!((&answer[0]["error"]["code"], &answer[1]["result"]), (&json!(7), &json!("Local")));
    chain.node().fail_only(&["system_chain"], Failure::Disconnect);
    client.send(&batch.to_string()).await;
    assert_eq!(client.receive_raw().await, None);
}

#[tokio::test]
async fn only_what_is_named_fails() {
    let chain = chain_of_three().await;
    let error = Failure::Error { code: -32000, message: "the node is tired".into() };
    chain.node().fail_only(&[NEURONS], error);
    let mut client = Plain::connect(&chain.url()).await;
    client.call("system_chain", json!([])).await;
    client.call("state_call", json!(["Core_version", "0x"])).await;
    let answer = client.error("state_call", json!([NEURONS, "0x0200"])).await;
    assert_eq!(answer, json!({ "code": -32000, "message": "the node is tired" }));
    chain.node().fail_only(&["system_chain"], Failure::Disconnect);
    neurons(&mut client).await;
    client.send(&json!({ "id": 1, "method": "system_chain" }).to_string()).await;
    assert_eq!(client.receive_raw().await, None);
}

#[tokio::test]
async fn a_slow_answer_does_not_hold_up_those_behind_it() {
    let chain = chain_of_three().await;
    chain.node().fail_only(&["system_chain"], Failure::Delay(Duration::from_millis(200)));
    let mut client = Plain::connect(&chain.url()).await;
    client.send(&json!({ "id": 1, "method": "system_chain" }).to_string()).await;
    client.send(&json!({ "id": 2, "method": "system_chainType" }).to_string()).await;
    let ids = [client.receive().await["id"].clone(), client.receive().await["id"].clone()];
    assert_eq!(ids, [2, 1]);
}

#[tokio::test]
async fn garbage_is_of_the_kind_that_was_asked_for() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    let good = hex::decode(&neurons(&mut client).await[2..]).unwrap();
    let spoilt = async |garbage| {
        chain.fail(Failure::Garbage(garbage)).await.unwrap();
        let mut client = Plain::connect(&chain.url()).await;
        client
            .send(&json!({ "id": 1, "method": "state_call", "params": [NEURONS, "0x0200"] }).to_string())
            .await;
        client.receive_raw().await.unwrap()
    };
    assert!(spoilt(Garbage::Binary).await.is_binary());
    let text = spoilt(Garbage::NotJson).await.into_text().unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
    let json = async |garbage| -> serde_json::Value {
        serde_json::from_str(&spoilt(garbage).await.into_text().unwrap()).unwrap()
    };
    assert_ne!(json(Garbage::WrongId).await["id"], 1);
    assert!(json(Garbage::WrongType).await["result"].is_object());
    assert_eq!(json(Garbage::Oversized(70_000)).await["result"].as_str().unwrap().len(), 70_000);
    let bytes = async |garbage| hex::decode(&json(garbage).await["result"].as_str().unwrap()[2..]).unwrap();
    assert_eq!(bytes(Garbage::Truncated).await, good[..good.len() / 2]);
    assert_eq!(bytes(Garbage::Trailing).await.len(), good.len() + 8);
    let noise = bytes(Garbage::Noise).await;
    assert!(noise.len() == good.len() && noise != good);
    let endless = bytes(Garbage::EndlessLength).await;
    let claimed = Compact::<u32>::decode(&mut &*endless).unwrap().0;
    assert!(claimed > 1 << 29 && endless.len() == 4);
}

#[tokio::test]
async fn spoilt_answers_reach_both_backends() {
    let chain = chain_of_three().await;
    for backend in BACKENDS {
        let client = subxt(&chain.url(), backend).await;
        let block = soon(client.at_current_block()).await.unwrap();
        chain.node().fail_only(&[NEURONS], Failure::Garbage(Garbage::EndlessLength));
        let args = NETUID.encode();
        let calls = block.runtime_apis();
        let answer = soon(calls.call_raw(NEURONS, Some(&args))).await.unwrap();
        assert_eq!(answer.len(), 4, "{backend:?}");
        chain.heal().await.unwrap();
        assert!(soon(calls.call_raw(NEURONS, Some(&args))).await.unwrap().len() > 4, "{backend:?}");
    }
}

#[tokio::test]
async fn an_old_runtime_wraps_its_answers() {
    let chain = Chain::builder()
        .spec_version(218)
        .runtime(|runtime| runtime.wrap_answers_in_vec = true)
        .start()
        .await
        .unwrap();
    crate::clients::populate(&chain);
    let mut client = Plain::connect(&chain.url()).await;
    let wrapped = hex::decode(&neurons(&mut client).await[2..]).unwrap();
    chain.runtime(|runtime| runtime.wrap_answers_in_vec = false);
    let plain = hex::decode(&neurons(&mut client).await[2..]).unwrap();
    assert_eq!(Vec::<u8>::decode(&mut &*wrapped).unwrap(), plain);
    chain.runtime(|runtime| runtime.wrap_answers_in_vec = true);
    let neuron = async |client: &mut Plain, args: &str| {
        client.call("state_call", json!(["NeuronInfoRuntimeApi_get_neuron_lite", args])).await
    };
    assert_eq!(neuron(&mut client, "0x02000900").await, "0x00", "no neuron is an empty string");
    let hotkey = hex::encode(Key::named("miner").account());
    assert!(neuron(&mut client, "0x02000100").await.as_str().unwrap()[2..].contains(&hotkey));
}

#[tokio::test]
async fn followers_survive_a_runtime_upgrade() {
    let chain = chain_of_three().await;
    for (spec_version, backend) in [(400, Backend::Legacy), (401, Backend::ChainHead)] {
        let client = subxt(&chain.url(), backend).await;
        soon(client.at_current_block()).await.unwrap();
        chain.upgrade_runtime(spec_version);
        let mut blocks = soon(client.stream_blocks()).await.unwrap();
        loop {
            let block = soon(blocks.next()).await.unwrap().unwrap();
            if block.number() == chain.block_number() {
                assert_eq!(soon(block.at()).await.unwrap().spec_version(), spec_version, "{backend:?}");
                break;
            }
        }
    }
}
