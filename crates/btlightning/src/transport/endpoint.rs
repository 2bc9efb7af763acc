//! quinn endpoints and the transport parameters of both sides.
//!
//! The windows decide how much memory a peer can make this side hold, and how fast one stream can be on a long path:
//! a window of `w` bytes moves at most `w` per round trip.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use quinn::{
    AsyncUdpSocket, Connection, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig,
    ValidationTokenConfig, VarInt,
};

use super::connection_ids::ConnectionIds;
use super::heap;
use super::io::{Io, Opened};
use super::tls::{ServerIdentity, client_crypto};
use super::tokens::{self, KeptTokens, SpentTokens};
use crate::error::{LightningError, Result};

/// Received bytes of one answer from the internet that may wait to be read: 16 MiB, which fills 1.3 Gbit/s at 100 ms.
///
/// A connection has no window of its own on the client's side: answers come only on streams that the client has opened,
/// and one that is read slowly must not hold up the others.
const ANSWER_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The same, of one answer from the same network: 8 MiB, or a quarter of the socket's buffer if that is less, so that
/// the kernel has room for a burst; but no less than 1 MiB, which fills 160 Mbit/s at 50 ms: private addresses may be far
/// away, too.
const NEAR_ANSWER_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const NEAR_ANSWER_WINDOW_BYTES_LEAST: u32 = 1024 * 1024;

/// The least window of an answer from this host, whose round trips take no time.
const HERE_ANSWER_WINDOW_BYTES_LEAST: u32 = 64 * 1024;

/// Received bytes of one request that may wait to be read: 2 MiB, which fills 160 Mbit/s at 100 ms. A connection's window
/// is what all its streams may fill together, so that requests that wait for their share of memory hold up no others.
const REQUEST_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Bytes of one connection that were written and not yet acknowledged.
const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// Received bytes that may wait to be read before a client has authenticated. A handshake request takes under 300, and
/// must not take more than 4,101.
const STRANGER_WINDOW_BYTES: u32 = 8 * 1024;

/// Received bytes of TLS that may wait for others before them.
const TLS_BUFFER_BYTES: usize = 4 * 1024;

/// What is kept of the packets of one connection attempt that was not decided on yet. The first flight of an honest one
/// takes a few kilobytes.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// The same, of all attempts together.
const INCOMING_BUFFER_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// Streams that a client may have open before it has authenticated. One handshake takes one.
const STRANGER_STREAMS: u32 = 2;

/// The largest UDP payload that is sent or received, in bytes. Ten of them, which quinn sends at once, fit into one
/// message of UDP.
pub(crate) const PACKET_BYTES_MAX: u16 = 6500;

/// How close to the largest packet that the path takes the search for it comes, in bytes. quinn reads the padding of a
/// probe byte by byte, so each of them counts when a connection is made.
const PROBES_APART_BYTES: u16 = 650;

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
    fn transport(self, distance: Distance) -> Result<TransportConfig> {
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(|_| {
            LightningError::Config(format!("idle timeout of {:?} is too long for QUIC", self.idle_timeout))
        })?;
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive_interval))
            .send_window(SEND_WINDOW_BYTES)
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None);
        let mut larger = MtuDiscoveryConfig::default();
        larger.upper_bound(PACKET_BYTES_MAX).minimum_change(PROBES_APART_BYTES);
        match distance {
            Distance::Here => {
                // A host's way to itself takes packets of 64 KiB, and nobody has to find that out. Where it is made to take
                // less, or something in between does, quinn goes back to 1,200 bytes.
                transport.initial_mtu(PACKET_BYTES_MAX).mtu_discovery_config(Some(larger));
            }
            Distance::Near => {
                transport.mtu_discovery_config(Some(larger));
            }
            Distance::Far => {}
        }
        Ok(transport)
    }
}

