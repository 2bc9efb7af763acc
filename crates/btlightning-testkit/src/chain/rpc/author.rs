//! `author_`, `transaction_v1` and `transactionWatch_v1`: extrinsics on their way into a block.

use super::{
    super::{extrinsic::validity::Valid, world::PoolError},
    error::RpcError,
    params::{Params, to_hex},
    session::Session,
    subscriptions::{Dialect, Status, Subscription, notification},
};
use serde_json::{Value, json};

/// Extrinsics that a client may have the node broadcast at once.
const BROADCASTS_MAX: usize = 64;

impl Session {
    pub(super) fn author(&mut self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        match method {
            "author_submitExtrinsic" => {
                let (hash, _) = self.shared.submit(&params.bytes()?)?;
                Ok(json!(to_hex(hash)))
            }
            "author_submitAndWatchExtrinsic" => {
                let (hash, valid) = self.shared.submit(&params.bytes()?)?;
                let watch = Subscription::Watch { extrinsic: hash, dialect: Dialect::Author };
                let name = self.subscribe(watch)?;
                self.tell(&name, Dialect::Author, &valid.into());
                Ok(json!(name))
            }
            "author_pendingExtrinsics" => {
                let pending = self.shared.world().pending();
                Ok(json!(pending.into_iter().map(to_hex).collect::<Vec<_>>()))
            }
            "transactionWatch_v1_submitAndWatch" => self.submit_and_watch(&params.bytes()?),
            "transaction_v1_broadcast" => Ok(self.broadcast(&params.bytes()?)),
            "transaction_v1_stop" => {
                let stopped = self.broadcasts.remove(&params.text()?);
                stopped.map(|_| Value::Null).ok_or_else(|| RpcError::invalid_params("unknown operation"))
            }
            // `author_unwatchExtrinsic` and `transactionWatch_v1_unwatch`.
            _ => self.unsubscribe(&mut params),
        }
    }

    /// The newer way: what is wrong with the extrinsic comes as an event.
    fn submit_and_watch(&mut self, bytes: &[u8]) -> Result<Value, RpcError> {
        let (status, extrinsic) = match self.shared.submit(bytes) {
            Ok((hash, valid)) => (Status::from(valid), Some(hash)),
            Err(PoolError::Invalid(invalid)) => (Status::Invalid(invalid.reason()), None),
            Err(PoolError::Malformed(why)) => (Status::Invalid(why), None),
            Err(PoolError::AlreadyImported(_)) => (Status::Dropped("already imported".into()), None),
            Err(PoolError::TooLowPriority) => (Status::Dropped("the priority is too low".into()), None),
            Err(PoolError::Full) => (Status::Dropped("the pool is full".into()), None),
        };
        let name = match extrinsic {
            Some(extrinsic) => self.subscribe(Subscription::Watch { extrinsic, dialect: Dialect::Watch })?,
            None => self.name("subscription"),
        };
        self.tell(&name, Dialect::Watch, &status);
        Ok(json!(name))
    }

    /// The name of the broadcast, whatever the extrinsic is worth; `null` if there are too many.
    fn broadcast(&mut self, bytes: &[u8]) -> Value {
        if self.broadcasts.len() >= BROADCASTS_MAX {
            return Value::Null;
        }
        let hash = self.shared.submit(bytes).map_or([0; 32], |(hash, _)| hash);
        let name = self.name("broadcast");
        self.broadcasts.insert(name.clone(), hash);
        json!(name)
    }

    fn tell(&mut self, name: &str, dialect: Dialect, status: &Status) {
        self.outbox.push(notification(dialect.method(), name, &status.to_json(dialect)));
    }
}

impl From<Valid> for Status {
    fn from(valid: Valid) -> Self {
        match valid {
            Valid::Ready => Self::Ready,
            Valid::Future => Self::Future,
        }
    }
}
