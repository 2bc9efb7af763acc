//! JSON-RPC as a Substrate node speaks it, both the old methods and `chainHead_v1`.

mod author;
mod chain;
mod chain_head;
pub(super) mod connection;
mod error;
mod methods;
mod params;
mod session;
mod state;
mod subscriptions;

pub use methods::RpcMethods;
