//! Frame limits: what is at the limit passes, what is beyond it fails alone, and the connection goes on.

use btlightning_interop::{Class, Data, data};
use rmpv::Value;

use super::stage::{
    Miner, VALIDATOR, answer, ask, client_config, connected, connected_with, error, failure, server_config,
};
use crate::peers::{CLIENT, Make, SERVER, client};

/// The smallest limit that may be set.
const LIMIT: usize = 1 << 20;

/// The payload of a request for `echo` that makes a frame payload of so many bytes: an array of three, `echo`, a map of
/// one key, a byte string with a length of four bytes, and the time.
fn request_of(payload_bytes: usize) -> Data {
    let around = 1 + (1 + 4) + (1 + (1 + 1) + 5) + 5;
    data([("b", Value::Binary(vec![7; payload_bytes - around]))])
}

/// As [`request_of`], for an answer: an array of four, true, the same map, the time, nil.
fn answer_of(payload_bytes: usize) -> Data {
    let around = 1 + 1 + (1 + (1 + 1) + 5) + 5 + 1;
    data([("b", Value::Binary(vec![7; payload_bytes - around]))])
}

#[tokio::test]
async fn a_request_beyond_the_miners_limit() {
    let miner = Miner::with(server_config().max_frame_payload_bytes(LIMIT)).await;
    miner.sync("length", |data| Ok(Data::from([("n".into(), data.len().into())]))).await;
    let validator = connected(&miner).await;
    let id = miner.connection_of(VALIDATOR).await;

    let at_the_limit = request_of(LIMIT);
    assert!(answer(&validator, &miner, "echo", at_the_limit.clone()).await == at_the_limit);
    for beyond in [LIMIT + 1, 4 * LIMIT] {
        let (class, words) = error(ask(&validator, &miner, "echo", request_of(beyond)).await);
        assert_eq!(class, Class::Transport, "{beyond} bytes: {words}");
    }
    answer(&validator, &miner, "length", data([])).await;
    assert_eq!(miner.connection_of(VALIDATOR).await, id, "the same connection");
}

#[tokio::test]
async fn an_answer_beyond_the_validators_limit() {
    let miner = Miner::start().await;
    miner.sync("make", |data| Ok(answer_of(data["n"].as_u64().expect("a number") as usize))).await;
    let config = client::LightningClientConfig { max_frame_payload_bytes: LIMIT, ..client_config() };
    let validator = connected_with(&miner, config).await;
    let id = miner.connection_of(VALIDATOR).await;

    let make = |n: usize| data([("n", n.into())]);
    assert!(answer(&validator, &miner, "make", make(LIMIT)).await == answer_of(LIMIT));
    let (class, words) = error(ask(&validator, &miner, "make", make(LIMIT + 1)).await);
    assert_eq!(class, Class::Transport, "{words}");
    assert!(words.contains(&(LIMIT + 1).to_string()) && words.contains(&LIMIT.to_string()), "{words}");
    answer(&validator, &miner, "echo", data([])).await;
    assert_eq!(miner.connection_of(VALIDATOR).await, id, "the same connection");
}

#[tokio::test]
async fn what_is_beyond_ones_own_limit() {
    let miner = Miner::with(server_config().max_frame_payload_bytes(LIMIT)).await;
    miner.sync("make", |_| Ok(answer_of(LIMIT + 1))).await;
    let validator = connected(&miner).await;
    // A published server sends what it would not accept. Ours does not.
    match SERVER {
        Make::Ours => {
            assert_eq!(failure(&validator, &miner, "make", data([])).await, "internal serialization error");
        }
        Make::Theirs => assert!(answer(&validator, &miner, "make", data([])).await == answer_of(LIMIT + 1)),
    }

    // So does a published client. Ours does not.
    let miner = Miner::start().await;
    miner.sync("take", |_| Ok(data([]))).await;
    let config = client::LightningClientConfig { max_frame_payload_bytes: LIMIT, ..client_config() };
    let validator = connected_with(&miner, config).await;
    let taken = ask(&validator, &miner, "take", request_of(LIMIT + 1)).await;
    match CLIENT {
        Make::Ours => assert_eq!(error(taken).0, Class::Serialization),
        Make::Theirs => assert!(taken.expect("an answer").success),
    }
}
