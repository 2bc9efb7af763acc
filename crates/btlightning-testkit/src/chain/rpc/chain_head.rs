//! `chainHead_v1` and `chainSpec_v1`: following the head of the chain, with blocks pinned while they are worked on.

use super::{
    super::{
        block::{After, Block, Hash},
        metadata::RuntimeVersion,
        world::Notice,
    },
    chain::{CHAIN_NAME, properties},
    error::RpcError,
    params::{Params, parse_hex, to_hex},
    session::Session,
    subscriptions::{Subscription, notification},
};
use parity_scale_codec::Encode;
use serde_json::{Map, Value, json};
use sp_crypto_hashing::blake2_256;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Follow subscriptions that a session may have, as on a real node.
const FOLLOWS_MAX: usize = 4;

/// Blocks that a subscription may have pinned; one that has more is stopped.
const PINNED_MAX: usize = 512;

/// Finalized blocks that a subscription starts with.
const FINALIZED_MAX: u64 = 16;

/// Operations that wait for `chainHead_v1_continue`.
const OPERATIONS_MAX: usize = 16;

/// Items that a question for storage may ask for, and that one event has at most.
const QUERIES_MAX: usize = 1_024;
const ITEMS_PER_EVENT: usize = 256;

/// Items after which an operation waits for the client to ask for more.
const ITEMS_PER_TURN: usize = 1_024;

/// Items that there may be under one key.
const DESCENDANTS_MAX: usize = 65_536;

const EVENT: &str = "chainHead_v1_followEvent";

/// A follow subscription.
pub(super) struct Follow {
    with_runtime: bool,
    pinned: BTreeSet<Hash>,
    /// What is left of storage operations that wait for the client.
    waiting: BTreeMap<String, VecDeque<Value>>,
}

impl Session {
    pub(super) fn chain_head(&mut self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        match method {
            "chainSpec_v1_chainName" => Ok(json!(CHAIN_NAME)),
            "chainSpec_v1_genesisHash" => Ok(json!(to_hex(self.shared.world().ledger.genesis().hash))),
            "chainSpec_v1_properties" => Ok(properties()),
            "chainHead_v1_follow" => self.follow(params.flag()),
            "chainHead_v1_unfollow" => {
                self.unsubscribe(&mut params)?;
                Ok(Value::Null)
            }
            "chainHead_v1_header" => {
                let follow = params.text()?;
                let Some(block) = self.pinned(&follow, params.hash()?)? else { return Ok(Value::Null) };
                Ok(json!(to_hex(block.header.encode())))
            }
            "chainHead_v1_unpin" => self.unpin(&mut params),
            "chainHead_v1_stopOperation" => {
                let (follow, operation) = (params.text()?, params.text()?);
                if let Some(follow) = self.follow_mut(&follow) {
                    follow.waiting.remove(&operation);
                }
                Ok(Value::Null)
            }
            "chainHead_v1_continue" => self.proceed(&mut params),
            "chainHead_v1_body" | "chainHead_v1_call" | "chainHead_v1_storage" => {
                self.operate(method, &mut params)
            }
            _ => Err(RpcError::method_not_found()),
        }
    }

    fn follow(&mut self, with_runtime: bool) -> Result<Value, RpcError> {
        let is_follow = |subscription: &&Subscription| matches!(subscription, Subscription::Follow(_));
        if self.subscriptions.values().filter(is_follow).count() >= FOLLOWS_MAX {
            return Err(RpcError::new(-32800, "Maximum number of chainHead_follow has been reached"));
        }
        let mut follow = Follow { with_runtime, pinned: BTreeSet::new(), waiting: BTreeMap::new() };
        let events = {
            let world = self.shared.world();
            let finalized = world.ledger.finalized();
            let first = (finalized.number() + 1).saturating_sub(FINALIZED_MAX);
            let hashes: Vec<Hash> = (first..=finalized.number())
                .filter_map(|number| world.ledger.by_number(number))
                .filter(|block| block.after.is_some())
                .map(|block| block.hash)
                .collect();
            follow.pinned.extend(&hashes);
            let hashes: Vec<String> = hashes.iter().map(to_hex).collect();
            let mut initialized = json!({ "event": "initialized", "finalizedBlockHashes": hashes });
            if with_runtime {
                initialized["finalizedBlockRuntime"] = runtime_event(finalized);
            }
            let mut events = vec![initialized];
            for block in world.ledger.unfinalized() {
                follow.pinned.insert(block.hash);
                events.push(new_block_event(block, Value::Null));
            }
            let best = to_hex(world.ledger.best().hash);
            events.push(json!({ "event": "bestBlockChanged", "bestBlockHash": best }));
            events
        };
        let name = self.subscribe(Subscription::Follow(follow))?;
        self.tell_follower(&name, events);
        Ok(json!(name))
    }

