//! One request as its handler sees it, and the answer that the handler gives.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use rmpv::Value;
use serde::{Deserialize, Serialize};

use super::handler::HandlerError;
use super::intake::Share;
use crate::Hotkey;
use crate::transport::frame_io::Outgoing;
use crate::util::unix_timestamp_secs;
use crate::wire::{
    EncodeError, FRAME_HEADER_BYTES, PayloadWriter, RequestEnvelope, Scanned, decode_map, decode_map_from,
    encode_map, encode_response_frame, encode_response_pieces, from_payload, to_payload,
};

/// A number that tells this server's connections apart, as long as the server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asks, and until when an answer is of use.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Caller {
    /// The validator's hotkey, proven in the handshake of the connection that the request came on.
    pub hotkey: Hotkey,
    /// Where the connection comes from at the moment.
    pub remote_addr: SocketAddr,
    /// The connection.
    pub connection: ConnectionId,
    /// When the whole request was there.
    pub received_at: Instant,
    /// When the caller is told `handler timed out`, and the handler is dropped.
    pub deadline: Instant,
}

impl Caller {
    pub(super) fn new(
        hotkey: Hotkey,
        remote_addr: SocketAddr,
        connection: ConnectionId,
        received_at: Instant,
        deadline: Instant,
    ) -> Self {
        Self { hotkey, remote_addr, connection, received_at, deadline }
    }
}

/// A request. Its payload was checked to be well formed and within the limits of memory and nesting; it is decoded when
/// the handler asks for it, from the frame it arrived in.
///
/// The frame takes its share of what all requests of a connection may take together, until this is dropped. A handler
/// that has decoded a large request and then waits does well to drop it first.
#[derive(Debug)]
pub struct Call {
    caller: Caller,
    request: RequestEnvelope,
    _share: Share,
}

impl Call {
    pub(super) fn new(caller: Caller, request: RequestEnvelope, share: Share) -> Self {
        Self { caller, request, _share: share }
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The name that the handler was called by.
    pub fn synapse_type(&self) -> &str {
        self.request.synapse_type()
    }

    /// When the caller says that it sent the request, in seconds since the Unix epoch. Nobody has checked it.
    pub fn timestamp(&self) -> u64 {
        self.request.timestamp()
    }

    /// The payload as it stands on the wire: a MessagePack map.
    pub fn payload(&self) -> &[u8] {
        self.request.data().as_bytes()
    }

    /// The payload, checked and not decoded.
    pub fn data(&self) -> Scanned<'_> {
        self.request.data()
    }

    /// The payload as a value of the handler's type, which may borrow from the call.
    ///
    /// # Errors
    /// When the payload does not fit the type. Returned from the handler, the caller reads `request processing failed`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, HandlerError> {
        from_payload(self.request.data()).map_err(HandlerError::from)
    }

    /// The payload as a map of dynamic values.
    ///
    /// # Errors
    /// When a key is not a string.
    pub fn to_map(&self) -> Result<HashMap<String, Value>, HandlerError> {
        decode_map(self.request.data()).map_err(HandlerError::from)
    }

    /// [`to_map`](Self::to_map) of a call that is not needed any more. A byte string that is most of a large request is not
    /// copied.
    ///
    /// # Errors
    /// As [`to_map`](Self::to_map).
    pub fn into_map(self) -> Result<HashMap<String, Value>, HandlerError> {
        let Self { request, _share, .. } = self;
        decode_map_from(request.into_data()).map_err(HandlerError::from)
    }
}

/// The answer of a handler that succeeded, encoded in its frame.
#[derive(Debug)]
pub struct Response {
    frame: Outgoing,
}

impl Response {
    /// Answers with a struct, or anything else that serializes to a map with string keys.
    ///
    /// # Errors
    /// When `data` is not such a value, or refuses to be serialized. Returned from the handler, the caller reads
    /// `internal serialization error`.
    pub fn from_typed<T: Serialize + ?Sized>(data: &T) -> Result<Self, HandlerError> {
        Self::encode(|out| to_payload(data, out))
    }

    /// Answers with a map of dynamic values.
    ///
    /// # Errors
    /// When values are nested deeper than a peer would read. Returned from the handler, the caller reads
    /// `internal serialization error`.
    pub fn from_map(data: &HashMap<String, Value>) -> Result<Self, HandlerError> {
        Self::encode(|out| encode_map(data, out))
    }

    /// [`from_map`](Self::from_map) of a map that is not needed any more. Large byte strings in it are not copied.
    ///
    /// # Errors
    /// As [`from_map`](Self::from_map).
    pub fn from_owned_map(data: HashMap<String, Value>) -> Result<Self, HandlerError> {
        Self::encode_raw::<EncodeError>(|out| out.map(data)).map_err(HandlerError::unsendable)
    }

