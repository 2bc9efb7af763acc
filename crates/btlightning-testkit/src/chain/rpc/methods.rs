//! Which methods a node has.

use super::{error::RpcError, params::Params, session::Session};
use serde_json::{Value, json};

/// Which of the two families of methods a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpcMethods {
    /// Both, and `archive_v1` is on the list, but refused: as a mainnet node that prunes.
    #[default]
    All,
    /// `chain_`, `state_`, `author_`, `system_`: as old nodes.
    Legacy,
    /// `chainHead_v1`, `chainSpec_v1`, `transaction_v1`, `transactionWatch_v1`.
    ChainHead,
}

const NEWER_PREFIXES: [&str; 5] =
    ["chainHead_v1_", "chainSpec_v1_", "transaction_v1_", "transactionWatch_v1_", "archive_v1_"];

/// Every method that [`call`] knows, and those of the archive, which it refuses.
const METHODS: [&str; 67] = [
    "account_nextIndex",
    "archive_v1_body",
    "archive_v1_call",
    "archive_v1_finalizedHeight",
    "archive_v1_genesisHash",
    "archive_v1_hashByHeight",
    "archive_v1_header",
    "archive_v1_storage",
    "author_pendingExtrinsics",
    "author_submitAndWatchExtrinsic",
    "author_submitExtrinsic",
    "author_unwatchExtrinsic",
    "chainHead_v1_body",
    "chainHead_v1_call",
    "chainHead_v1_continue",
    "chainHead_v1_follow",
    "chainHead_v1_header",
    "chainHead_v1_stopOperation",
    "chainHead_v1_storage",
    "chainHead_v1_unfollow",
    "chainHead_v1_unpin",
    "chainSpec_v1_chainName",
    "chainSpec_v1_genesisHash",
    "chainSpec_v1_properties",
    "chain_getBlock",
    "chain_getBlockHash",
    "chain_getFinalisedHead",
    "chain_getFinalizedHead",
    "chain_getHead",
    "chain_getHeader",
    "chain_getRuntimeVersion",
    "chain_subscribeAllHeads",
    "chain_subscribeFinalizedHeads",
    "chain_subscribeNewHead",
    "chain_subscribeNewHeads",
    "chain_unsubscribeAllHeads",
    "chain_unsubscribeFinalizedHeads",
    "chain_unsubscribeNewHead",
    "chain_unsubscribeNewHeads",
    "rpc_methods",
    "state_call",
    "state_callAt",
    "state_getKeysPaged",
    "state_getKeysPagedAt",
    "state_getMetadata",
    "state_getRuntimeVersion",
    "state_getStorage",
    "state_getStorageAt",
    "state_getStorageHash",
    "state_getStorageSize",
    "state_queryStorageAt",
    "state_subscribeRuntimeVersion",
    "state_subscribeStorage",
    "state_unsubscribeRuntimeVersion",
    "state_unsubscribeStorage",
    "system_accountNextIndex",
    "system_chain",
    "system_chainType",
    "system_health",
    "system_name",
    "system_properties",
    "system_syncState",
    "system_version",
    "transactionWatch_v1_submitAndWatch",
    "transactionWatch_v1_unwatch",
    "transaction_v1_broadcast",
    "transaction_v1_stop",
];

impl RpcMethods {
    fn has(self, method: &str) -> bool {
        let newer = NEWER_PREFIXES.iter().any(|prefix| method.starts_with(prefix));
        let in_family = match self {
            Self::All => true,
            Self::Legacy => !newer,
            Self::ChainHead => newer || method == "rpc_methods",
        };
        in_family && METHODS.contains(&method)
    }

    fn list(self) -> Value {
        let methods: Vec<&str> = METHODS.into_iter().filter(|method| self.has(method)).collect();
        json!({ "methods": methods })
    }
}

/// What a method answers.
pub(super) fn call(session: &mut Session, method: &str, params: Value) -> Result<Value, RpcError> {
    let methods = session.node.methods();
    if !methods.has(method) {
        return Err(RpcError::method_not_found());
    }
    let params = Params::new(params);
    let family = method.split_once('_').map_or(method, |(family, _)| family);
    match family {
        "rpc" => Ok(methods.list()),
        "archive" => Err(RpcError::refused()),
        "author" | "transaction" | "transactionWatch" => session.author(method, params),
        "chain" => session.chain(method, params),
        "chainHead" | "chainSpec" => session.chain_head(method, params),
        "state" => session.state(method, params),
        _ => session.system(method, params),
    }
}