    /// What a follower is told of something that happened.
    pub(super) fn follow_events(&self, follow: &mut Follow, notice: &Notice) -> Vec<Value> {
        match notice {
            Notice::Block { hash, runtime_changed, .. } => {
                let Ok(block) = self.block_at(Some(*hash)) else { return Vec::new() };
                follow.pinned.insert(*hash);
                if follow.pinned.len() > PINNED_MAX {
                    return vec![json!({ "event": "stop" })];
                }
                let runtime = match follow.with_runtime && *runtime_changed {
                    true => runtime_event(&block),
                    false => Value::Null,
                };
                let best = json!({ "event": "bestBlockChanged", "bestBlockHash": to_hex(hash) });
                vec![new_block_event(&block, runtime), best]
            }
            Notice::Finalized { hashes } => {
                let hashes: Vec<String> = hashes.iter().map(to_hex).collect();
                let none: [&str; 0] = [];
                vec![
                    json!({ "event": "finalized", "finalizedBlockHashes": hashes, "prunedBlockHashes": none }),
                ]
            }
            Notice::StopFollows => vec![json!({ "event": "stop" })],
            Notice::Dropped { .. } => Vec::new(),
        }
    }

    fn follow_mut(&mut self, name: &str) -> Option<&mut Follow> {
        match self.subscriptions.get_mut(name) {
            Some(Subscription::Follow(follow)) => Some(follow),
            _ => None,
        }
    }

    /// The block with a hash; `None` if there is no such subscription.
    ///
    /// # Errors
    ///
    /// If the subscription has not pinned the block.
    fn pinned(&mut self, follow: &str, hash: Hash) -> Result<Option<std::sync::Arc<Block>>, RpcError> {
        let Some(follow) = self.follow_mut(follow) else { return Ok(None) };
        if !follow.pinned.contains(&hash) {
            return Err(RpcError::invalid_block());
        }
        self.block_at(Some(hash)).map(Some).map_err(|_| RpcError::invalid_block())
    }

    fn unpin(&mut self, params: &mut Params) -> Result<Value, RpcError> {
        let name = params.text()?;
        let hashes = match params.value() {
            Value::Array(hashes) => hashes,
            hash => vec![hash],
        };
        let Some(follow) = self.follow_mut(&name) else { return Ok(Value::Null) };
        for hash in hashes {
            let hash: Option<Hash> = parse_hex(hash.as_str().unwrap_or_default())?.try_into().ok();
            if !hash.is_some_and(|hash| follow.pinned.remove(&hash)) {
                return Err(RpcError::invalid_block());
            }
        }
        Ok(Value::Null)
    }

    /// Starts an operation. It is done at once, and its events go out after the response.
    fn operate(&mut self, method: &str, params: &mut Params) -> Result<Value, RpcError> {
        let follow = params.text()?;
        let Some(block) = self.pinned(&follow, params.hash()?)? else {
            return Ok(json!({ "result": "limitReached" }));
        };
        let operation = self.name("operation");
        let started = json!({ "result": "started", "operationId": operation });
        let inaccessible = json!({ "event": "operationInaccessible", "operationId": operation });
        let events = match (method, &block.after) {
            ("chainHead_v1_body", _) => {
                let body: Vec<String> = block.extrinsics.iter().map(to_hex).collect();
                vec![json!({ "event": "operationBodyDone", "operationId": operation, "value": body })]
            }
            (_, None) => vec![inaccessible],
            ("chainHead_v1_call", Some(_)) => {
                let (function, args) = (params.text()?, params.bytes()?);
                vec![match self.call_runtime(&block, &function, &args) {
                    Ok(output) => {
                        json!({ "event": "operationCallDone", "operationId": operation, "output": to_hex(output) })
                    }
                    Err(error) => {
                        json!({ "event": "operationError", "operationId": operation, "error": error })
                    }
                }]
            }
            (_, Some(after)) => {
                let items = storage_items(after, &params.value())?;
                return self.start_storage(&follow, &operation, items, started);
            }
        };
        self.tell_follower(&follow, events);
        Ok(started)
    }

