//! The traits of btlightning 0.2, and how its handlers run as the native ones do.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use rmpv::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::call::{Call, Response};
use super::chunks::ChunkSender;
use super::handler::{BlockingHandler, Handler, HandlerError, StreamHandler, UnaryHandler};
use crate::error::{LightningError, Result};
use crate::wire::{ScanLimits, Scanned, decode_map, from_map, to_payload};

/// Answers a request once; may block. Runs on a thread of the blocking pool, together with at most 447 others,
/// 335 of them for the same validator.
///
/// A panic fails the one request. When the caller is gone or `handler_timeout_secs` is over, the handler runs on, and
/// its answer is dropped.
pub trait SynapseHandler: Send + Sync {
    /// Answers a request of the registered name with the answer's data.
    ///
    /// # Errors
    /// The caller reads `request processing failed`; the words are logged.
    fn handle(&self, synapse_type: &str, data: HashMap<String, Value>) -> Result<HashMap<String, Value>>;

    /// The same handler without the maps, if it has such a form.
    #[doc(hidden)]
    fn into_native(self: Arc<Self>) -> Option<Handler> {
        None
    }
}

/// Answers a request once, asynchronously. Dropped at an await when the caller is gone or `handler_timeout_secs` is
/// over; a panic fails the one request.
#[async_trait]
pub trait AsyncSynapseHandler: Send + Sync {
    /// Answers a request of the registered name with the answer's data.
    ///
    /// # Errors
    /// The caller reads `request processing failed`; the words are logged.
    async fn handle(
        &self,
        synapse_type: &str,
        data: HashMap<String, Value>,
    ) -> Result<HashMap<String, Value>>;

    /// The same handler without the maps, if it has such a form.
    #[doc(hidden)]
    fn into_native(self: Arc<Self>) -> Option<Handler> {
        None
    }
}

/// Answers a request in chunks. Dropped at an await when the caller is gone or `handler_timeout_secs` is over; a panic
/// fails the one request.
#[async_trait]
pub trait StreamingSynapseHandler: Send + Sync {
    /// Answers a request of the registered name by sending chunks, each at most a few bytes below
    /// `max_frame_payload_bytes`. Sending waits while the caller reads slowly, and fails once it is gone; where one
    /// connection has more than two such streams at once, the others are four chunks ahead at most. The stream ends when this has returned and every clone of `sender` is dropped.
    ///
    /// # Errors
    /// After the chunks that were sent the caller reads `stream processing failed`; the words are logged.
    async fn handle(
        &self,
        synapse_type: &str,
        data: HashMap<String, Value>,
        sender: mpsc::Sender<Vec<u8>>,
    ) -> Result<()>;
}

/// Knows which validators hold a permit.
pub trait ValidatorPermitResolver: Send + Sync {
    /// The hotkeys of all validators that hold a permit, in SS58. May block: called on a thread of the blocking pool,
    /// when the server begins to serve and then every `validator_permit_refresh_secs`, and never again before the last
    /// call has returned.
    ///
    /// # Errors
    /// Logged; the last set stays in force.
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>>;

