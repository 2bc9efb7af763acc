//! What the scenarios send: a query as subnets have it, with something of every kind of field, and many of them.

use std::collections::HashMap;

use btlightning_proto::wire::{ScanLimits, Scanned, decode_map, to_payload};
use rmpv::Value;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// A query of 1,024 bytes on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Query {
    id: u64,
    model: String,
    prompt: String,
    stop: Vec<String>,
    temperature: f64,
    top_p: f32,
    tokens_max: u32,
    stream: bool,
    seed: Option<u64>,
    uids: Vec<u16>,
    scores: Vec<f32>,
    #[serde(with = "serde_bytes")]
    digest: Vec<u8>,
}

/// Queries that take 100 KiB together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    queries: Vec<Query>,
}

/// How many orders of a map are tried. What is counted should be a multiple.
pub(crate) const ORDERS: u64 = 1_000;

const PROMPT_BYTES: usize = 629;

impl Query {
    pub(crate) fn new() -> Self {
        let prompt = "What does a validator ask a miner? ".chars().cycle().take(PROMPT_BYTES).collect();
        Self {
            id: 0x1234_5678_9abc,
            model: "subnet/model-7b-instruct".into(),
            prompt,
            stop: vec!["</s>".into(), "\n\n".into()],
            temperature: 0.7,
            top_p: 0.95,
            tokens_max: 512,
            stream: false,
            seed: None,
            uids: (0..32).map(|n| n * 8).collect(),
            scores: (0..32_u8).map(|n| f32::from(n) / 32.0).collect(),
            digest: (0..32).collect(),
        }
    }
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { queries: vec![Query::new(); 100] }
    }
}

/// The same as a map of dynamic values.
pub(crate) fn dynamic<T: Serialize>(typed: &T) -> Result<HashMap<String, Value>, Failure> {
    let mut payload = Vec::new();
    to_payload(typed, &mut payload)?;
    Ok(decode_map(Scanned::whole(&payload, &ScanLimits::trusted())?)?)
}

/// Maps with the same entries, each in an order of its own. The order is drawn anew for every map of every process, and
/// decides at which entries the frame has to grow: up to 5% of what it takes to encode a query. All of them together
/// take the same in every process.
pub(crate) fn in_many_orders<T: Serialize>(typed: &T) -> Result<Vec<HashMap<String, Value>>, Failure> {
    (0..ORDERS).map(|_| dynamic(typed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use btlightning_proto::wire::encode_map;

    fn payload_bytes<T: Serialize>(typed: &T) -> (usize, usize) {
        let (mut by_type, mut by_map) = (Vec::new(), Vec::new());
        to_payload(typed, &mut by_type).unwrap();
        encode_map(&dynamic(typed).unwrap(), &mut by_map).unwrap();
        (by_type.len(), by_map.len())
    }

    #[test]
    fn a_query_takes_1_kib_and_a_batch_100() {
        assert_eq!(payload_bytes(&Query::new()), (1_024, 1_024));
        let (by_type, by_map) = payload_bytes(&Batch::new());
        assert_eq!(by_type, by_map);
        assert_eq!(by_type / 1_024, 100);
    }
}