/// How a client connects: one configuration for all peers that are near, one for the others.
#[derive(Clone)]
pub(crate) struct ClientConfigs {
    here: quinn::ClientConfig,
    near: quinn::ClientConfig,
    far: quinn::ClientConfig,
    tokens: Arc<KeptTokens>,
}

impl ClientConfigs {
    /// For a socket with `buffer_bytes`, as the kernel counts them.
    pub(crate) fn new(liveness: Liveness, buffer_bytes: Option<usize>) -> Result<Self> {
        let crypto = client_crypto()?;
        let config = |distance| {
            let mut transport = liveness.transport(distance)?;
            transport
                .stream_receive_window(VarInt::from_u32(distance.answer_window_bytes(buffer_bytes)))
                .initial_rtt(INITIAL_RTT)
                .max_concurrent_bidi_streams(VarInt::from_u32(0))
                .receive_window(VarInt::MAX);
            let mut config = quinn::ClientConfig::new(crypto.clone());
            config.transport_config(Arc::new(transport));
            Ok::<_, LightningError>(config)
        };
        Ok(Self {
            here: config(Distance::Here)?,
            near: config(Distance::Near)?,
            far: config(Distance::Far)?,
            tokens: Arc::default(),
        })
    }

    /// The configuration for a peer at `addr`.
    pub(crate) fn to(&self, addr: SocketAddr) -> quinn::ClientConfig {
        let mut config = match Distance::to(addr.ip()) {
            Distance::Here => self.here.clone(),
            Distance::Near => self.near.clone(),
            Distance::Far => self.far.clone(),
        };
        config.token_store(self.tokens.of(addr));
        config
    }
}

/// How a server accepts: every connection begins as a stranger's, see [`welcome`].
#[derive(Clone)]
pub(crate) struct ServerConfigs {
    here: Arc<quinn::ServerConfig>,
    near: Arc<quinn::ServerConfig>,
    far: Arc<quinn::ServerConfig>,
}

impl ServerConfigs {
    pub(crate) fn new(liveness: Liveness, identity: &ServerIdentity, incoming_max: usize) -> Result<Self> {
        let transport = |distance| {
            let mut transport = liveness.transport(distance)?;
            transport
                .stream_receive_window(VarInt::from_u32(REQUEST_WINDOW_BYTES))
                .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS))
                .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
                .crypto_buffer_size(TLS_BUFFER_BYTES);
            Ok::<_, LightningError>(Arc::new(transport))
        };
        let mut given = ValidationTokenConfig::default();
        given.lifetime(tokens::LIFETIME).sent(tokens::GIVEN).log(Arc::new(SpentTokens::default()));
        let mut far = quinn::ServerConfig::with_crypto(identity.crypto.clone());
        far.validation_token_config(given)
            .transport_config(transport(Distance::Far)?)
            .migration(true)
            .max_incoming(incoming_max)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
        let mut near = far.clone();
        near.transport_config(transport(Distance::Near)?);
        let mut here = far.clone();
        here.transport_config(transport(Distance::Here)?);
        Ok(Self { here: Arc::new(here), near: Arc::new(near), far: Arc::new(far) })
    }

    /// The configuration for a client at `ip`.
    pub(crate) fn to(&self, ip: IpAddr) -> Arc<quinn::ServerConfig> {
        match Distance::to(ip) {
            Distance::Here => self.here.clone(),
            Distance::Near => self.near.clone(),
            Distance::Far => self.far.clone(),
        }
    }

    /// The one that the endpoint is opened with.
    pub(crate) fn first(&self) -> quinn::ServerConfig {
        (*self.far).clone()
    }
}

/// Where a peer is, as far as its address says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distance {
    /// On this host.
    Here,
    /// In the same network, whose packets may be larger than the internet's.
    Near,
    /// On the internet.
    Far,
}

