//! Dynamic values: each kind of MessagePack comes to the handler and back as it was sent.

use btlightning_interop::{Class, Data, data, map, not_utf8};
use rmpv::Value;

use super::stage::{Miner, answer, ask, connected, error, failure};
use crate::peers::{CLIENT, Make, SERVER};

/// A value of each kind, and at each bound at which MessagePack changes the width.
fn kinds() -> Vec<Value> {
    let mut kinds = vec![Value::Nil, true.into(), false.into()];
    for bits in [0, 5, 7, 8, 15, 16, 31, 32, 63] {
        let bound = 1_u64 << bits;
        kinds.extend([bound - 1, bound, bound + 1].map(Value::from));
        let below = -((1_i128 << bits).min(i128::from(i64::MAX)) as i64);
        kinds.extend([below, below.saturating_sub(1), below + 1].map(Value::from));
    }
    kinds.extend([u64::MAX.into(), i64::MIN.into(), i64::MAX.into()]);
    for float in [0.0, -0.0, 1.1, f32::MIN, f32::MIN_POSITIVE, f32::INFINITY] {
        kinds.extend([Value::F32(float), Value::F64(float.into())]);
    }
    kinds.extend([f64::MAX, f64::EPSILON, f64::NEG_INFINITY].map(Value::F64));
    for length in [0, 1, 2, 4, 8, 15, 16, 17, 31, 32, 255, 256, 65_535, 65_536] {
        kinds.extend(["é".repeat(length / 2).into(), Value::Binary(vec![0xff; length])]);
        kinds.push(Value::Ext(-1, vec![7; length]));
        if length <= 256 {
            kinds.push(Value::Array(vec![Value::Nil; length]));
            kinds.push(Value::Map((0..length).map(|n| (n.into(), Value::Nil)).collect()));
        }
    }
    kinds.push("quotes \" zero \0 line \n wide 漢字 🦀".into());
    kinds.push(map([(1.into(), "int".into()), (true.into(), Value::Nil), (Value::Nil, 1.5_f32.into())]));
    kinds.push(map([(Value::Array(vec![1.into()]), map([("k".into(), Value::Binary(vec![1]))]))]));
    kinds.push(Value::Array(vec![
        Value::Array(vec![]),
        map([]),
        Value::Array(vec![Value::Ext(5, vec![1, 2])]),
    ]));
    kinds
}

#[tokio::test]
async fn every_kind_of_value_comes_back_as_it_went() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let all: Data = kinds().into_iter().enumerate().map(|(n, kind)| (n.to_string(), kind)).collect();
    let back = answer(&validator, &miner, "echo", all.clone()).await;
    assert_eq!(back.len(), all.len());
    for (n, kind) in all {
        assert_eq!(back[&n], kind);
    }
}

#[tokio::test]
async fn a_value_that_is_not_a_number_stays_what_it_is() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let nans = data([("f32", Value::F32(f32::NAN)), ("f64", Value::F64(f64::NAN))]);
    let back = answer(&validator, &miner, "echo", nans).await;
    assert!(matches!(back["f32"], Value::F32(nan) if nan.is_nan()));
    assert!(matches!(back["f64"], Value::F64(nan) if nan.is_nan()));
}

#[tokio::test]
async fn text_that_is_not_utf8_becomes_bytes() {
    let miner = Miner::start().await;
    miner.sync("kind", |data| Ok(Data::from([("bytes".into(), data["text"].is_bin().into())]))).await;
    let validator = connected(&miner).await;
    let sent = data([("text", not_utf8())]);
    let bytes = data([("text", Value::Binary(vec![0xff, 0xfe]))]);
    assert_eq!(answer(&validator, &miner, "echo", sent.clone()).await, bytes);
    assert_eq!(answer(&validator, &miner, "kind", sent).await, data([("bytes", true.into())]));
}

#[tokio::test]
async fn a_handler_makes_every_kind_of_value_too() {
    let miner = Miner::start().await;
    miner.sync("make", |_| Ok(Data::from([("kinds".into(), Value::Array(kinds()))]))).await;
    let validator = connected(&miner).await;
    let made = answer(&validator, &miner, "make", data([])).await;
    assert_eq!(made, data([("kinds", Value::Array(kinds()))]));
}

#[tokio::test]
async fn payloads_of_every_size_and_any_key() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    for keys in [0, 1, 15, 16, 300, 70_000] {
        let many: Data = (0..keys).map(|n| (format!("key {n}"), n.into())).collect();
        assert_eq!(answer(&validator, &miner, "echo", many.clone()).await, many, "{keys} keys");
    }
    let odd =
        data([("", 1.into()), ("漢字 🦀", 2.into()), ("\0", 3.into()), (&"long".repeat(300), 4.into())]);
    assert_eq!(answer(&validator, &miner, "echo", odd.clone()).await, odd);
}

fn nested(levels: usize) -> Data {
    let value = (1..levels).fold(Value::Array(vec![]), |value, _| Value::Array(vec![value]));
    data([("nested", value)])
}

#[tokio::test]
async fn values_are_nested_as_deep_as_anybody_needs() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    // The map of the payload is the first level.
    let deep = nested(127);
    assert_eq!(answer(&validator, &miner, "echo", deep.clone()).await, deep);

    // Ours neither sends nor reads what is deeper: a published peer spends stack on each level. 200 levels are far from
    // what it can take.
    let deeper = nested(200);
    match (CLIENT, SERVER) {
        (Make::Ours, _) => {
            let (class, words) = error(ask(&validator, &miner, "echo", deeper).await);
            assert_eq!(class, Class::Serialization, "{words}");
        }
        (_, Make::Ours) => {
            assert_eq!(failure(&validator, &miner, "echo", deeper).await, "invalid request format");
        }
        _ => assert_eq!(answer(&validator, &miner, "echo", deeper.clone()).await, deeper),
    }
    answer(&validator, &miner, "echo", data([])).await;
}