    fn start_storage(
        &mut self,
        follow: &str,
        operation: &str,
        items: VecDeque<Value>,
        mut started: Value,
    ) -> Result<Value, RpcError> {
        started["discardedItems"] = json!(0);
        let busy = self.follow_mut(follow).is_none_or(|follow| follow.waiting.len() >= OPERATIONS_MAX);
        if busy {
            return Ok(json!({ "result": "limitReached" }));
        }
        self.storage_turn(follow, operation, items);
        Ok(started)
    }

    /// Tells the follower of as many items as fit in one turn, and whether there are more.
    fn storage_turn(&mut self, follow: &str, operation: &str, mut items: VecDeque<Value>) {
        let turn: Vec<Value> = items.drain(..items.len().min(ITEMS_PER_TURN)).collect();
        let mut events: Vec<Value> = turn
            .chunks(ITEMS_PER_EVENT)
            .map(
                |items| json!({ "event": "operationStorageItems", "operationId": operation, "items": items }),
            )
            .collect();
        let end = if items.is_empty() { "operationStorageDone" } else { "operationWaitingForContinue" };
        events.push(json!({ "event": end, "operationId": operation }));
        if let (false, Some(follow)) = (items.is_empty(), self.follow_mut(follow)) {
            follow.waiting.insert(operation.to_owned(), items);
        }
        self.tell_follower(follow, events);
    }

    fn proceed(&mut self, params: &mut Params) -> Result<Value, RpcError> {
        let (name, operation) = (params.text()?, params.text()?);
        let waiting = self.follow_mut(&name).and_then(|follow| follow.waiting.remove(&operation));
        let items = waiting.ok_or_else(|| RpcError::new(-32803, "Invalid continue call"))?;
        self.storage_turn(&name, &operation, items);
        Ok(Value::Null)
    }

    fn tell_follower(&mut self, follow: &str, events: Vec<Value>) {
        self.outbox.extend(events.iter().map(|event| notification(EVENT, follow, event)));
    }
}

fn storage_items(after: &After, queries: &Value) -> Result<VecDeque<Value>, RpcError> {
    let queries = queries.as_array().filter(|queries| queries.len() <= QUERIES_MAX);
    let queries = queries.ok_or_else(|| RpcError::invalid_params("expected a list of storage items"))?;
    let mut items = VecDeque::new();
    for query in queries {
        let key = parse_hex(query["key"].as_str().unwrap_or_default())?;
        let item = |key: &[u8], kind: &str| {
            let value = after.storage_value(key)?;
            let value = if kind == "hash" { to_hex(blake2_256(value)) } else { to_hex(value) };
            Some(json!({ "key": to_hex(key), kind: value }))
        };
        match query["type"].as_str() {
            Some(kind @ ("value" | "hash")) => items.extend(item(&key, kind)),
            Some(kind @ ("descendantsValues" | "descendantsHashes")) => {
                let kind = if kind == "descendantsValues" { "value" } else { "hash" };
                let keys = after.storage_keys(&key, None, DESCENDANTS_MAX);
                items.extend(keys.into_iter().filter_map(|key| item(key, kind)));
            }
            _ => {
                return Err(RpcError::invalid_params(
                    "a type of storage query that this chain does not know",
                ));
            }
        }
    }
    Ok(items)
}

fn new_block_event(block: &Block, runtime: Value) -> Value {
    json!({
        "event": "newBlock",
        "blockHash": to_hex(block.hash),
        "parentBlockHash": to_hex(block.header.parent_hash),
        "newRuntime": runtime,
    })
}

fn runtime_event(block: &Block) -> Value {
    match &block.after {
        Some(after) => {
            json!({ "type": "valid", "spec": runtime_spec(after.runtime.metadata.runtime_version()) })
        }
        None => json!({ "type": "invalid", "error": "the state is discarded" }),
    }
}

fn runtime_spec(version: &RuntimeVersion) -> Value {
    let apis: Map<String, Value> =
        version.apis.iter().map(|(hash, version)| (to_hex(hash), json!(version))).collect();
    json!({
        "specName": version.spec_name,
        "implName": version.impl_name,
        "specVersion": version.spec_version,
        "implVersion": version.impl_version,
        "transactionVersion": version.transaction_version,
        "apis": apis,
    })
}