impl Distance {
    fn to(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Self::Here;
        }
        let is_near = match ip {
            IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
        };
        if is_near { Self::Near } else { Self::Far }
    }

    /// How much of one message may wait to be read, at a socket with `buffer_bytes`.
    fn answer_window_bytes(self, buffer_bytes: Option<usize>) -> u32 {
        // Linux counts a buffer twice, for what it needs itself; and it is there for all streams.
        let share = buffer_bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes / 4).unwrap_or(u32::MAX));
        match self {
            Self::Here => share.clamp(HERE_ANSWER_WINDOW_BYTES_LEAST, NEAR_ANSWER_WINDOW_BYTES),
            Self::Near => share.clamp(NEAR_ANSWER_WINDOW_BYTES_LEAST, NEAR_ANSWER_WINDOW_BYTES),
            Self::Far => ANSWER_WINDOW_BYTES,
        }
    }
}

/// Gives an authenticated client's connection `bidi_streams` streams at once, and the full windows for them.
pub(crate) fn welcome(connection: &Connection, bidi_streams: u32) {
    let window = u64::from(bidi_streams) * u64::from(REQUEST_WINDOW_BYTES);
    connection.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(bidi_streams));
}

/// Drives QUIC on a socket. Says when its address is free again, too.
pub(crate) fn open(
    io: &Io,
    opened: Opened,
    server: Option<quinn::ServerConfig>,
) -> io::Result<(Endpoint, SocketWatch)> {
    heap::keep_room_for_large_messages();
    let Opened { socket, runtime, .. } = opened;
    let _context = io.handle().enter();
    let watch = SocketWatch(Arc::downgrade(&socket));
    let mut endpoint_config = EndpointConfig::default();
    endpoint_config.max_udp_payload_size(PACKET_BYTES_MAX).map_err(io::Error::other)?;
    endpoint_config.cid_generator(|| Box::new(ConnectionIds::default()));
    let endpoint = Endpoint::new_with_abstract_socket(endpoint_config, server, socket, runtime)?;
    Ok((endpoint, watch))
}

/// How often a released socket is looked for.
const RELEASE_LOOK_EVERY: Duration = Duration::from_millis(2);

/// Whether a socket is still open. quinn closes it when the last task that drives it has ended, some time after the last
/// handle of the endpoint is dropped, and tells nobody.
#[derive(Debug, Clone)]
pub(crate) struct SocketWatch(Weak<dyn AsyncUdpSocket>);

impl SocketWatch {
    /// Waits, without a limit, until the socket is closed.
    pub(crate) async fn closed(&self) {
        while self.0.strong_count() > 0 {
            tokio::time::sleep(RELEASE_LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fit_the_path_and_the_buffer() {
        const KIB: usize = 1024;
        const MIB: u32 = 1024 * 1024;
        // What Linux says when 4 MiB were granted, and by default.
        for (buffer_bytes, here, near) in [
            (None, 8 * MIB, 8 * MIB),
            (Some(8192 * KIB), 2 * MIB, 2 * MIB),
            (Some(208 * KIB), 64 * 1024, MIB),
        ] {
            assert_eq!(Distance::Here.answer_window_bytes(buffer_bytes), here);
            assert_eq!(Distance::Near.answer_window_bytes(buffer_bytes), near);
            assert_eq!(Distance::Far.answer_window_bytes(buffer_bytes), 16 * MIB);
        }
    }

    #[test]
    fn how_far_a_peer_is_follows_from_its_address() {
        for (ip, distance) in [
            ("127.0.0.1", Distance::Here),
            ("::ffff:127.0.0.9", Distance::Here),
            ("::1", Distance::Here),
            ("10.1.2.3", Distance::Near),
            ("fd00::1", Distance::Near),
            ("fe80::1", Distance::Near),
            ("203.0.113.7", Distance::Far),
            ("2001:db8::1", Distance::Far),
        ] {
            assert_eq!(Distance::to(ip.parse().unwrap()), distance, "{ip}");
        }
    }
}
