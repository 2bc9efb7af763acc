//! How much is read in a turn.
//!
//! quinn's endpoint reads for 50 µs at a time, and then wakes its own task to go on. How much it may read in that time it
//! learns from one turn in 256, and an eighth of what it believes is the last of those. A turn in which its thread did not
//! run for some milliseconds, or made room for the first packets, is so believed for thousands of turns: until then every
//! turn ends with its first packet, and the next one is had by whichever thread of the runtime is woken first. So for quinn
//! no time passes in a turn here (one that stalls goes on with the time that it began at); it is over when packets were read
//! that take about 50 µs, and nothing is remembered of it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::IoSliceMut;
use std::pin::Pin;
use std::time::{Duration, Instant};

use quinn::udp::RecvMeta;
use quinn::{Runtime, TokioRuntime};

use super::apart::has_long_header;

/// What is read in a turn takes this long, or as long as one more call brings.
const TURN: Duration = Duration::from_micros(50);

/// What one call for packets takes, about.
const CALL: Duration = Duration::from_micros(1);

/// What a packet of a connection takes, about, until it is handed to it.
const PACKET: Duration = Duration::from_nanos(500);

/// What a packet takes, about, that may be a connection's first: its keys are made, and it is decrypted.
const LONG_PACKET: Duration = Duration::from_micros(10);

thread_local! {
    /// The turn that this thread is in.
    static TURNS: Cell<Option<Turn>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    began: Instant,
    /// What has been read so far takes this long.
    spent: Duration,
}

/// The time, which in a turn is when it began.
pub(super) fn now() -> Instant {
    TURNS.get().map_or_else(|| TokioRuntime.now(), |turn| turn.began)
}

/// Runs quinn's task that reads a socket, in turns.
pub(super) async fn reader(mut task: Pin<Box<dyn Future<Output = ()> + Send>>) {
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            TURNS.set(None);
        }
    }
    poll_fn(|cx| {
        TURNS.set(Some(Turn { began: TokioRuntime.now(), spent: Duration::ZERO }));
        let _ended = Ended;
        task.as_mut().poll(cx)
    })
    .await;
}

/// Whether others are to have their turn before more is read.
pub(super) fn is_over() -> bool {
    TURNS.get().is_some_and(|turn| turn.spent >= TURN)
}

/// Notes a call for packets, and these messages that it brought.
pub(super) fn has_read(bufs: &[IoSliceMut<'_>], meta: &[RecvMeta]) {
    let Some(turn) = TURNS.get() else { return };
    let messages = bufs.iter().zip(meta);
    let packets = messages.flat_map(|(buf, meta)| buf[..meta.len].chunks(meta.stride.max(1)));
    let spent = packets.fold(turn.spent + CALL, |spent, packet| spent + cost(packet));
    TURNS.set(Some(Turn { spent, ..turn }));
}

fn cost(packet: &[u8]) -> Duration {
    if has_long_header(packet) { LONG_PACKET } else { PACKET }
}

#[cfg(test)]
mod tests {
    use std::io;
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

    fn read(first: u8, packets: usize) {
        let mut bytes = vec![first; packets * 100];
        let meta = RecvMeta { len: packets * 100 - 1, stride: 100, ..RecvMeta::default() };
        has_read(&[IoSliceMut::new(&mut bytes)], &[meta]);
    }

    fn in_a_turn(work: impl FnOnce() + Send + 'static) {
        let turn = pin!(reader(Box::pin(async { work() }))).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(turn, Poll::Ready(()));
    }

    #[test]
    fn in_a_turn_no_time_passes() {
        in_a_turn(|| {
            let began = now();
            stall();
            read(0x40, 10);
            assert_eq!(now(), began);
        });
        assert!(TURNS.get().is_none());
        let before = Instant::now();
        assert!(now() >= before);
    }

    #[test]
    fn a_turn_is_over_when_enough_has_been_read() {
        assert!(!is_over());
        for (first, packets, calls) in [(0x40, 1, 34), (0x40, 40, 3), (0xc0, 1, 5), (0xc0, 40, 1)] {
            in_a_turn(move || {
                for _ in 0..calls {
                    assert!(!is_over());
                    read(first, packets);
                }
                assert!(is_over(), "{calls} calls that bring {packets} packets");
            });
        }
        // Calls that bring nothing, or what cannot be taken.
        in_a_turn(|| {
            for _ in 0..50 {
                assert!(!is_over());
                has_read(&[], &[]);
            }
            assert!(is_over());
        });
        assert!(!is_over());
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
        for n in 0..PACKETS {
            // The first ones as those of a handshake.
            let first = if n < 3 { 0xc0 } else { 0x40 };
            sender.send_to(&[first; 60], socket.local_addr().unwrap()).unwrap();
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