    /// The server's frame limit is held against the answer when it is sent; a handler does not know that limit.
    fn encode(
        write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Self, HandlerError> {
        encode_response_frame(unix_timestamp_secs(), u32::MAX as usize, write_data)
            .map(|frame| Self { frame: frame.into() })
            .map_err(HandlerError::unsendable)
    }

    /// Answers with what `write_data` writes: one map with string keys.
    ///
    /// # Errors
    /// What `write_data` returns, and [`EncodeError`]s of its own; make a [`HandlerError::unsendable`] of them.
    pub fn encode_raw<E: From<EncodeError>>(
        write_data: impl FnOnce(&mut PayloadWriter) -> Result<(), E>,
    ) -> Result<Self, E> {
        let pieces = encode_response_pieces(unix_timestamp_secs(), u32::MAX as usize, write_data)?;
        Ok(Self { frame: pieces.into() })
    }

    /// The frame, and how long its payload is.
    pub(super) fn into_frame(self) -> (Outgoing, usize) {
        let payload_bytes = self.frame.len() - FRAME_HEADER_BYTES;
        (self.frame, payload_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::error::Result;
    use crate::server::backlog::Backlog;
    use crate::server::chunks;
    use crate::server::config::LightningServerConfig;
    use crate::server::handler::Handler;
    use crate::server::intake::{Intake, Share};
    use crate::server::published::{
        AsyncSynapseHandler, StreamingSynapseHandler, SynapseHandler, from_async, from_streaming, from_sync,
        typed_async_handler, typed_handler,
    };
    use crate::server::unread::Unread;
    use crate::wire::{ScanLimits, encode_packet_frame};

    type Data = HashMap<String, Value>;

    fn call(share: Share) -> Call {
        let frame = encode_packet_frame("name", 1, 4096, |out| encode_map(&Data::new(), out)).unwrap();
        let payload = frame[FRAME_HEADER_BYTES..].to_vec().into();
        let request = RequestEnvelope::parse(&payload, &ScanLimits::trusted()).unwrap();
        let now = Instant::now();
        let hotkey = Hotkey::from_public_key([7; 32]).unwrap();
        Call::new(Caller::new(hotkey, ([127, 0, 0, 1], 9).into(), ConnectionId(1), now, now), request, share)
    }

    /// Fails unless the intake has all its room when it is asked.
    #[derive(Clone)]
    struct Free(Arc<Intake>, usize);

    impl Free {
        fn look(&self) -> Result<Data> {
            assert_eq!(self.0.free_bytes(), self.1);
            Ok(Data::new())
        }
    }

    impl SynapseHandler for Free {
        fn handle(&self, name: &str, _: Data) -> Result<Data> {
            assert_eq!(name, "name");
            self.look()
        }
    }

    #[async_trait]
    impl AsyncSynapseHandler for Free {
        async fn handle(&self, name: &str, _: Data) -> Result<Data> {
            assert_eq!(name, "name");
            self.look()
        }
    }

    #[async_trait]
    impl StreamingSynapseHandler for Free {
        async fn handle(&self, name: &str, _: Data, _: mpsc::Sender<Vec<u8>>) -> Result<()> {
            assert_eq!(name, "name");
            self.look().map(drop)
        }
    }

    #[tokio::test]
    async fn who_decodes_the_request_has_let_go_of_its_share_before_it_works() {
        let intake = Arc::new(Intake::new(&LightningServerConfig::default()));
        let free = Free(intake.clone(), intake.free_bytes());
        let looks = || {
            let free = free.clone();
            move |_: Data| free.look()
        };
        let (typed, typed_blocking, published, published_async) = (looks(), looks(), looks(), looks());
        let handlers = [
            Handler::typed(move |_, data| std::future::ready(typed(data))),
            Handler::typed_blocking(move |_, data| typed_blocking(data)),
            from_sync(typed_handler(published)),
            from_async(typed_async_handler(move |data| std::future::ready(published_async(data)))),
            from_sync(Arc::new(free.clone())),
            from_async(Arc::new(free.clone())),
            from_streaming(Arc::new(free.clone())),
        ];
        for handler in handlers {
            let call = call(intake.share(1 << 20).await.unwrap());
            assert_eq!(intake.free_bytes(), free.1 - (1 << 20), "a call holds its share");
            match handler {
                Handler::Unary(handler) => drop(handler.handle(call).await.unwrap()),
                Handler::Blocking(handler) => drop(handler.handle(call).unwrap()),
                Handler::Streaming(handler) => {
                    let unread = Unread::new(&LightningServerConfig::default());
                    let (chunks, _queue) = chunks::channel(1, 9, Backlog::new(&unread));
                    handler.handle(call, chunks).await.unwrap();
                }
            }
        }
    }
}
