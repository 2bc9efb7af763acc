//! Parameters of requests, read one by one.

use super::{super::block::Hash, error::RpcError};
use serde_json::Value;

/// The parameters of a request that are not read yet. Those that are left out count as `null`, and so do all of an
/// object's: nobody names parameters.
pub(super) struct Params(std::vec::IntoIter<Value>);

impl Params {
    pub(super) fn new(params: Value) -> Self {
        match params {
            Value::Array(items) => Self(items.into_iter()),
            _ => Self(Vec::new().into_iter()),
        }
    }

    fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }

    pub(super) fn value(&mut self) -> Value {
        self.next()
    }

    pub(super) fn text(&mut self) -> Result<String, RpcError> {
        match self.next() {
            Value::String(text) => Ok(text),
            _ => Err(RpcError::invalid_params("expected a string")),
        }
    }

    pub(super) fn flag(&mut self) -> bool {
        self.next() == Value::Bool(true)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, RpcError> {
        self.optional_bytes()?.ok_or_else(|| RpcError::invalid_params("expected bytes in hex"))
    }

    pub(super) fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, RpcError> {
        match self.next() {
            Value::Null => Ok(None),
            Value::String(text) => parse_hex(&text).map(Some),
            _ => Err(RpcError::invalid_params("expected bytes in hex")),
        }
    }

    pub(super) fn hash(&mut self) -> Result<Hash, RpcError> {
        self.optional_hash()?.ok_or_else(|| RpcError::invalid_params("expected a hash"))
    }

    pub(super) fn optional_hash(&mut self) -> Result<Option<Hash>, RpcError> {
        let Some(bytes) = self.optional_bytes()? else { return Ok(None) };
        bytes.try_into().map(Some).map_err(|_| RpcError::invalid_params("expected 32 bytes in hex"))
    }

    pub(super) fn number(&mut self) -> Result<u64, RpcError> {
        block_number(&self.next())
    }
}

/// A number, as such or in hex, as block numbers come.
pub(super) fn block_number(value: &Value) -> Result<u64, RpcError> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()),
        _ => None,
    };
    number.ok_or_else(|| RpcError::invalid_params("expected a number"))
}

/// Bytes in hex; a node does not insist on the `0x`.
pub(super) fn parse_hex(text: &str) -> Result<Vec<u8>, RpcError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).map_err(|error| RpcError::invalid_params(&error.to_string()))
}

pub(super) fn to_hex(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}
