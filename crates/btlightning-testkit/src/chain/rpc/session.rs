//! A client's session: its requests one by one, and its subscriptions.

use super::{
    super::{
        block::{After, Block, Hash},
        failure::Failure,
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
        let parsed = match serde_json::from_str(text) {
            Ok(parsed) => parsed,
            Err(_) => {
                return Reaction::Send(vec![error_response(&Value::Null, &RpcError::not_json()).to_string()]);
            }
        };
        match parsed {
            Value::Array(batch) if batch.is_empty() || batch.len() > BATCH_MAX => {
                Reaction::Send(vec![error_response(&Value::Null, &RpcError::invalid_request()).to_string()])
            }
            Value::Array(batch) => self.receive_batch(batch),
            request => self.receive_one(request),
        }
    }

    fn receive_batch(&mut self, batch: Vec<Value>) -> Reaction {
        let mut responses = Vec::new();
        for request in batch {
            match self.failure_of(&request) {
                Some(Failure::Silent | Failure::Refuse | Failure::HangUp | Failure::Mute) => {
                    return Reaction::Send(Vec::new());
                }
                Some(Failure::Disconnect) => return Reaction::Disconnect,
                failure => responses.push(self.respond(request, failure.as_ref())),
            }
        }
        self.with_outbox(Value::Array(responses).to_string())
    }

    fn receive_one(&mut self, request: Value) -> Reaction {
        match self.failure_of(&request) {
            Some(Failure::Silent | Failure::Refuse | Failure::HangUp | Failure::Mute) => {
                Reaction::Send(Vec::new())
            }
            Some(Failure::Disconnect) => Reaction::Disconnect,
            Some(Failure::Delay(delay)) => {
                let response = self.respond(request, None).to_string();
                match self.with_outbox(response) {
                    Reaction::Send(messages) => Reaction::Delay(delay, messages),
                    other => other,
                }
            }
            Some(Failure::Garbage(garbage)) => match garbage.spoil_response(self.respond(request, None)) {
                Some(response) => self.with_outbox(response.to_string()),
                None if garbage == super::super::failure::Garbage::Binary => {
                    Reaction::SendBinary(vec!["\u{1}garbage\u{2}".into()])
                }
                None => Reaction::Send(vec!["this is no JSON".into()]),
            },
            failure => {
                let response = self.respond(request, failure.as_ref()).to_string();
                self.with_outbox(response)
            }
        }
    }

    fn with_outbox(&mut self, response: String) -> Reaction {
        let notifications = std::mem::take(&mut self.outbox);
        let notifications = notifications.into_iter().map(|notification| notification.to_string());
        Reaction::Send(std::iter::once(response).chain(notifications).collect())
    }

    fn failure_of(&self, request: &Value) -> Option<Failure> {
        let method = request["method"].as_str().unwrap_or_default();
        let function = match method {
            "state_call" | "state_callAt" => request["params"][0].as_str(),
            "chainHead_v1_call" => request["params"][2].as_str(),
            _ => None,
        };
        // The runtime's answers are spoilt where they are made.
        self.node
            .failure_of(method, function)
            .filter(|failure| !matches!(failure, Failure::Garbage(garbage) if garbage.is_of_runtime()))
    }

    fn respond(&mut self, mut request: Value, failure: Option<&Failure>) -> Value {
        if !request.is_object() {
            return error_response(&Value::Null, &RpcError::invalid_request());
        }
        let (id, params) = (request["id"].take(), request["params"].take());
        let Some(method) = request["method"].as_str() else {
            return error_response(&id, &RpcError::invalid_request());
        };
        self.count(method);
        let result = match failure {
            Some(Failure::Error { code, message }) => Err(RpcError::new(*code, message)),
            _ => methods::call(self, method, params),
        };
        match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => error_response(&id, &error),
        }
    }

    fn count(&self, name: &str) {
        self.node.requests.add(name);
        self.shared.requests.add(name);
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
        self.count(function);
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

fn error_response(id: &Value, error: &RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() })
}
