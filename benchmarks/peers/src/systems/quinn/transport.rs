//! What raw quinn has of btlightning's: socket buffers, windows, packets, timeouts.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, MtuDiscoveryConfig, Runtime, ServerConfig, TokioRuntime,
    TransportConfig, UdpPoller, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::distance::Distance;

/// What is asked for each socket buffer. This, the windows and the packets below are what btlightning has, in
/// `crates/btlightning/src/transport/`.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// The window of an answer from the internet.
const FAR_ANSWER_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The window of an answer from this host is a quarter of the socket's buffer, within these bounds.
const HERE_ANSWER_WINDOW_BYTES: RangeInclusive<u32> = 64 * 1024..=8 * 1024 * 1024;

/// The largest packet on this host, and the largest that a peer may send.
const PACKET_BYTES_MAX: u16 = 6500;

/// How close to the largest packet the search for it comes.
const PROBES_APART_BYTES: u16 = 650;

/// The longest UDP message, rounded up.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const REQUEST_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;
const BIDI_STREAMS: u32 = 128;
const INITIAL_RTT: Duration = Duration::from_millis(100);
const IDLE_TIMEOUT_MS: u32 = 150_000;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// What both sides set alike.
fn common(distance: Distance) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .send_window(SEND_WINDOW_BYTES);
    if distance == Distance::Here {
        let mut larger = MtuDiscoveryConfig::default();
        larger.upper_bound(PACKET_BYTES_MAX).minimum_change(PROBES_APART_BYTES);
        transport.initial_mtu(PACKET_BYTES_MAX).mtu_discovery_config(Some(larger));
    }
    transport
}

/// The server's side.
pub(super) fn of_server(distance: Distance) -> TransportConfig {
    let mut transport = common(distance);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS))
        .stream_receive_window(VarInt::from_u32(REQUEST_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(BIDI_STREAMS * REQUEST_WINDOW_BYTES));
    transport
}

/// The client's side, at a socket with `buffer_bytes` as the kernel counts them.
pub(super) fn of_client(distance: Distance, buffer_bytes: usize) -> TransportConfig {
    let mut transport = common(distance);
    transport
        .initial_rtt(INITIAL_RTT)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(answer_window_bytes(distance, buffer_bytes)))
        .receive_window(VarInt::MAX);
    transport
}

fn answer_window_bytes(distance: Distance, buffer_bytes: usize) -> u32 {
    let share = u32::try_from(buffer_bytes / 4).unwrap_or(u32::MAX);
    match distance {
        Distance::Here => share.clamp(*HERE_ANSWER_WINDOW_BYTES.start(), *HERE_ANSWER_WINDOW_BYTES.end()),
        Distance::Far => FAR_ANSWER_WINDOW_BYTES,
    }
}

/// A socket with large buffers.
pub(super) fn bind(addr: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// An endpoint that is driven on the current runtime.
pub(super) fn endpoint(socket: Socket, server: Option<ServerConfig>) -> Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(PACKET_BYTES_MAX)?;
    let socket = Arc::new(Whole(TokioRuntime.wrap_udp_socket(socket.into())?));
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))?)
}

/// A socket with room for whole UDP messages, and no more: quinn would make room for 64 packets of the largest size in
/// each, 13 MB in all, which would count against it where connections are made.
#[derive(Debug)]
struct Whole(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Whole {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments().min(MESSAGE_BYTES_MAX.div_ceil(usize::from(PACKET_BYTES_MAX)))
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
