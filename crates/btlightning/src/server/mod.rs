//! The miner's side: [`LightningServer`], its handlers, and who is let in.
//!
//! Life of a connection, and which file knows about it: `admission` (is there room for another stranger?), `accept`
//! (TLS), `session` (one task a connection), `stream` (one task a stream), `handshake` (who is it?), `turns` (whose signature is verified when), `directory` (all who
//! have proven it), `places` (who of them stays when there are too many), `regulars` (who comes back), `dispatch` (a request and its answer), `streaming` (an answer in chunks), `backlog` (what chunks may wait for the peer). `refresh` asks the
//! resolvers now and then, `policy` holds what they said, `learned` finds out which addresses may connect, `lifecycle` starts and stops it all.
//!
//! Three things hold throughout. A stranger costs one slot, one deadline and a few kilobytes, and nothing that it sends
//! is decoded but a handshake. Authentication belongs to a [`quinn::Connection`] and to nothing else. Every slot is
//! freed by the guard that holds it, however its holder ends.

mod accept;
mod activity;
mod admission;
mod backlog;
mod batch;
mod blocking;
mod call;
mod chunks;
mod config;
mod credit;
mod directory;
mod dispatch;
mod habits;
mod handler;
mod handlers;
mod handshake;
mod intake;
mod late;
mod learned;
mod lifecycle;
mod observe;
mod pace;
mod panics;
mod places;
mod policy;
mod published;
mod quick;
mod refresh;
mod regulars;
#[allow(clippy::module_inception)]
mod server;
mod session;
mod shared;
mod strangers;
mod stream;
mod streaming;
#[cfg(feature = "subtensor")]
mod subnet;
#[cfg(test)]
mod tests;
mod turns;
mod unread;
mod work;

pub use btlightning_proto::sources::{Mode as SourcesMode, Reason as SourcesReason, SourceEntry};

use crate::hush;

pub use self::call::{Call, Caller, ConnectionId, Response};
pub use self::chunks::{ChunkError, ChunkSender};
pub use self::config::{LightningServerConfig, LightningServerConfigBuilder};
pub use self::handler::{BlockingHandler, Handler, HandlerError, StreamHandler, UnaryHandler};
#[cfg(feature = "sources-file")]
pub(crate) use self::learned::sources_record_in;
pub use self::learned::{LearnedSources, LearnedSourcesBuilder, LearnedSourcesStatus, PermittedStakes};
#[doc(hidden)]
pub use self::observe::{Holdings, Remains};
pub use self::published::{
    AsyncSynapseHandler, HandshakeObserver, SourceAddressResolver, SourceAllowlist, StreamingSynapseHandler,
    SynapseHandler, ValidatorPermitResolver, typed_async_handler, typed_handler,
};
pub use self::server::LightningServer;
#[cfg(feature = "subtensor")]
pub use self::subnet::SubnetPermits;
