//! A client's session: its requests one by one, and its subscriptions.

use super::{
    super::{
        block::{After, Block, Hash},
        failure::{Failure, Garbage},
        node::NodeState,
        runtime,
        shared::Shared,
    },
    error::{RpcError, call_failed},
    methods,
    params::to_hex,
    subscriptions::Subscription,
};
use parity_scale_codec::Encode;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Requests that a batch may have.
const BATCH_MAX: usize = 256;

/// Subscriptions that a session may have.
const SUBSCRIPTIONS_MAX: usize = 1_024;

/// What a client has on one connection.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) node: Arc<NodeState>,
    pub(super) subscriptions: BTreeMap<String, Subscription>,
    /// Notifications that go out after the response to the request at hand.
    pub(super) outbox: Vec<Value>,
    /// Extrinsics that the client has the node broadcast, by its name for that.
    pub(super) broadcasts: HashMap<String, Hash>,
    ids: u64,
}

/// What is to be done about a message.
pub(super) enum Reaction {
    /// Send these, in this order.
    Send(Vec<String>),
    /// Send these as binary messages: garbage.
    SendBinary(Vec<String>),
    /// Send these, but later.
    Delay(std::time::Duration, Vec<String>),
    Disconnect,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, node: Arc<NodeState>) -> Self {
        Self {
            shared,
            node,
            subscriptions: BTreeMap::new(),
            outbox: Vec::new(),
            broadcasts: HashMap::new(),
            ids: 0,
        }
    }

    /// Answers a message: a request or a batch of them.
    pub(super) fn receive(&mut self, text: &str) -> Reaction {
        let (requests, is_batch) = match serde_json::from_str(text) {
            Ok(Value::Array(batch)) if batch.is_empty() || batch.len() > BATCH_MAX => {
                return refuse(&RpcError::invalid_request());
            }
            Ok(Value::Array(batch)) => (batch, true),
            Ok(request) => (vec![request], false),
            Err(_) => return refuse(&RpcError::not_json()),
        };
        requests.iter().for_each(|request| self.count(request));
        let failures: Vec<_> = requests.iter().map(|request| self.failure_of(request)).collect();
        // What is of connections is of a whole batch.
        if failures.iter().flatten().any(|failure| *failure == Failure::Disconnect) {
            return Reaction::Disconnect;
        }
        if failures.iter().flatten().any(Failure::is_silence) {
            return Reaction::Send(Vec::new());
        }
        let mut responses = Vec::new();
        for (request, failure) in requests.into_iter().zip(&failures) {
            let response = self.respond(request, failure.as_ref());
            responses.push(match failure {
                Some(Failure::Garbage(garbage)) => garbage.spoil_response(response),
                _ => response,
            });
        }
        let response = if is_batch { Value::Array(responses) } else { responses.remove(0) };
        let notifications = std::mem::take(&mut self.outbox);
        let messages =
            std::iter::once(response).chain(notifications).map(|message| message.to_string()).collect();
        match failures.into_iter().flatten().next() {
            Some(Failure::Delay(delay)) => Reaction::Delay(delay, messages),
            Some(Failure::Garbage(Garbage::Binary)) => Reaction::SendBinary(messages),
            Some(Failure::Garbage(Garbage::NotJson)) => Reaction::Send(vec!["this is no JSON".into()]),
            _ => Reaction::Send(messages),
        }
    }

    fn count(&self, request: &Value) {
        let (method, function) = subject(request);
        for name in [method, function].into_iter().flatten() {
            self.node.requests.add(name);
            self.shared.requests.add(name);
        }
    }

    fn failure_of(&self, request: &Value) -> Option<Failure> {
        let (method, function) = subject(request);
        let failure = self.node.failure_of(method.unwrap_or_default(), function)?;
        // The runtime's answers are spoilt where they are made.
        let of_runtime = matches!(failure, Failure::Garbage(garbage) if garbage.is_of_runtime());
        (!of_runtime).then_some(failure)
    }

    fn respond(&mut self, mut request: Value, failure: Option<&Failure>) -> Value {
        let part = |request: &mut Value, name| request.get_mut(name).map(Value::take).unwrap_or_default();
        let (id, params) = (part(&mut request, "id"), part(&mut request, "params"));
        let (Some(method), _) = subject(&request) else {
            return error_response(&id, &RpcError::invalid_request());
        };
        let result = match failure {
            Some(Failure::Error { code, message }) => Err(RpcError::new(*code, message)),
            _ => methods::call(self, method, params),
        };
        match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => error_response(&id, &error),
        }
    }

    /// Opens a subscription; its first notifications go out after the response, which is its name.
    pub(super) fn subscribe(&mut self, subscription: Subscription) -> Result<String, RpcError> {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(RpcError::too_many("subscriptions"));
        }
        let name = self.name("subscription");
        self.subscriptions.insert(name.clone(), subscription);
        Ok(name)
    }

    /// A name that the session has not given yet.
    pub(super) fn name(&mut self, what: &str) -> String {
        self.ids += 1;
        hex::encode(sp_crypto_hashing::blake2_64(&(what, self.ids).encode()))
    }

    /// The block with a hash, or the best one, and what is true after it.
    pub(super) fn block_at(&self, hash: Option<Hash>) -> Result<Arc<Block>, RpcError> {
        let world = self.shared.world();
        match hash {
            None => Ok(world.ledger.best().clone()),
            Some(hash) => world.ledger.by_hash(&hash).cloned().ok_or_else(|| RpcError::unknown_block(&hash)),
        }
    }

    pub(super) fn state_of(block: &Block) -> Result<&After, RpcError> {
        block.after.as_ref().ok_or_else(|| RpcError::discarded_state(&block.hash))
    }

    /// Calls a function of the runtime of `block`; an error is what the node says of it.
    pub(super) fn call_runtime(&self, block: &Block, function: &str, args: &[u8]) -> Result<Vec<u8>, String> {
        let after = block.after.as_ref();
        let after = after
            .ok_or_else(|| format!("UnknownBlock: State already discarded for {}", to_hex(block.hash)))?;
        // Only the chain knows the blocks that an extrinsic may have been born in.
        let judged = match function {
            "TaggedTransactionQueue_validate_transaction" => self.shared.world().validity_answer(args),
            _ => None,
        };
        let answer = match judged {
            Some(answer) => answer,
            None => {
                runtime::call(block, after, function, args).map_err(|error| call_failed(function, error))?
            }
        };
        Ok(match self.node.failure_of("", Some(function)) {
            Some(Failure::Garbage(garbage)) => garbage.spoil_answer(answer),
            _ => answer,
        })
    }
}

/// The method of a request, and the function of the runtime that it calls.
fn subject(request: &Value) -> (Option<&str>, Option<&str>) {
    let method = request.get("method").and_then(Value::as_str);
    let function = match method {
        Some("state_call" | "state_callAt") => request["params"].get(0),
        Some("chainHead_v1_call") => request["params"].get(2),
        _ => None,
    };
    (method, function.and_then(Value::as_str))
}

fn refuse(error: &RpcError) -> Reaction {
    Reaction::Send(vec![error_response(&Value::Null, error).to_string()])
}

fn error_response(id: &Value, error: &RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() })
}
