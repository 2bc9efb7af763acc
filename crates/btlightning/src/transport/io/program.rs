//! Packets on the program's own runtime.
//!
//! On it, two things cost more than all else that a small request needs. A task that another one wakes runs before all
//! others (on tokio's multi-thread runtime, which has a slot for it), so a connection would send a packet for each of many
//! calls; and a thread with nothing to do parks, so a lone call would wait for it to be woken. Therefore the tasks that
//! drive connections [gather and linger](Driver).

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, TokioRuntime};
use tokio::runtime::Handle;

use super::polling::{POLL_FOR, Score};
use super::pool::Side;
use super::quiet::Quiet;
use super::socket::{NotedSocket, Notes};
use super::{Opened, lock, processors, turn};
use crate::transport::network::{Bound, Network};

/// A runtime of the program's, and how many calls wait for answers there.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    handle: Handle,
    side: Side,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    awaited: AtomicUsize,
    pauses: Mutex<Score>,
}

impl Program {
    pub(super) fn new(handle: Handle, side: Side) -> Self {
        Self { handle, side, calls: Arc::default() }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Binds a socket. Called within the runtime.
    pub(super) fn bind(&self, network: &dyn Network, addr: SocketAddr) -> io::Result<Opened> {
        let Bound { socket, twin, receive_buffer_bytes } = network.open(addr)?;
        if self.side == Side::Server {
            // It has no calls; and an address is not free again while it has a twin.
            let socket = Arc::new(NotedSocket::new(socket, Notes::Nobody));
            return Ok(Opened::plain(socket, receive_buffer_bytes));
        }
        let traffic = Arc::<Traffic>::default();
        let socket = Arc::new(NotedSocket::new(socket, Notes::Traffic(traffic.clone())));
        // With one processor nobody else could send the packet meanwhile. Not every system has what is duplicated be as the
        // original.
        let twin = twin.filter(|twin| processors() > 1 && twin.set_nonblocking(true).is_ok());
        let quiet = Arc::<Quiet>::default();
        let way = Way { calls: self.calls.clone(), traffic, twin, quiet: quiet.clone() };
        let runtime = ProgramRuntime { way: Arc::new(way), reads_socket: AtomicBool::new(false) };
        Ok(Opened { socket, runtime: Arc::new(runtime), quiet, receive_buffer_bytes })
    }

    /// Notes that a call waits for an answer, until the guard is dropped.
    pub(super) fn expect(&self) -> Expected<'_> {
        self.calls.awaited.fetch_add(1, Ordering::Relaxed);
        Expected(&self.calls)
    }
}

/// A call waits for an answer.
pub(crate) struct Expected<'a>(&'a Calls);

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    fn awaited(&self) -> usize {
        self.awaited.load(Ordering::Relaxed)
    }

    fn pauses(&self) -> MutexGuard<'_, Score> {
        lock(&self.pauses)
    }
}

/// What has passed through a socket.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    pub(super) fn note_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }
}

/// tokio, with tasks that drive connections as [`Driver`]s.
#[derive(Debug)]
struct ProgramRuntime {
    way: Arc<Way>,
    /// quinn begins the task that reads the socket first.
    reads_socket: AtomicBool,
}

/// To one socket, and what waits for it.
struct Way {
    calls: Arc<Calls>,
    traffic: Arc<Traffic>,
    /// The same socket, to look whether a packet is there.
    twin: Option<UdpSocket>,
    quiet: Arc<Quiet>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl quinn::Runtime for ProgramRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if self.reads_socket.swap(true, Ordering::Relaxed) {
            tokio::spawn(Driver { future, way: self.way.clone(), has_gathered: false, received: 0 });
        } else {
            tokio::spawn(turn::reader(future));
        }
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        turn::now()
    }
}

/// Drives one connection.
///
/// While several calls wait for answers, it *gathers*: it has its turn when everybody else has had theirs, and sends what
/// all of them have written in one go.
///
/// For the only call there is it *lingers*: when it has sent the request, all at once, it looks for a packet for
/// [`POLL_FOR`], before its thread may park. Where answers take longer than that, it soon stops doing so.
struct Driver {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    way: Arc<Way>,
    has_gathered: bool,
    /// What had been received when it had its last turn.
    received: u64,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_gathered && self.way.calls.awaited() > 1 {
            self.has_gathered = true;
            // Woken again when the thread has nothing else to do, or has done much.
            if pin!(tokio::task::yield_now()).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.has_gathered = false;
        let sent_before = self.way.traffic.sent.load(Ordering::Relaxed);
        let this = &mut *self;
        let driven = this.way.quiet.around(|| this.future.as_mut().poll(cx));
        let received = self.way.traffic.received.load(Ordering::Relaxed);
        let has_received = std::mem::replace(&mut self.received, received) != received;
        let sends = self.way.traffic.sent.load(Ordering::Relaxed).wrapping_sub(sent_before);
        if driven.is_pending() && sends == 1 && !has_received && self.way.calls.awaited() == 1 {
            self.way.linger(received);
        }
        driven
    }
}

impl Way {
    /// Looks for a packet, until somebody else has `received` one or there is something else to do.
    fn linger(&self, received: u64) {
        let Some(twin) = &self.twin else { return };
        if !self.calls.pauses().is_worthwhile() {
            return self.calls.pauses().skip();
        }
        let until = Instant::now() + POLL_FOR;
        let has_come = loop {
            if is_readable(twin) || self.traffic.received.load(Ordering::Relaxed) != received {
                break true;
            }
            if self.calls.awaited() != 1 {
                return;
            }
            if Instant::now() >= until {
                break false;
            }
            // Somebody else may want the processor.
            std::thread::yield_now();
        };
        self.calls.pauses().note(has_come);
    }
}

fn is_readable(socket: &UdpSocket) -> bool {
    !matches!(socket.peek_from(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way() -> (Way, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(socket.local_addr().unwrap()).unwrap();
        let way =
            Way { calls: Arc::default(), traffic: Arc::default(), twin: Some(socket), quiet: Arc::default() };
        way.calls.awaited.store(1, Ordering::Relaxed);
        (way, sender)
    }

    #[test]
    fn who_looks_for_a_packet_leaves_it_where_it_is() {
        let (way, sender) = way();
        let twin = way.twin.as_ref().unwrap();
        assert!(!is_readable(twin));
        sender.send(b"packet").unwrap();
        assert!(is_readable(twin));
        way.linger(0);
        assert_eq!(twin.recv(&mut [0; 16]).unwrap(), 6);
    }

    #[test]
    fn a_second_call_ends_the_looking() {
        let (way, _sender) = way();
        way.calls.awaited.store(2, Ordering::Relaxed);
        for _ in 0..100 {
            way.linger(0);
        }
        // Neither found nor missed.
        assert!(way.calls.pauses().is_worthwhile());
    }

    #[test]
    fn where_packets_do_not_come_soon_nobody_looks_for_long() {
        let (way, sender) = way();
        let is_worthwhile = || way.calls.pauses().is_worthwhile();
        let mut lingered = 0;
        for _ in 0..100 {
            lingered += u32::from(is_worthwhile());
            way.linger(0);
        }
        assert!(lingered < 20, "{lingered} of 100 pauses");
        sender.send(b"packet").unwrap();
        // Tried again now and then; from then on, while packets do come.
        for _ in 0..200 {
            way.linger(0);
        }
        assert!(is_worthwhile());
    }
}
