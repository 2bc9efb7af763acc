//! What answers requests: a [`Handler`] of one of three kinds.

use std::fmt::{self, Debug, Display};
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{Call, Caller, Response};
use super::chunks::ChunkSender;

/// Answers requests of one name. See [`LightningServer::register`](crate::LightningServer::register).
///
/// Whatever the kind: a panic fails the one request; and when the caller has left, or the `handler_timeout_secs` of the
/// configuration are over, nobody waits for the handler any more.
///
/// # On the I/O thread
/// A handler that answers once and is quick, less than 25 us on average, runs on the [I/O thread](crate::IoThreads) of the
/// connection, outside of that thread's own runtime and in the context of the one that the server was started on. It may
/// block there, and even hang: another thread then goes on with the packets, after 10 ms at most, and the handler runs
/// elsewhere until it has been quick many times. It has the stack of that thread, 2 MiB unless the environment variable
/// `RUST_MIN_STACK` says otherwise, whatever the program gives its own threads. And it is in no task of tokio's
/// there: `tokio::task::try_id` finds none, and `tokio::task::id` panics. With [`IoThreads::Current`](crate::IoThreads::Current)
/// there is no such thread.
#[derive(Clone)]
pub enum Handler {
    /// Answers once, asynchronously. Dropped at an await when the caller is gone or the time is up.
    ///
    /// As long as its first poll is quick it begins [on the I/O thread](Self#on-the-io-thread); if it has to wait for
    /// something, it goes on in a task of the tokio runtime that the server was started on.
    Unary(Arc<dyn UnaryHandler>),
    /// Answers once, on a thread where it may block: [the I/O thread](Self#on-the-io-thread) while it is quick, else one of
    /// the blocking pool of the tokio runtime that the server was started on. It runs to its end even when nobody waits for
    /// it any more.
    ///
    /// At most 448 run in the pool at once, and 336 for one hotkey; the next one waits for its thread, within its own time.
    /// Those on an I/O thread are not counted: there is one at a time, beside those that hang. While 16 of these hang, the thread is given no more.
    Blocking(Arc<dyn BlockingHandler>),
    /// Answers in chunks, on the tokio runtime that the server was started on. Dropped as a unary handler is.
    Streaming(Arc<dyn StreamHandler>),
}

/// Answers a request once, asynchronously.
#[async_trait]
pub trait UnaryHandler: Send + Sync {
    /// Answers `call`. May be dropped at any await; see [`Handler::Unary`].
    ///
    /// # Errors
    /// The caller reads `request processing failed`; the words are logged.
    async fn handle(&self, call: Call) -> Result<Response, HandlerError>;

    /// Whether the handler is to run on the I/O thread throughout, and not only while that is quick. Default: no.
    ///
    /// For handlers that only hand requests on and wait for answers from elsewhere. Such a handler never blocks, never
    /// computes for more than some microseconds between two awaits, and needs nothing of the tokio runtime that the
    /// server was started on: it holds up every connection of the server otherwise.
    fn stays_on_io_thread(&self) -> bool {
        false
    }
}

/// Answers a request once, on a thread where it may block.
pub trait BlockingHandler: Send + Sync {
    /// Answers `call`.
    ///
    /// # Errors
    /// The caller reads `request processing failed`; the words are logged.
    fn handle(&self, call: Call) -> Result<Response, HandlerError>;
}

/// Answers a request in chunks.
#[async_trait]
pub trait StreamHandler: Send + Sync {
    /// Answers `call` by sending `chunks`. The stream ends once this has returned and every clone of `chunks` is
    /// dropped. May be dropped at any await; see [`Handler::Streaming`].
    ///
    /// # Errors
    /// After the chunks that were sent the caller reads `stream processing failed`; the words are logged.
    async fn handle(&self, call: Call, chunks: ChunkSender) -> Result<(), HandlerError>;
}

