//! `chain_` and `system_`: blocks, headers, and what the node says of itself.

use super::{
    super::{
        block::{Block, Header},
        metadata::RuntimeVersion,
        ss58,
    },
    error::RpcError,
    params::{Params, block_number, to_hex},
    session::Session,
    subscriptions::{Subscription, notification},
};
use serde_json::{Value, json};

impl Session {
    pub(super) fn chain(&mut self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        match method {
            "chain_getBlockHash" | "chain_getHead" => self.block_hash(&params.value()),
            "chain_getFinalizedHead" | "chain_getFinalisedHead" => {
                Ok(json!(to_hex(self.shared.world().ledger.finalized().hash)))
            }
            "chain_getHeader" => {
                let block = self.block_at(params.optional_hash()?).ok();
                Ok(block.map_or(Value::Null, |block| header_json(&block.header)))
            }
            "chain_getBlock" => {
                let block = self.block_at(params.optional_hash()?).ok();
                Ok(block.map_or(Value::Null, |block| block_json(&block)))
            }
            "chain_getRuntimeVersion" => self.runtime_version(&mut params),
            "chain_subscribeNewHeads" | "chain_subscribeNewHead" => self.subscribe_heads("chain_newHead"),
            "chain_subscribeAllHeads" => self.subscribe_heads("chain_allHead"),
            "chain_subscribeFinalizedHeads" => {
                let finalized = self.shared.world().ledger.finalized().clone();
                let name = self.subscribe(Subscription::FinalizedHeads)?;
                self.outbox.push(notification("chain_finalizedHead", &name, &header_json(&finalized.header)));
                Ok(json!(name))
            }
            _ => self.unsubscribe(&mut params),
        }
    }

    pub(super) fn system(&mut self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        match method {
            "system_accountNextIndex" | "account_nextIndex" => {
                let account = ss58::account(&params.text()?);
                let account = account.ok_or_else(|| RpcError::invalid_params("expected an SS58 address"))?;
                Ok(json!(self.shared.world().next_nonce(&account)))
            }
            "system_chain" => Ok(json!(CHAIN_NAME)),
            "system_chainType" => Ok(json!("Local")),
            "system_health" => Ok(json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false })),
            "system_name" => Ok(json!("Subtensor Node")),
            "system_properties" => Ok(properties()),
            "system_syncState" => {
                let best = self.shared.world().ledger.best().number();
                Ok(json!({ "startingBlock": 0, "currentBlock": best, "highestBlock": best }))
            }
            "system_version" => Ok(json!("4.0.0-dev-test")),
            _ => Err(RpcError::method_not_found()),
        }
    }

    /// Ends a subscription; whether there was one.
    pub(super) fn unsubscribe(&mut self, params: &mut Params) -> Result<Value, RpcError> {
        let name = params.text()?;
        Ok(json!(self.subscriptions.remove(&name).is_some()))
    }

    pub(super) fn runtime_version(&mut self, params: &mut Params) -> Result<Value, RpcError> {
        let block = self.block_at(params.optional_hash()?)?;
        Ok(runtime_version_json(Self::state_of(&block)?.runtime.metadata.runtime_version()))
    }

    /// The hash of the block with a number, of blocks with numbers, or of the best one.
    fn block_hash(&self, number: &Value) -> Result<Value, RpcError> {
        let world = self.shared.world();
        let of = |number: &Value| {
            let block = world.ledger.by_number(block_number(number)?);
            Ok(block.map_or(Value::Null, |block| json!(to_hex(block.hash))))
        };
        match number {
            Value::Null => Ok(json!(to_hex(world.ledger.best().hash))),
            Value::Array(numbers) => numbers.iter().map(of).collect(),
            number => of(number),
        }
    }

    fn subscribe_heads(&mut self, method: &'static str) -> Result<Value, RpcError> {
        let best = self.shared.world().ledger.best().clone();
        let name = self.subscribe(Subscription::Heads(method))?;
        self.outbox.push(notification(method, &name, &header_json(&best.header)));
        Ok(json!(name))
    }
}

pub(super) const CHAIN_NAME: &str = "Bittensor (in memory)";

pub(super) fn properties() -> Value {
    json!({ "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO", "isEthereum": false })
}

pub(super) fn header_json(header: &Header) -> Value {
    let logs: Vec<String> = header.digest.iter().map(|item| to_hex(&item.0)).collect();
    json!({
        "parentHash": to_hex(header.parent_hash),
        "number": format!("{:#x}", header.number),
        "stateRoot": to_hex(header.state_root),
        "extrinsicsRoot": to_hex(header.extrinsics_root),
        "digest": { "logs": logs },
    })
}

fn block_json(block: &Block) -> Value {
    let extrinsics: Vec<String> = block.extrinsics.iter().map(to_hex).collect();
    json!({
        "block": { "header": header_json(&block.header), "extrinsics": extrinsics },
        "justifications": null,
    })
}

pub(super) fn runtime_version_json(version: &RuntimeVersion) -> Value {
    let apis: Vec<Value> =
        version.apis.iter().map(|(hash, version)| json!([to_hex(hash), version])).collect();
    json!({
        "specName": version.spec_name,
        "implName": version.impl_name,
        "authoringVersion": version.authoring_version,
        "specVersion": version.spec_version,
        "implVersion": version.impl_version,
        "apis": apis,
        "transactionVersion": version.transaction_version,
        "systemVersion": version.system_version,
        "stateVersion": version.system_version,
    })
}
