//! QUIC, as both sides use it: TLS, sockets, endpoints, frames on streams, close reasons, signature work.
//!
//! Everything here serves the client and the server alike and knows neither. No quinn or rustls configuration is
//! built anywhere else.

pub(crate) mod close;
mod connection_ids;
pub(crate) mod endpoint;
pub(crate) mod floods;
pub(crate) mod frame_io;
mod heap;
pub(crate) mod io;
pub mod network;
pub(crate) mod nowhere;
pub(crate) mod signatures;
pub(crate) mod tls;
pub(crate) mod tls_key;
mod tokens;
