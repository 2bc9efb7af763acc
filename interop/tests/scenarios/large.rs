//! Payloads of megabytes.

use btlightning_interop::{Random, data};
use rmpv::Value;

use super::stage::{Miner, answer, chunks, connected, failure};
use crate::peers::{Make, SERVER, server};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn megabytes_go_and_come_back() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let mut random = Random::new(1);
    for mebibytes in [1, 16] {
        let sent = data([("bytes", Value::Binary(random.bytes(mebibytes * MIB)))]);
        let back = answer(&validator, &miner, "echo", sent.clone()).await;
        assert!(back == sent, "{mebibytes} MiB");
    }
}

#[tokio::test]
async fn text_and_numbers_of_a_megabyte() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let sent = data([
        ("text", "é".repeat(MIB / 2).into()),
        ("numbers", (0..MIB / 5).map(|n| Value::from(n + 65_536)).collect::<Vec<_>>().into()),
    ]);
    let back = answer(&validator, &miner, "echo", sent.clone()).await;
    assert!(back == sent);
}

/// Decoding multiplies: a small number is one byte on the wire and 40 in memory. Ours bounds that.
#[tokio::test]
async fn a_list_of_more_small_numbers_than_anyone_needs() {
    let miner = Miner::start().await;
    miner.sync("count", |data| Ok(data.into_iter().map(count).collect())).await;
    let validator = connected(&miner).await;
    let list = |length: usize| data([("list", Value::Array(vec![Value::from(1); length]))]);
    let length = |length: usize| data([("list", length.into())]);
    assert_eq!(answer(&validator, &miner, "count", list(1_500_000)).await, length(1_500_000));
    match SERVER {
        Make::Ours => {
            let words = failure(&validator, &miner, "count", list(3_000_000)).await;
            assert_eq!(words, "invalid request format");
        }
        Make::Theirs => {
            assert_eq!(answer(&validator, &miner, "count", list(3_000_000)).await, length(3_000_000));
        }
    }
}

fn count((key, list): (String, Value)) -> (String, Value) {
    let length = list.as_array().map_or(0, Vec::len);
    (key, length.into())
}

#[tokio::test]
async fn a_large_chunk_is_streamed_whole() {
    let miner = Miner::start().await;
    let chunk = Random::new(2).bytes(16 * MIB);
    let sent = chunk.clone();
    miner
        .streaming("large", move |_, chunks| {
            let chunk = sent.clone();
            async move { chunks.send(chunk).await.map_err(server::LightningError::handler) }
        })
        .await;
    let validator = connected(&miner).await;
    let streamed = chunks(&validator, &miner, "large", data([])).await.expect("a stream");
    assert!(streamed == [chunk]);
}
