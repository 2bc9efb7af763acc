//! quinn endpoints and the transport parameters of both sides.
//!
//! The windows decide how much memory a peer can make this side hold, and how fast one stream can be on a long path:
//! a window of `w` bytes moves at most `w` per round trip.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};

use super::network::Network;
use super::tls::{ServerIdentity, client_crypto};
use crate::error::{LightningError, Result};

/// Received bytes of one stream that may wait to be read: 8 MiB, which fills 640 Mbit/s at 100 ms.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Received bytes of all streams of one connection that may wait to be read.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Bytes of one connection that were written and not yet acknowledged.
const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// Received bytes that may wait to be read before a client has authenticated. A handshake request takes under 300.
const STRANGER_WINDOW_BYTES: u32 = 32 * 1024;

/// Streams that a client may have open before it has authenticated. One handshake takes one.
const STRANGER_STREAMS: u32 = 8;

/// The round trip that is assumed before one is measured. QUIC's 333 ms (RFC 9002, section 6.2.2) has a dial to a miner
/// that is just coming back wait a whole second before it knocks again; from this, 0.3 s, then 0.6 s, and so on. On a
/// longer path the first packet is sent twice.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// What both sides set alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Liveness {
    /// A connection on which nothing arrives for this long is dead.
    pub(crate) idle_timeout: Duration,
    /// A packet is sent after this long a silence, to keep NAT bindings and the connection alive.
    pub(crate) keep_alive_interval: Duration,
}

impl Liveness {
    fn transport(self) -> Result<TransportConfig> {
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(|_| {
            LightningError::Config(format!("idle timeout of {:?} is too long for QUIC", self.idle_timeout))
        })?;
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive_interval))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None);
        Ok(transport)
    }
}

/// How a client connects: one configuration for all its peers.
pub(crate) fn client_config(liveness: Liveness) -> Result<quinn::ClientConfig> {
    let mut transport = liveness.transport()?;
    transport
        .initial_rtt(INITIAL_RTT)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES);
    let mut config = quinn::ClientConfig::new(client_crypto()?);
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// How a server accepts: every connection begins as a stranger's, see [`welcome`].
pub(crate) fn server_config(
    liveness: Liveness,
    identity: &ServerIdentity,
    incoming_max: usize,
) -> Result<quinn::ServerConfig> {
    let mut transport = liveness.transport()?;
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES);
    let mut config = quinn::ServerConfig::with_crypto(identity.crypto.clone());
    config.transport_config(Arc::new(transport)).migration(true).max_incoming(incoming_max);
    Ok(config)
}

/// Gives an authenticated client's connection its full windows and `bidi_streams` streams at once.
pub(crate) fn welcome(connection: &Connection, bidi_streams: u32) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(bidi_streams));
}

/// Binds `addr` and drives QUIC on it, on the current tokio runtime.
pub(crate) fn bind(
    network: &dyn Network,
    addr: SocketAddr,
    server: Option<quinn::ServerConfig>,
) -> io::Result<Endpoint> {
    let socket = network.bind(addr)?;
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))
}