    /// Changes when it is worth asking before the time.
    #[doc(hidden)]
    fn news(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Which addresses may connect while `enforce_source_allowlist` is set.
#[derive(Debug, Clone)]
pub enum SourceAllowlist {
    /// All of them, until the next refresh.
    Bypass,
    /// Only these.
    Enforce(HashSet<IpAddr>),
}

/// Knows which addresses may connect.
pub trait SourceAddressResolver: Send + Sync {
    /// The addresses that may connect. May block: called on a thread of the blocking pool, when the server begins to
    /// serve and then every `source_allowlist_refresh_secs`, and never again before the last call has returned.
    ///
    /// # Errors
    /// Logged; the last answer stays in force, and before the first one nobody may connect.
    fn resolve_allowed_sources(&self) -> Result<SourceAllowlist>;
}

/// Is told of validators that have authenticated.
#[async_trait]
pub trait HandshakeObserver: Send + Sync {
    /// Called after each accepted handshake, on a task that no connection waits for. `source_ip` is the address that
    /// the connection was accepted from. A call is given 30 s; while 64 of them run, further handshakes go unobserved.
    async fn observe_successful_handshake(&self, validator_hotkey: &str, source_ip: IpAddr);
}

/// A [`SynapseHandler`] from a closure over types. Registered with a server, the closure's types are decoded from the
/// frame and encoded into it, without a map in between.
pub fn typed_handler<Req, Resp, E, F>(f: F) -> Arc<dyn SynapseHandler>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + 'static,
    E: Display + 'static,
    F: Fn(Req) -> std::result::Result<Resp, E> + Send + Sync + 'static,
{
    Arc::new(Typed { f, request: PhantomData::<fn(Req)> })
}

/// An [`AsyncSynapseHandler`] from a closure over types, as [`typed_handler`].
pub fn typed_async_handler<Req, Resp, E, F, Fut>(f: F) -> Arc<dyn AsyncSynapseHandler>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + 'static,
    E: Display + 'static,
    F: Fn(Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = std::result::Result<Resp, E>> + Send + 'static,
{
    Arc::new(TypedAsync { f, request: PhantomData::<fn(Req)> })
}

struct Typed<F, Req> {
    f: F,
    request: PhantomData<fn(Req)>,
}

impl<Req, Resp, E, F> SynapseHandler for Typed<F, Req>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + 'static,
    E: Display + 'static,
    F: Fn(Req) -> std::result::Result<Resp, E> + Send + Sync + 'static,
{
    fn handle(&self, _: &str, data: HashMap<String, Value>) -> Result<HashMap<String, Value>> {
        map_of(&(self.f)(from_map(&data)?).map_err(LightningError::handler)?)
    }

    fn into_native(self: Arc<Self>) -> Option<Handler> {
        Some(Handler::typed_blocking(move |_, request| (self.f)(request)))
    }
}

struct TypedAsync<F, Req> {
    f: F,
    request: PhantomData<fn(Req)>,
}

#[async_trait]
impl<Req, Resp, E, F, Fut> AsyncSynapseHandler for TypedAsync<F, Req>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + 'static,
    E: Display + 'static,
    F: Fn(Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = std::result::Result<Resp, E>> + Send + 'static,
{
    async fn handle(&self, _: &str, data: HashMap<String, Value>) -> Result<HashMap<String, Value>> {
        let answering = (self.f)(from_map(&data)?);
        drop(data);
        let answer = answering.await.map_err(LightningError::handler)?;
        map_of(&answer)
    }

    fn into_native(self: Arc<Self>) -> Option<Handler> {
        Some(Handler::typed(move |_, request| (self.f)(request)))
    }
}

fn map_of<T: Serialize>(data: &T) -> Result<HashMap<String, Value>> {
    let mut payload = Vec::new();
    to_payload(data, &mut payload)?;
    Ok(decode_map(Scanned::whole(&payload, &ScanLimits::trusted())?)?)
}

/// The native form of a [`SynapseHandler`].
pub(super) fn from_sync(handler: Arc<dyn SynapseHandler>) -> Handler {
    match handler.clone().into_native() {
        Some(native) => native,
        None => Handler::Blocking(Arc::new(SyncAdapter(handler))),
    }
}

/// The native form of an [`AsyncSynapseHandler`].
pub(super) fn from_async(handler: Arc<dyn AsyncSynapseHandler>) -> Handler {
    match handler.clone().into_native() {
        Some(native) => native,
        None => Handler::Unary(Arc::new(AsyncAdapter(handler))),
    }
}

/// The native form of a [`StreamingSynapseHandler`].
pub(super) fn from_streaming(handler: Arc<dyn StreamingSynapseHandler>) -> Handler {
    Handler::Streaming(Arc::new(StreamingAdapter(handler)))
}

/// What a published handler is given. The frame is gone by then: it is not needed while the handler works.
fn name_and_data(call: Call) -> std::result::Result<(String, HashMap<String, Value>), HandlerError> {
    Ok((call.synapse_type().to_owned(), call.into_map()?))
}

struct SyncAdapter(Arc<dyn SynapseHandler>);

impl BlockingHandler for SyncAdapter {
    fn handle(&self, call: Call) -> std::result::Result<Response, HandlerError> {
        let (name, data) = name_and_data(call)?;
        Response::from_owned_map(self.0.handle(&name, data)?)
    }
}

struct AsyncAdapter(Arc<dyn AsyncSynapseHandler>);

#[async_trait]
impl UnaryHandler for AsyncAdapter {
    async fn handle(&self, call: Call) -> std::result::Result<Response, HandlerError> {
        let (name, data) = name_and_data(call)?;
        Response::from_owned_map(self.0.handle(&name, data).await?)
    }
}

struct StreamingAdapter(Arc<dyn StreamingSynapseHandler>);

#[async_trait]
impl StreamHandler for StreamingAdapter {
    async fn handle(&self, call: Call, chunks: ChunkSender) -> std::result::Result<(), HandlerError> {
        let (name, data) = name_and_data(call)?;
        Ok(self.0.handle(&name, data, chunks.into_published().await?).await?)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Square {
        of: i64,
    }

    #[derive(Serialize)]
    struct Area {
        is: i64,
    }

    fn request(of: i64) -> HashMap<String, Value> {
        HashMap::from([("of".to_owned(), Value::from(of))])
    }

    #[test]
    fn a_typed_handler_called_with_a_map_answers_with_a_map() {
        let handler = typed_handler(|square: Square| {
            if square.of < 0 { Err("negative") } else { Ok(Area { is: square.of * square.of }) }
        });
        let answer = handler.handle("square", request(3)).unwrap();
        assert_eq!(answer, HashMap::from([("is".to_owned(), Value::from(9))]));
        assert!(
            matches!(handler.handle("square", request(-1)), Err(LightningError::Handler(why)) if why == "negative")
        );
        assert!(matches!(handler.handle("square", HashMap::new()), Err(LightningError::Serialization(_))));
    }

    #[tokio::test]
    async fn a_typed_async_handler_called_with_a_map_answers_with_a_map() {
        let handler =
            typed_async_handler(|square: Square| async move { Ok::<_, String>(Area { is: square.of + 1 }) });
        let answer = handler.handle("square", request(3)).await.unwrap();
        assert_eq!(answer, HashMap::from([("is".to_owned(), Value::from(4))]));
    }

    #[test]
    fn typed_handlers_have_a_native_form_and_others_are_adapted() {
        struct Plain;
        impl SynapseHandler for Plain {
            fn handle(&self, _: &str, data: HashMap<String, Value>) -> Result<HashMap<String, Value>> {
                Ok(data)
            }
        }
        let plain: Arc<dyn SynapseHandler> = Arc::new(Plain);
        assert!(plain.into_native().is_none());
        let typed = typed_handler(|square: Square| Ok::<_, String>(Area { is: square.of }));
        assert!(matches!(typed.into_native(), Some(Handler::Blocking(_))));
        let typed =
            typed_async_handler(|square: Square| async move { Ok::<_, String>(Area { is: square.of }) });
        assert!(matches!(typed.into_native(), Some(Handler::Unary(_))));
    }
}