impl Handler {
    /// A [`Handler::Unary`] from a closure.
    pub fn unary<F, Fut>(handle: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, HandlerError>> + Send + 'static,
    {
        Self::Unary(Arc::new(FromClosure(handle)))
    }

    /// A [`Handler::Unary`] from a closure over types: the request is decoded from its frame, the answer encoded into
    /// its own.
    ///
    /// ```
    /// use btlightning::server::{Caller, Handler};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Square { of: i64 }
    /// #[derive(serde::Serialize)]
    /// struct Area { is: i64 }
    ///
    /// let handler = Handler::typed(|_: Caller, request: Square| async move {
    ///     request.of.checked_mul(request.of).map(|is| Area { is }).ok_or("too large")
    /// });
    /// # let _ = handler;
    /// ```
    pub fn typed<Req, Resp, E, F, Fut>(handle: F) -> Self
    where
        Req: DeserializeOwned + Send + 'static,
        Resp: Serialize + Send + 'static,
        E: Display + 'static,
        F: Fn(Caller, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Resp, E>> + Send + 'static,
    {
        Self::Unary(Arc::new(Typed { handle, request: PhantomData::<fn(Req)> }))
    }

    /// A [`Handler::Blocking`] from a closure.
    pub fn blocking<F>(handle: F) -> Self
    where
        F: Fn(Call) -> Result<Response, HandlerError> + Send + Sync + 'static,
    {
        Self::Blocking(Arc::new(FromClosure(handle)))
    }

    /// A [`Handler::Blocking`] from a closure over types, as [`Handler::typed`].
    pub fn typed_blocking<Req, Resp, E, F>(handle: F) -> Self
    where
        Req: DeserializeOwned + Send + 'static,
        Resp: Serialize + Send + 'static,
        E: Display + 'static,
        F: Fn(Caller, Req) -> Result<Resp, E> + Send + Sync + 'static,
    {
        Self::blocking(move |call| {
            let (caller, request) = (*call.caller(), call.decode()?);
            // The frame is not needed while the handler works.
            drop(call);
            Response::from_typed(&handle(caller, request)?)
        })
    }

    /// A [`Handler::Streaming`] from a closure.
    pub fn streaming<F, Fut>(handle: F) -> Self
    where
        F: Fn(Call, ChunkSender) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        Self::Streaming(Arc::new(FromClosure(handle)))
    }

    /// The kind as one word, for logs.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unary(_) => "unary",
            Self::Blocking(_) => "blocking",
            Self::Streaming(_) => "streaming",
        }
    }
}

impl Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handler({})", self.kind())
    }
}

/// A handler that is a closure.
struct FromClosure<F>(F);

#[async_trait]
impl<F, Fut> UnaryHandler for FromClosure<F>
where
    F: Fn(Call) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Response, HandlerError>> + Send + 'static,
{
    async fn handle(&self, call: Call) -> Result<Response, HandlerError> {
        (self.0)(call).await
    }
}

impl<F: Fn(Call) -> Result<Response, HandlerError> + Send + Sync> BlockingHandler for FromClosure<F> {
    fn handle(&self, call: Call) -> Result<Response, HandlerError> {
        (self.0)(call)
    }
}

#[async_trait]
impl<F, Fut> StreamHandler for FromClosure<F>
where
    F: Fn(Call, ChunkSender) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    async fn handle(&self, call: Call, chunks: ChunkSender) -> Result<(), HandlerError> {
        (self.0)(call, chunks).await
    }
}

/// A closure over types.
struct Typed<F, Req> {
    handle: F,
    request: PhantomData<fn(Req)>,
}

#[async_trait]
impl<Req, Resp, E, F, Fut> UnaryHandler for Typed<F, Req>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + 'static,
    E: Display + 'static,
    F: Fn(Caller, Req) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Resp, E>> + Send + 'static,
{
    async fn handle(&self, call: Call) -> Result<Response, HandlerError> {
        let (caller, request) = (*call.caller(), call.decode()?);
        // The frame is not needed while the handler works.
        drop(call);
        // Turned into words at once: the error itself need not be fit to be held across threads.
        let answer = (self.handle)(caller, request).await.map_err(HandlerError::from)?;
        Response::from_typed(&answer)
    }
}

/// A handler's failure, in words for the server's log. The caller is not told them.
///
/// Anything that can be displayed converts into one, so `?` works on every error in a handler.
#[derive(Debug)]
pub struct HandlerError {
    words: String,
    is_unsendable: bool,
    is_logged: bool,
}

impl HandlerError {
    /// An answer that the handler gave and that cannot be put on the wire: the caller reads
    /// `internal serialization error`.
    pub fn unsendable(why: impl Display) -> Self {
        Self { words: why.to_string(), is_unsendable: true, is_logged: false }
    }

    /// The same failure, of a handler that has logged it already, better than the server could: it is not logged twice.
    #[must_use]
    pub fn logged(self) -> Self {
        Self { is_logged: true, ..self }
    }

    pub(super) fn is_unsendable(&self) -> bool {
        self.is_unsendable
    }

    pub(super) fn is_logged(&self) -> bool {
        self.is_logged
    }

    /// The words.
    pub fn words(&self) -> &str {
        &self.words
    }
}

// HandlerError itself is not Display, or this would conflict with the conversion of a type into itself.
impl<E: Display> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { words: error.to_string(), is_unsendable: false, is_logged: false }
    }
}
