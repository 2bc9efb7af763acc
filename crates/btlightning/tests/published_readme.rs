//! What users of the published package were shown in its README: the same calls, with miners at the other end. The part
//! that needs a chain is in `chain/published.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::Arc;

use btlightning::{
    LightningClient, LightningServer, QuicAxonInfo, QuicRequest, Sr25519Signer, typed_async_handler,
};
use btlightning_testkit::keys;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

#[derive(Serialize, Deserialize)]
struct MyQuery {
    prompt: String,
}

#[derive(Serialize, Deserialize)]
struct MyResult {
    answer: String,
}

/// A miner that says its own name and what it was asked.
async fn miner(name: &'static str) -> (Arc<LightningServer>, QuicAxonInfo) {
    let hotkey = Sr25519Signer::from_seed(keys::seed(name)).hotkey().to_string();
    let mut server = LightningServer::new(hotkey.clone(), "127.0.0.1".into(), 0).unwrap();
    server.set_miner_keypair(keys::seed(name));
    let answer = typed_async_handler(move |query: MyQuery| async move {
        Ok::<_, String>(MyResult { answer: format!("{name}: {}", query.prompt) })
    });
    server.register_async_synapse_handler("MyQuery".into(), answer).await.unwrap();
    server.start().await.unwrap();
    let axon = QuicAxonInfo::new(hotkey, "127.0.0.1".into(), server.local_addr().unwrap().port(), 4);
    let server = Arc::new(server);
    tokio::spawn({
        let server = server.clone();
        async move { server.serve_forever().await }
    });
    (server, axon)
}

fn my_query() -> QuicRequest {
    QuicRequest::from_typed("MyQuery", &MyQuery { prompt: "hello".into() }).unwrap()
}

#[tokio::test]
async fn a_single_miner_is_asked_and_many_at_once() {
    let (_first, first_axon) = miner("first").await;
    let (_second, second_axon) = miner("second").await;
    let miners = vec![first_axon.clone(), second_axon];

    let mut client =
        LightningClient::new(Sr25519Signer::from_seed(keys::seed("validator")).hotkey().to_string());
    client.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed("validator"))));
    client.initialize_connections(miners.clone()).await.unwrap();

    let response = client.query_axon(first_axon, my_query()).await.unwrap().into_result().unwrap();
    let result: MyResult = response.deserialize_data().unwrap();
    assert_eq!(result.answer, "first: hello");

    let client = Arc::new(client);
    let mut tasks = JoinSet::new();
    for miner in miners {
        let client = Arc::clone(&client);
        tasks.spawn(async move { (miner.hotkey.clone(), client.query_axon(miner, my_query()).await) });
    }
    let mut answers = Vec::new();
    while let Some(Ok((_hotkey, result))) = tasks.join_next().await {
        let result: MyResult = result.unwrap().deserialize_data().unwrap();
        answers.push(result.answer);
    }
    answers.sort();
    assert_eq!(answers, ["first: hello", "second: hello"]);
}
