//! How time passes in a turn of reading a socket.
//!
//! quinn's endpoint reads for 50 µs at a time, and then wakes its own task to go on. How much it may read in that time it
//! learns from one turn in 256, and an eighth of what it believes is the last of those. A turn in which its thread did not
//! run for some milliseconds, or made room for the first packets, is so believed for thousands of turns: until then every
//! turn ends with its first packet, and the next one is had by whichever thread of the runtime is woken first. So in a turn
//! time does not pass by itself here, but with what is read.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use quinn::udp::RecvMeta;
use quinn::{Runtime, TokioRuntime};

/// What one call for packets takes, about.
const CALL: Duration = Duration::from_micros(1);

/// What a packet of a connection takes, about, until it is handed to it.
const PACKET: Duration = Duration::from_nanos(500);

/// What a packet takes, about, that may be a connection's first: its keys are made, and it is decrypted.
const LONG_PACKET: Duration = Duration::from_micros(10);

thread_local! {
    /// The time in the turn that this thread is in.
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time, which in a turn is the turn's.
pub(super) fn now() -> Instant {
    NOW.get().unwrap_or_else(|| TokioRuntime.now())
}

/// Runs quinn's task that reads a socket, in turns.
pub(super) async fn reader(mut task: Pin<Box<dyn Future<Output = ()> + Send>>) {
    poll_fn(|cx| {
        let _turn = Turn::begin();
        task.as_mut().poll(cx)
    })
    .await;
}

/// Lets the time pass that it takes to read these messages.
pub(super) fn has_read<'m>(messages: impl IntoIterator<Item = (&'m RecvMeta, &'m [u8])>) {
    let Some(now) = NOW.get() else { return };
    let packets = messages.into_iter().flat_map(|(meta, bytes)| bytes[..meta.len].chunks(meta.stride.max(1)));
    NOW.set(Some(packets.fold(now + CALL, |now, packet| now + cost(packet))));
}

fn cost(packet: &[u8]) -> Duration {
    /// In the first byte (RFC 9000, section 17.2).
    const LONG: u8 = 0x80;
    if packet.first().is_some_and(|first| first & LONG != 0) { LONG_PACKET } else { PACKET }
}

struct Turn;

impl Turn {
    fn begin() -> Self {
        NOW.set(Some(TokioRuntime.now()));
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        NOW.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSliceMut};
    use std::net::{SocketAddr, UdpSocket};
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use quinn::udp::Transmit;
    use quinn::{AsyncTimer, AsyncUdpSocket, Endpoint, EndpointConfig, UdpPoller};
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;
    use crate::transport::io::{NotedSocket, Notes};

    const PACKETS: usize = 20;

    /// A thread that does not run for a while.
    fn stall() {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
    }

    fn messages(first: u8, packets: usize, count: usize) -> Vec<(RecvMeta, Vec<u8>)> {
        let meta = RecvMeta { len: packets * 100 - 1, stride: 100, ..RecvMeta::default() };
        vec![(meta, vec![first; packets * 100]); count]
    }

    fn read(messages: &[(RecvMeta, Vec<u8>)]) {
        has_read(messages.iter().map(|(meta, bytes)| (meta, &bytes[..])));
    }

    #[test]
    fn in_a_turn_time_passes_with_what_is_read_only() {
        let task = Box::pin(async {
            let began = now();
            stall();
            assert_eq!(now(), began);
            read(&messages(0x40, 1, 1));
            assert_eq!(now() - began, CALL + PACKET);
            read(&messages(0x40, 40, 3));
            assert_eq!(now() - began, 2 * CALL + 121 * PACKET);
            read(&messages(0xc0, 5, 1));
            assert_eq!(now() - began, 3 * CALL + 121 * PACKET + 5 * LONG_PACKET);
        });
        let turn = pin!(reader(task)).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(turn, Poll::Ready(()));
    }

    #[test]
    fn out_of_a_turn_time_is_what_it_is() {
        let before = Instant::now();
        read(&messages(0x40, 1, 1));
        assert!(NOW.get().is_none());
        assert!(now() >= before);
    }

    /// Receives a message in each call. The thread stalls after the first.
    #[derive(Debug)]
    struct Stalling {
        socket: Arc<dyn AsyncUdpSocket>,
        received: AtomicUsize,
        all: Arc<Notify>,
    }

    impl AsyncUdpSocket for Stalling {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            self.socket.clone().create_io_poller()
        }

        fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
            Ok(())
        }

        fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
            meta: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            let received = self.socket.poll_recv(cx, &mut bufs[..1], &mut meta[..1]);
            if received.is_ready() {
                match self.received.fetch_add(1, Ordering::Relaxed) + 1 {
                    1 => stall(),
                    PACKETS => self.all.notify_one(),
                    _ => {}
                }
            }
            received
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.socket.local_addr()
        }
    }

    /// Counts the turns of reading.
    #[derive(Debug, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Runtime for Counting {
        fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
            TokioRuntime.new_timer(at)
        }

        fn spawn(&self, mut task: Pin<Box<dyn Future<Output = ()> + Send>>) {
            let turns = self.0.clone();
            tokio::spawn(reader(Box::pin(poll_fn(move |cx| {
                turns.fetch_add(1, Ordering::Relaxed);
                task.as_mut().poll(cx)
            }))));
        }

        fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
            TokioRuntime.wrap_udp_socket(socket)
        }

        fn now(&self) -> Instant {
            now()
        }
    }

    #[tokio::test]
    async fn a_thread_that_stalls_once_reads_many_packets_in_a_turn() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..PACKETS {
            sender.send_to(&[0x40; 60], socket.local_addr().unwrap()).unwrap();
        }
        let (all, runtime) = (Arc::new(Notify::new()), Counting::default());
        let turns = runtime.0.clone();
        let socket = runtime.wrap_udp_socket(socket).unwrap();
        let socket = Arc::new(Stalling { socket, received: AtomicUsize::new(0), all: all.clone() });
        let socket = Arc::new(NotedSocket::new(socket, Notes::Nobody));
        let _endpoint =
            Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, Arc::new(runtime))
                .unwrap();
        timeout(Duration::from_secs(30), all.notified()).await.unwrap();
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns <= 4, "{turns} turns for {PACKETS} packets");
    }
}
