//! Subscriptions: what they notify of, and when they end.

use super::{
    super::{
        block::{Block, Hash},
        world::Notice,
    },
    chain::{header_json, runtime_version_json},
    chain_head::Follow,
    params::to_hex,
    session::Session,
};
use serde_json::{Value, json};

/// Something that a client is notified of.
pub(super) enum Subscription {
    /// Headers of new best blocks, under this method.
    Heads(&'static str),
    FinalizedHeads,
    RuntimeVersion,
    /// Values under keys, in blocks in which they change.
    Storage(Vec<Vec<u8>>),
    /// What becomes of an extrinsic.
    Watch {
        extrinsic: Hash,
        dialect: Dialect,
    },
    Follow(Follow),
}

/// In which of the two families of methods a client watches an extrinsic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `author_submitAndWatchExtrinsic`.
    Author,
    /// `transactionWatch_v1_submitAndWatch`.
    Watch,
}

/// A notification of a subscription.
pub(super) fn notification(method: &str, subscription: &str, result: &Value) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": method,
        "params": { "subscription": subscription, "result": result },
    })
}

impl Session {
    /// What the client is to be told of something that happened.
    pub(super) fn notify(&mut self, notice: &Notice) -> Vec<String> {
        let mut messages = Vec::new();
        let mut subscriptions = std::mem::take(&mut self.subscriptions);
        subscriptions.retain(|name, subscription| {
            let (method, results, go_on) = self.results(subscription, notice);
            messages.extend(results.iter().map(|result| notification(method, name, result).to_string()));
            go_on
        });
        self.subscriptions = subscriptions;
        messages
    }

    /// The method, the results, and whether the subscription goes on.
    fn results(&self, subscription: &mut Subscription, notice: &Notice) -> (&'static str, Vec<Value>, bool) {
        match subscription {
            Subscription::Heads(method) => (*method, self.new_head(notice).into_iter().collect(), true),
            Subscription::FinalizedHeads => ("chain_finalizedHead", self.final_heads(notice), true),
            Subscription::RuntimeVersion => {
                ("state_runtimeVersion", self.new_version(notice).into_iter().collect(), true)
            }
            Subscription::Storage(keys) => {
                ("state_storage", self.changes(keys, notice).into_iter().collect(), true)
            }
            Subscription::Watch { extrinsic, dialect } => {
                let statuses = self.extrinsic_statuses(extrinsic, notice);
                let go_on = !statuses.iter().any(Status::is_last);
                (dialect.method(), statuses.iter().map(|status| status.to_json(*dialect)).collect(), go_on)
            }
            Subscription::Follow(follow) => {
                let events = self.follow_events(follow, notice);
                let stopped = events.iter().any(|event| event["event"] == "stop");
                ("chainHead_v1_followEvent", events, !stopped)
            }
        }
    }

    fn new_head(&self, notice: &Notice) -> Option<Value> {
        let Notice::Block { hash, .. } = notice else { return None };
        Some(header_json(&self.block_at(Some(*hash)).ok()?.header))
    }

    fn final_heads(&self, notice: &Notice) -> Vec<Value> {
        let Notice::Finalized { hashes } = notice else { return Vec::new() };
        let blocks = hashes.iter().filter_map(|hash| self.block_at(Some(*hash)).ok());
        blocks.map(|block| header_json(&block.header)).collect()
    }

    fn new_version(&self, notice: &Notice) -> Option<Value> {
        let Notice::Block { hash, runtime_changed: true, .. } = notice else { return None };
        let block = self.block_at(Some(*hash)).ok()?;
        Some(runtime_version_json(block.after.as_ref()?.runtime.metadata.runtime_version()))
    }

    fn changes(&self, keys: &[Vec<u8>], notice: &Notice) -> Option<Value> {
        let Notice::Block { hash, .. } = notice else { return None };
        let block = self.block_at(Some(*hash)).ok()?;
        let parent = self.block_at(Some(block.header.parent_hash)).ok()?;
        let value = |block: &Block, key: &[u8]| block.after.as_ref()?.storage_value(key).cloned();
        let changed = keys.iter().filter(|key| value(&block, key) != value(&parent, key));
        let changes: Vec<Value> =
            changed.map(|key| json!([to_hex(key), value(&block, key).map(to_hex)])).collect();
        (!changes.is_empty()).then(|| json!({ "block": to_hex(hash), "changes": changes }))
    }

    fn extrinsic_statuses(&self, extrinsic: &Hash, notice: &Notice) -> Vec<Status> {
        let found = |hash: &Hash| {
            let block = self.block_at(Some(*hash)).ok()?;
            let is_it = |bytes: &Vec<u8>| sp_crypto_hashing::blake2_256(bytes) == *extrinsic;
            Some((*hash, block.extrinsics.iter().position(is_it)?))
        };
        match notice {
            Notice::Block { hash, .. } => {
                found(hash).map(|(hash, index)| Status::InBlock(hash, index)).into_iter().collect()
            }
            Notice::Finalized { hashes } => {
                let finalized = hashes.iter().find_map(found);
                finalized.map(|(hash, index)| Status::Finalized(hash, index)).into_iter().collect()
            }
            Notice::Dropped { extrinsic: dropped, reason } if dropped == extrinsic => {
                vec![Status::Invalid(reason.clone())]
            }
            Notice::Dropped { .. } | Notice::StopFollows => Vec::new(),
        }
    }
}

impl Dialect {
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Author => "author_extrinsicUpdate",
            Self::Watch => "transactionWatch_v1_watchEvent",
        }
    }
}

/// What becomes of an extrinsic.
pub(super) enum Status {
    Future,
    Ready,
    InBlock(Hash, usize),
    Finalized(Hash, usize),
    Invalid(String),
    /// It never came into the pool, for a reason that is not its own fault.
    Dropped(String),
}

impl Status {
    fn is_last(&self) -> bool {
        matches!(self, Self::Finalized(..) | Self::Invalid(_) | Self::Dropped(_))
    }

    pub(super) fn to_json(&self, dialect: Dialect) -> Value {
        let place = |hash: &Hash, index: &usize| json!({ "hash": to_hex(hash), "index": index.to_string() });
        match (dialect, self) {
            (Dialect::Author, Self::Future) => json!("future"),
            (Dialect::Author, Self::Ready) => json!("ready"),
            (Dialect::Author, Self::InBlock(hash, _)) => json!({ "inBlock": to_hex(hash) }),
            (Dialect::Author, Self::Finalized(hash, _)) => json!({ "finalized": to_hex(hash) }),
            (Dialect::Author, Self::Invalid(_)) => json!("invalid"),
            (Dialect::Author, Self::Dropped(_)) => json!("dropped"),
            (Dialect::Watch, Self::Future | Self::Ready) => json!({ "event": "validated" }),
            (Dialect::Watch, Self::InBlock(hash, index)) => {
                json!({ "event": "bestChainBlockIncluded", "block": place(hash, index) })
            }
            (Dialect::Watch, Self::Finalized(hash, index)) => {
                json!({ "event": "finalized", "block": place(hash, index) })
            }
            (Dialect::Watch, Self::Invalid(why)) => json!({ "event": "invalid", "error": why }),
            (Dialect::Watch, Self::Dropped(why)) => json!({ "event": "dropped", "error": why }),
        }
    }
}
