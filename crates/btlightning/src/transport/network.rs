//! Where UDP sockets come from.
//!
//! [`UdpNetwork`] binds the operating system's. The tests put a simulated network here instead, so that the supervisor
//! and the server run unchanged over lost, late and reordered packets in virtual time.

use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use quinn::udp::UdpSocketState;
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, warn};

/// A maker of UDP sockets for quinn.
pub trait Network: Debug + Send + Sync + 'static {
    /// Binds a socket to `addr`; port 0 picks a free one. Called within a tokio runtime.
    ///
    /// # Errors
    /// Whatever the operating system says: the address is taken, the family is not there, the right is missing.
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// The same, with what is known of the socket.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    fn open(&self, addr: SocketAddr) -> io::Result<Bound> {
        Ok(Bound { socket: self.bind(addr)?, twin: None, receive_buffer_bytes: None })
    }

    /// Whether time on this network is virtual. Work is then kept on the runtime's own thread, since a virtual clock
    /// runs on while another thread works.
    fn is_simulated(&self) -> bool {
        false
    }
}

/// A socket, and what is known of it.
#[derive(Debug)]
pub struct Bound {
    /// For quinn.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// The same socket once more, where it is the operating system's: to look whether a packet is there.
    pub twin: Option<UdpSocket>,
    /// What the kernel keeps for it until it is read, in bytes as the kernel counts them; `None` where there is no kernel.
    pub receive_buffer_bytes: Option<usize>,
}

/// The size that is asked for each socket buffer, in bytes, in each direction. The kernel grants what it likes, up to
/// `net.core.rmem_max` and `wmem_max` on Linux, and twice the figure is accounted for its own overhead.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Below this many bytes granted, bursts of large answers lose packets in the kernel; the log says so.
const SOCKET_BUFFER_BYTES_LITTLE: usize = 1024 * 1024;

/// The operating system's UDP sockets, with large buffers.
#[derive(Debug, Clone, Copy, Default)]
pub struct UdpNetwork;

impl Network for UdpNetwork {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(self.open(addr)?.socket)
    }

    fn open(&self, addr: SocketAddr) -> io::Result<Bound> {
        let (socket, granted) = bind_udp(addr)?;
        granted.log(addr);
        // Without it nobody looks, and everything works.
        let twin = socket.try_clone().ok();
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Bound { socket, twin, receive_buffer_bytes: Some(granted.receive_bytes) })
    }
}

/// What the kernel granted of [`SOCKET_BUFFER_BYTES`], in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GrantedBuffers {
    receive_bytes: usize,
    send_bytes: usize,
}

impl GrantedBuffers {
    fn is_little(self) -> bool {
        self.receive_bytes.min(self.send_bytes) < SOCKET_BUFFER_BYTES_LITTLE
    }

    fn log(self, addr: SocketAddr) {
        let Self { receive_bytes, send_bytes } = self;
        if self.is_little() {
            warn!(
                "the kernel granted {addr} socket buffers of only {receive_bytes} bytes (receive) and {send_bytes} bytes \
                 (send); large answers will lose packets. On Linux: sysctl -w net.core.rmem_max={SOCKET_BUFFER_BYTES} \
                 net.core.wmem_max={SOCKET_BUFFER_BYTES}"
            );
        } else {
            debug!("socket buffers of {addr}: {receive_bytes} bytes (receive), {send_bytes} bytes (send)");
        }
    }
}

/// Keeps the kernel's receive offload switched on while this process lives.
///
/// Linux rewrites its own code when the first socket of a family asks for `UDP_GRO`, and when the last one is closed, and
/// halts every processor for it, some hundred microseconds each time; and quinn-udp asks on an IPv6 socket of its own for
/// every socket that it is given, and closes it again. These two are never bound, and hear nothing.
fn keep_offload_on() {
    static SOCKETS: OnceLock<[Option<Socket>; 2]> = OnceLock::new();
    if cfg!(target_os = "linux") && SOCKETS.get().is_none() {
        let sockets = [Domain::IPV4, Domain::IPV6].map(|family| {
            let socket = Socket::new(family, Type::DGRAM, Some(Protocol::UDP)).ok()?;
            // Asks for it, like for the sockets that are used.
            UdpSocketState::new((&socket).into()).ok()?;
            Some(socket)
        });
        // Made before, so that a process that is forked meanwhile does not find them half made. Who comes second keeps
        // none.
        let _ = SOCKETS.set(sockets);
    }
}

fn bind_udp(addr: SocketAddr) -> io::Result<(UdpSocket, GrantedBuffers)> {
    keep_offload_on();
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        // The unspecified address serves both families, as operators who bind `::` expect; a particular one its own.
        // Some systems have no dual-stack sockets; IPv6 alone is then what there is.
        let dual_stack = addr.ip().is_unspecified();
        if let Err(error) = socket.set_only_v6(!dual_stack) {
            debug!("{addr} cannot be set to serve both address families: {error}");
        }
    }
    socket.set_nonblocking(true)?;
    let granted = ask_for_buffers(&socket)?;
    socket.bind(&addr.into())?;
    Ok((socket.into(), granted))
}

/// Asks for the whole size, and where a system refuses what exceeds its limit instead of capping it, for half of it,
/// and so on down to what the socket has already.
fn ask_for_buffers(socket: &Socket) -> io::Result<GrantedBuffers> {
    let sizes = || std::iter::successors(Some(SOCKET_BUFFER_BYTES), |size| Some(size / 2));
    let receive_now = socket.recv_buffer_size()?;
    for size in sizes().take_while(|size| *size > receive_now) {
        if socket.set_recv_buffer_size(size).is_ok() {
            break;
        }
    }
    let send_now = socket.send_buffer_size()?;
    for size in sizes().take_while(|size| *size > send_now) {
        if socket.set_send_buffer_size(size).is_ok() {
            break;
        }
    }
    Ok(GrantedBuffers { receive_bytes: socket.recv_buffer_size()?, send_bytes: socket.send_buffer_size()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_socket_has_at_least_the_buffers_of_a_plain_one() {
        let plain = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        let (_socket, granted) = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(granted.receive_bytes >= plain.recv_buffer_size().unwrap());
        assert!(granted.send_bytes >= plain.send_buffer_size().unwrap());
    }

    #[test]
    fn little_is_judged_by_the_smaller_direction() {
        let granted = GrantedBuffers { receive_bytes: 8 << 20, send_bytes: 200 << 10 };
        assert!(granted.is_little());
        assert!(!GrantedBuffers { receive_bytes: 8 << 20, send_bytes: 1 << 20 }.is_little());
    }

    #[test]
    fn an_unspecified_ipv6_socket_serves_ipv4_too() {
        let Ok((socket, _)) = bind_udp("[::]:0".parse().unwrap()) else { return };
        let port = socket.local_addr().unwrap().port();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.ip().to_canonical(), sender.local_addr().unwrap().ip());
    }

    #[test]
    fn little_buffers_are_said_in_the_log_with_what_mends_it() {
        let lines = crate::testing::lines(|| {
            GrantedBuffers { receive_bytes: 212_992, send_bytes: 8 << 20 }
                .log("192.0.2.1:9".parse().unwrap());
            GrantedBuffers { receive_bytes: 8 << 20, send_bytes: 8 << 20 }
                .log("192.0.2.2:9".parse().unwrap());
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        for words in ["WARN", "192.0.2.1:9", "212992", "net.core.rmem_max"] {
            assert!(lines[0].contains(words), "{lines:?}");
        }
    }
}
