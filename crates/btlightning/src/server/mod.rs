//! The miner's side: [`LightningServer`], its handlers, and who is let in.
//!
//! Life of a connection, and which file knows about it: `admission` (is there room for another stranger?), `accept`
//! (TLS), `session` (one task a connection), `stream` (one task a stream), `handshake` (who is it?), `directory` (all who
//! have proven it), `dispatch` (a request and its answer), `streaming` (an answer in chunks). `refresh` asks the
//! resolvers now and then, `policy` holds what they said, `learned` finds out which addresses may connect, `lifecycle` starts and stops it all.
//!
//! Three things hold throughout. A stranger costs one slot, one deadline and a few kilobytes, and nothing that it sends
//! is decoded but a handshake. Authentication belongs to a [`quinn::Connection`] and to nothing else. Every slot is
//! freed by the guard that holds it, however its holder ends.

mod accept;
mod admission;
mod call;
mod chunks;
mod config;
mod directory;
mod dispatch;
mod habits;
mod handler;
mod handlers;
mod handshake;
mod hush;
mod intake;
mod late;
mod learned;
mod lifecycle;
mod pace;
mod panics;
mod policy;
mod published;
mod quick;
mod refresh;
#[allow(clippy::module_inception)]
mod server;
mod session;
mod shared;
mod stream;
mod streaming;
#[cfg(feature = "subtensor")]
mod subnet;
mod work;

pub use btlightning_proto::sources::{Mode as SourcesMode, Reason as SourcesReason, SourceEntry};

pub use self::call::{Call, Caller, ConnectionId, Response};
pub use self::chunks::{ChunkError, ChunkSender};
pub use self::config::{LightningServerConfig, LightningServerConfigBuilder};
pub use self::handler::{BlockingHandler, Handler, HandlerError, StreamHandler, UnaryHandler};
pub use self::learned::{LearnedSources, LearnedSourcesBuilder, LearnedSourcesStatus, PermittedStakes};
pub use self::published::{
    AsyncSynapseHandler, HandshakeObserver, SourceAddressResolver, SourceAllowlist, StreamingSynapseHandler,
    SynapseHandler, ValidatorPermitResolver, typed_async_handler, typed_handler,
};
pub use self::server::LightningServer;
#[cfg(feature = "subtensor")]
pub use self::subnet::SubnetPermits;
