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

use crate::runtimes::{Runtimes, TooMany};
use crate::words::printable;

const CALL: &str = "chainHead_v1_call";
const FOLLOW: &str = "chainHead_v1_follow";
/// Ends of operations that are kept for a call whose first answer is still on its way; the last ones only.
const ENDS_MAX: usize = 256;
/// Nodes name their operations by numbers or by a few random letters.
const OPERATION_BYTES_MAX: usize = 128;
/// As a node's own code for a failed runtime call.
const CALL_FAILED: i32 = 4003;

/// An RPC client that tells of `chainHead` calls that failed.
pub(crate) struct Attentive<C> {
    client: C,
    runtimes: Runtimes,
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
    pub(crate) fn new(client: C, runtimes: Runtimes) -> Self {
        Self { client, runtimes, operations: Arc::default() }
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
            let end = match is_kept(&operation) {
                true => end_of(&self.operations, operation).await,
                false => Err("the operation's name is too long".to_owned()),
            };
            match end {
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
            let operations = Arc::clone(&self.operations);
            let listener = Listener { operations, runtimes: self.runtimes.clone() };
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

/// Whether the name of an operation is short enough to be kept.
fn is_kept(operation: &str) -> bool {
    operation.len() <= OPERATION_BYTES_MAX
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
struct Listener {
    operations: Arc<Mutex<Operations>>,
    runtimes: Runtimes,
}

impl Listener {
    /// Takes note of `event`, and gives what subxt is to hear.
    fn hear(&self, event: Box<RawValue>) -> Box<RawValue> {
        let Ok(heard) = serde_json::from_str::<Event>(event.get()) else { return event };
        match heard {
            Event::OperationCallDone { operation_id, output } => match self.runtimes.hear(output) {
                Ok(()) => self.ended(operation_id, Ok(())),
                Err(TooMany) => return self.failed(operation_id, TooMany::REASON, event),
            },
            Event::OperationError { operation_id, error } => self.ended(operation_id, Err(printable(error))),
            Event::OperationInaccessible { operation_id } => {
                return self.failed(operation_id, "the block cannot be accessed any more", event);
            }
            Event::Stop => self.forget(),
        }
        event
    }

    /// Ends the operation with an error, which is also what subxt hears instead of `event`: of the ends that are bad it
    /// knows the errors of storage operations only, and lets others pass.
    fn failed(&self, operation: String, error: &str, event: Box<RawValue>) -> Box<RawValue> {
        let said = serde_json::json!({ "event": "operationError", "operationId": operation, "error": error });
        self.ended(operation, Err(error.into()));
        serde_json::value::to_raw_value(&said).unwrap_or(event)
    }

    fn ended(&self, operation: String, end: End) {
        if !is_kept(&operation) {
            return;
        }
        let mut operations = lock(&self.operations);
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
        *lock(&self.operations) = Operations::default();
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
    OperationCallDone { operation_id: String, output: String },
    OperationError { operation_id: String, error: String },
    OperationInaccessible { operation_id: String },
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener {
        Listener { operations: Arc::default(), runtimes: Runtimes::counted() }
    }

    fn hear(listener: &Listener, event: &serde_json::Value) {
        let event = serde_json::value::to_raw_value(event).unwrap();
        assert_eq!(listener.hear(event.clone()).get(), event.get());
    }

    #[tokio::test]
    async fn a_node_does_not_choose_how_much_is_kept_of_its_words() {
        let listener = listener();
        let event = |operation: &str, error: &str| serde_json::json!({ "event": "operationError", "operationId": operation, "error": error });
        hear(&listener, &event(&"x".repeat(129), "no"));
        assert!(lock(&listener.operations).ended.is_empty());
        let id = "x".repeat(128);
        hear(&listener, &event(&id, &"a\nb".repeat(1 << 20)));
        let error = end_of(&listener.operations, id).await.unwrap_err();
        assert!(error.chars().count() < 300 && !error.contains('\n'), "{error}");
        for operation in 0..2 * ENDS_MAX {
            hear(&listener, &event(&operation.to_string(), "no"));
        }
        assert_eq!(lock(&listener.operations).ended.len(), ENDS_MAX);
    }
}
