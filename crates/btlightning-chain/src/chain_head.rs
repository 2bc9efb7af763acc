//! [`Attentive`], what subxt's `chainHead` backend misses of its node.
//!
//! A node answers a `chainHead` operation twice: that it has begun, and, among the events of the subscription, how it
//! ended. subxt 0.50 waits for the good end of a runtime call only, so a call that the node refuses, such as one that
//! the runtime does not have, is waited for until somebody's patience is over. This client stands between the two: it
//! holds a call's first answer back until the end of the operation has been among the events, and turns a bad end into
//! an error of the call.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subxt::ext::futures::StreamExt;
use subxt::rpcs::client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT};
use subxt::rpcs::{Error, UserError};
use tokio::sync::oneshot;

const CALL: &str = "chainHead_v1_call";
const FOLLOW: &str = "chainHead_v1_follow";
/// Ends of operations that are kept for a call whose first answer is still on its way; the last ones only.
const ENDS_MAX: usize = 256;
/// As a node's own code for a failed runtime call.
const CALL_FAILED: i32 = 4003;

/// An RPC client that tells of `chainHead` calls that failed.
pub(crate) struct Attentive<C> {
    client: C,
    operations: Arc<Mutex<Operations>>,
}

/// How an operation ended, if badly: why.
type End = Result<(), String>;

#[derive(Default)]
struct Operations {
    /// Who waits for the end of which operation.
    waiting: HashMap<String, oneshot::Sender<End>>,
    /// What ended before anybody waited, oldest first.
    ended: VecDeque<(String, End)>,
}

impl<C> Attentive<C> {
    pub(crate) fn new(client: C) -> Self {
        Self { client, operations: Arc::default() }
    }
}

impl<C: RpcClientT> RpcClientT for Attentive<C> {
    fn request_raw<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
    ) -> RawRpcFuture<'a, Box<RawValue>> {
        let request = self.client.request_raw(method, params);
        if method != CALL {
            return request;
        }
        Box::pin(async move {
            let begun = request.await?;
            let Some(operation) = operation_begun(&begun) else { return Ok(begun) };
            match end_of(&self.operations, operation).await {
                Ok(()) => Ok(begun),
                Err(message) => Err(Error::User(UserError { code: CALL_FAILED, message, data: None })),
            }
        })
    }

    fn subscribe_raw<'a>(
        &'a self,
        subscribe: &'a str,
        params: Option<Box<RawValue>>,
        unsubscribe: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        let subscription = self.client.subscribe_raw(subscribe, params, unsubscribe);
        if subscribe != FOLLOW {
            return subscription;
        }
        Box::pin(async move {
            let RawRpcSubscription { stream, id } = subscription.await?;
            let listener = Listener(Arc::clone(&self.operations));
            let stream = stream.map(move |event| event.map(|event| listener.hear(event))).boxed();
            Ok(RawRpcSubscription { stream, id })
        })
    }
}

/// The operation that a first answer says has begun.
fn operation_begun(answer: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Begun {
        operation_id: String,
    }
    serde_json::from_str::<Begun>(answer.get()).ok().map(|begun| begun.operation_id)
}

/// Not bounded in time; who calls is.
async fn end_of(operations: &Mutex<Operations>, operation: String) -> End {
    let waiting = {
        let mut operations = lock(operations);
        if let Some(at) = operations.ended.iter().position(|(ended, _)| *ended == operation) {
            return operations.ended.remove(at).map_or(Ok(()), |(_, end)| end);
        }
        let (sender, waiting) = oneshot::channel();
        // Those who gave up are not waited for any more.
        operations.waiting.retain(|_, sender| !sender.is_closed());
        operations.waiting.insert(operation, sender);
        waiting
    };
    waiting.await.unwrap_or_else(|_| Err("the subscription ended".into()))
}

fn lock(operations: &Mutex<Operations>) -> MutexGuard<'_, Operations> {
    operations.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears the events of one subscription. When it ends, nobody waits for its operations any longer.
struct Listener(Arc<Mutex<Operations>>);

impl Listener {
    /// Takes note of `event`, and gives what subxt is to hear.
    fn hear(&self, event: Box<RawValue>) -> Box<RawValue> {
        let Ok(heard) = serde_json::from_str::<Event>(event.get()) else { return event };
        match heard {
            Event::OperationCallDone { operation_id } => self.ended(operation_id, Ok(())),
            Event::OperationError { operation_id, error } => self.ended(operation_id, Err(error)),
            Event::OperationInaccessible { operation_id } => {
                let error = "the block cannot be accessed any more";
                // subxt knows errors of storage operations, and lets this end pass.
                let said = serde_json::json!({
                    "event": "operationError", "operationId": operation_id, "error": error,
                });
                self.ended(operation_id, Err(error.into()));
                return serde_json::value::to_raw_value(&said).unwrap_or(event);
            }
            Event::Stop => self.forget(),
        }
        event
    }

    fn ended(&self, operation: String, end: End) {
        let mut operations = lock(&self.0);
        if let Some(waiting) = operations.waiting.remove(&operation) {
            // Whoever gave up meanwhile does not hear it.
            let _ = waiting.send(end);
            return;
        }
        if operations.ended.len() == ENDS_MAX {
            operations.ended.pop_front();
        }
        operations.ended.push_back((operation, end));
    }

    fn forget(&self) {
        *lock(&self.0) = Operations::default();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The events that matter here; others are not read.
#[derive(serde::Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Event {
    OperationCallDone { operation_id: String },
    OperationError { operation_id: String, error: String },
    OperationInaccessible { operation_id: String },
    Stop,
}
