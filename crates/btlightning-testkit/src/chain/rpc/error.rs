//! JSON-RPC errors, as a Substrate node words them.

use super::super::{runtime::CallError, world::PoolError};
use serde_json::{Value, json};

/// A JSON-RPC error.
#[derive(Debug)]
pub(super) struct RpcError {
    code: i64,
    message: String,
    data: Option<String>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    fn with_data(self, data: impl Into<String>) -> Self {
        Self { data: Some(data.into()), ..self }
    }

    pub(super) fn not_json() -> Self {
        Self::new(-32700, "Parse error")
    }

    pub(super) fn invalid_request() -> Self {
        Self::new(-32600, "Invalid request")
    }

    pub(super) fn method_not_found() -> Self {
        Self::new(-32601, "Method not found")
    }

    pub(super) fn invalid_params(what: &str) -> Self {
        Self::new(-32602, "Invalid params").with_data(what)
    }

    /// What a node that prunes says to whoever asks for the archive.
    pub(super) fn refused() -> Self {
        Self::new(-32601, "RPC call is unsafe to be called externally")
    }

    pub(super) fn too_many(what: &str) -> Self {
        Self::new(-32006, format!("Too many {what} on the connection"))
    }

    pub(super) fn unknown_block(hash: &[u8]) -> Self {
        Self::new(
            4003,
            format!(
                "Client error: UnknownBlock: Header was not found in the database: 0x{}",
                hex::encode(hash)
            ),
        )
    }

    pub(super) fn discarded_state(hash: &[u8]) -> Self {
        Self::new(
            4003,
            format!("Client error: UnknownBlock: State already discarded for 0x{}", hex::encode(hash)),
        )
    }

    /// `chainHead_v1`: a block that the subscription has not pinned.
    pub(super) fn invalid_block() -> Self {
        Self::new(-32801, "Invalid block hash")
    }

    pub(super) fn to_json(&self) -> Value {
        match &self.data {
            Some(data) => json!({ "code": self.code, "message": self.message, "data": data }),
            None => json!({ "code": self.code, "message": self.message }),
        }
    }
}

/// The words for a call without an answer, which clients match on.
pub(super) fn call_failed(function: &str, error: CallError) -> String {
    match error {
        CallError::NotFound => format!("Execution failed: Other: Exported method {function} is not found"),
        CallError::Trap(why) => format!("Execution failed: Execution aborted due to trap: {why}"),
    }
}

impl From<PoolError> for RpcError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Malformed(why) => Self::new(1001, format!("Extrinsic has invalid format: {why}")),
            PoolError::Invalid(invalid) => Self::new(1010, "Invalid Transaction").with_data(invalid.reason()),
            PoolError::AlreadyImported(hash) => Self::new(1013, "Transaction Already Imported")
                .with_data(format!("[0x{}]", hex::encode(hash))),
            PoolError::TooLowPriority => Self::new(1014, "Priority is too low: (0 vs 0)").with_data(
                "The transaction has too low priority to replace another transaction already in the pool.",
            ),
            PoolError::Full => Self::new(1016, "Immediately Dropped")
                .with_data("The transaction couldn't enter the pool because of the limit"),
        }
    }
}
