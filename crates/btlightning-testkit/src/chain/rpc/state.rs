//! `state_`: storage, runtime calls and metadata.

use super::{
    super::block::After,
    chain::runtime_version_json,
    error::RpcError,
    params::{Params, parse_hex, to_hex},
    session::Session,
    subscriptions::{Subscription, notification},
};
use serde_json::{Value, json};
use sp_crypto_hashing::blake2_256;

/// Keys that a request may name.
const KEYS_MAX: usize = 4_096;

/// Keys that a page may have; a node refuses to give more.
const PAGE_MAX: u64 = 1_000;

impl Session {
    pub(super) fn state(&mut self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        match method {
            "state_call" | "state_callAt" => self.state_call(&mut params),
            "state_getMetadata" => self.state_metadata(&mut params),
            "state_getRuntimeVersion" => self.runtime_version(&mut params),
            "state_getKeysPaged" | "state_getKeysPagedAt" => self.keys_paged(&mut params),
            "state_queryStorageAt" => self.query_storage(&mut params),
            "state_subscribeRuntimeVersion" => self.subscribe_runtime_version(),
            "state_subscribeStorage" => self.subscribe_storage(&mut params),
            "state_unsubscribeRuntimeVersion" | "state_unsubscribeStorage" => self.unsubscribe(&mut params),
            _ => self.storage_value(method, &mut params),
        }
    }

    fn storage_value(&self, method: &str, params: &mut Params) -> Result<Value, RpcError> {
        let key = params.bytes()?;
        let block = self.block_at(params.optional_hash()?)?;
        let value = Self::state_of(&block)?.storage_value(&key);
        Ok(match method {
            "state_getStorageHash" => json!(value.map(|value| to_hex(blake2_256(value)))),
            "state_getStorageSize" => json!(value.map(Vec::len)),
            _ => json!(value.map(to_hex)),
        })
    }

    fn state_call(&self, params: &mut Params) -> Result<Value, RpcError> {
        let (function, args) = (params.text()?, params.bytes()?);
        let block = self.block_at(params.optional_hash()?)?;
        let answer = self.call_runtime(&block, &function, &args);
        answer
            .map(|answer| json!(to_hex(answer)))
            .map_err(|why| RpcError::new(4003, format!("Client error: {why}")))
    }

    fn state_metadata(&self, params: &mut Params) -> Result<Value, RpcError> {
        let block = self.block_at(params.optional_hash()?)?;
        let metadata = Self::state_of(&block)?.runtime.default_metadata();
        Ok(json!(metadata.map(to_hex)))
    }

    fn keys_paged(&self, params: &mut Params) -> Result<Value, RpcError> {
        let prefix = params.optional_bytes()?.unwrap_or_default();
        let count = params.number()?;
        if count > PAGE_MAX {
            let message = format!("count exceeds maximum value. value: {count}, max: {PAGE_MAX}");
            return Err(RpcError::new(4002, message));
        }
        let start = params.optional_bytes()?;
        let block = self.block_at(params.optional_hash()?)?;
        let keys = Self::state_of(&block)?.storage_keys(&prefix, start.as_deref(), count as usize);
        Ok(json!(keys.into_iter().map(to_hex).collect::<Vec<_>>()))
    }

    fn query_storage(&self, params: &mut Params) -> Result<Value, RpcError> {
        let keys = storage_keys(&params.value())?;
        let block = self.block_at(params.optional_hash()?)?;
        Ok(json!([change_set(&to_hex(block.hash), Self::state_of(&block)?, &keys)]))
    }

    fn subscribe_runtime_version(&mut self) -> Result<Value, RpcError> {
        let block = self.block_at(None)?;
        let version = runtime_version_json(Self::state_of(&block)?.runtime.metadata.runtime_version());
        let name = self.subscribe(Subscription::RuntimeVersion)?;
        self.outbox.push(notification("state_runtimeVersion", &name, &version));
        Ok(json!(name))
    }

    fn subscribe_storage(&mut self, params: &mut Params) -> Result<Value, RpcError> {
        let keys = storage_keys(&params.value())?;
        let block = self.block_at(None)?;
        let values = change_set(&to_hex(block.hash), Self::state_of(&block)?, &keys);
        let name = self.subscribe(Subscription::Storage(keys))?;
        self.outbox.push(notification("state_storage", &name, &values));
        Ok(json!(name))
    }
}

fn change_set(block: &str, after: &After, keys: &[Vec<u8>]) -> Value {
    let change = |key: &Vec<u8>| json!([to_hex(key), after.storage_value(key).map(to_hex)]);
    json!({ "block": block, "changes": keys.iter().map(change).collect::<Vec<_>>() })
}

fn storage_keys(keys: &Value) -> Result<Vec<Vec<u8>>, RpcError> {
    let keys = keys.as_array().filter(|keys| keys.len() <= KEYS_MAX);
    let keys = keys.ok_or_else(|| RpcError::invalid_params("expected a list of keys"))?;
    keys.iter().map(|key| parse_hex(key.as_str().unwrap_or_default())).collect()
}
