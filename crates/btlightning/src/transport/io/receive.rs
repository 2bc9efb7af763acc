//! Receiving into memory that a thread's sockets share.
//!
//! The kernel hands over up to 64 KiB in a message, of many packets that came together, and up to 32 messages in a call. quinn
//! has room for all of that in each endpoint: 2 MiB, which are cleared when a client is made, a third of a millisecond or
//! more. So that room is the thread's here, and an endpoint has room for 32 of the largest packets; the packets are copied
//! there, which costs some hundredths of what else is done with them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};

use quinn::udp::{BATCH_SIZE, RecvMeta};

use super::lock;

/// The longest UDP message, in bytes, rounded up.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// How many messages are received in a call while they are long: their packets must have room in the endpoint.
const LONG_AT_ONCE: usize = 3;

thread_local! {
    /// Room for messages. Nothing in it outlives a call.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What one socket remembers from call to call.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// Messages, or what is left of them, that the endpoint had no room for.
    left_over: Mutex<VecDeque<Message>>,
    /// Whether many messages are waiting, of a packet each, as far as is known.
    are_many: AtomicBool,
}

/// Packets of the length `meta.stride`, the last of which may be shorter.
#[derive(Debug)]
struct Message {
    meta: RecvMeta,
    packets: Vec<u8>,
}

/// Where an endpoint wants packets.
struct Places<'a, 'b> {
    bufs: &'a mut [IoSliceMut<'b>],
    meta: &'a mut [RecvMeta],
    filled: usize,
}

impl Receiver {
    /// [`AsyncUdpSocket::poll_recv`](quinn::AsyncUdpSocket::poll_recv) of a socket that `receive` receives from, whose messages
    /// may be longer than `bufs`; packets may not. Those that are get lost, as they do on paths that do not take them.
    pub(super) fn poll(
        &self,
        mut receive: impl FnMut(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> Poll<io::Result<usize>>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut places = Places { bufs, meta, filled: 0 };
        if self.place_left_over(&mut places) {
            return Poll::Ready(Ok(places.filled));
        }
        ROOM.with_borrow_mut(|room| {
            room.resize(BATCH_SIZE * MESSAGE_BYTES_MAX, 0);
            let mut messages = room.chunks_exact_mut(MESSAGE_BYTES_MAX).map(IoSliceMut::new);
            let mut messages: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| messages.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            // Until something has a place: what has none at all was not received.
            while places.filled == 0 {
                let mut of = [RecvMeta::default(); BATCH_SIZE];
                let at_once = if self.are_many.load(Ordering::Relaxed) { BATCH_SIZE } else { LONG_AT_ONCE };
                let at_once = at_once.min(BATCH_SIZE);
                let count = ready!(receive(&mut messages[..at_once], &mut of[..at_once]))?;
                self.learn(&of[..count], at_once);
                for (meta, message) in of.iter().zip(&messages).take(count) {
                    let rest = places.place(meta, &message[..meta.len]);
                    if !rest.is_empty() {
                        let meta = RecvMeta { len: rest.len(), ..*meta };
                        lock(&self.left_over).push_back(Message { meta, packets: rest.to_vec() });
                    }
                }
            }
            Poll::Ready(Ok(places.filled))
        })
    }

    /// True if there was something.
    fn place_left_over(&self, places: &mut Places<'_, '_>) -> bool {
        let mut left_over = lock(&self.left_over);
        while let Some(mut message) = left_over.pop_front() {
            let rest = places.place(&message.meta, &message.packets).len();
            if rest > 0 {
                message.packets.drain(..message.packets.len() - rest);
                message.meta.len = rest;
                left_over.push_front(message);
                break;
            }
        }
        places.filled > 0
    }

    fn learn(&self, received: &[RecvMeta], at_once: usize) {
        let are_long = received.iter().any(|meta| meta.len > meta.stride);
        if are_long {
            self.are_many.store(false, Ordering::Relaxed);
        } else if received.len() == at_once {
            self.are_many.store(true, Ordering::Relaxed);
        }
    }
}

impl Places<'_, '_> {
    /// Places as many of a message's `packets` as there is room for. Returns the others.
    fn place<'p>(&mut self, meta: &RecvMeta, mut packets: &'p [u8]) -> &'p [u8] {
        let count = self.bufs.len().min(self.meta.len());
        while !packets.is_empty() && self.filled < count {
            let buf = &mut *self.bufs[self.filled];
            let whole = if packets.len() <= buf.len() {
                packets.len()
            } else {
                let stride = meta.stride.max(1);
                match buf.len() / stride {
                    // A packet that is longer than any that this side takes.
                    0 => {
                        packets = &packets[stride.min(packets.len())..];
                        continue;
                    }
                    fit => fit * stride,
                }
            };
            let (placed, rest) = packets.split_at(whole);
            buf[..whole].copy_from_slice(placed);
            self.meta[self.filled] = RecvMeta { len: whole, ..*meta };
            self.filled += 1;
            packets = rest;
        }
        packets
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use quinn::udp::Transmit;
    use quinn::{AsyncUdpSocket, UdpPoller};

    use super::*;

    /// Has received these messages: packets of a length each, that many bytes in all.
    #[derive(Debug)]
    struct Received(Mutex<VecDeque<(usize, Vec<u8>)>>);

    impl Received {
        fn new(messages: impl IntoIterator<Item = (usize, usize)>) -> Self {
            let mut next = 0_u32;
            let messages = messages.into_iter().map(|(stride, len)| {
                let bytes = (0..len).map(|_| {
                    next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (next >> 24) as u8
                });
                (stride, bytes.collect())
            });
            Self(Mutex::new(messages.collect()))
        }

        fn packets(&self) -> Vec<Vec<u8>> {
            let messages = lock(&self.0);
            messages.iter().flat_map(|(stride, bytes)| bytes.chunks(*stride).map(<[u8]>::to_vec)).collect()
        }
    }

    impl AsyncUdpSocket for Received {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nothing is sent")
        }

        fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
            unreachable!("nothing is sent")
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
            meta: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            let mut messages = lock(&self.0);
            let count = bufs.len().min(messages.len());
            for ((stride, bytes), (buf, meta)) in messages.drain(..count).zip(bufs.iter_mut().zip(meta)) {
                buf[..bytes.len()].copy_from_slice(&bytes);
                *meta = RecvMeta { len: bytes.len(), stride, ..RecvMeta::default() };
            }
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 9)))
        }
    }

    /// Every packet that an endpoint with 32 places for packets of 1,500 bytes is given.
    fn given(socket: &Received) -> Vec<Vec<u8>> {
        let receiver = Receiver::default();
        let mut room = vec![0; BATCH_SIZE * 1_500];
        let mut packets = Vec::new();
        loop {
            let mut bufs: Vec<IoSliceMut<'_>> = room.chunks_exact_mut(1_500).map(IoSliceMut::new).collect();
            let mut meta = vec![RecvMeta::default(); BATCH_SIZE];
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(count) =
                receiver.poll(|bufs, meta| socket.poll_recv(&mut cx, bufs, meta), &mut bufs, &mut meta)
            else {
                return packets;
            };
            let count = count.unwrap();
            assert!(count > 0, "ready without anything");
            for (meta, buf) in meta.iter().zip(&bufs).take(count) {
                packets.extend(buf[..meta.len].chunks(meta.stride).map(<[u8]>::to_vec));
            }
        }
    }

    #[test]
    fn every_packet_comes_whole_and_in_order() {
        let long =
            [(1_452, 65_340), (1_500, 64_001), (700, 64_400), (1_100, 1_100), (751, 60_000), (1, 65_507)];
        let short = (0..200).map(|n| (100 + n, 100 + n));
        let socket = Received::new(long.into_iter().chain(short).chain(long));
        let sent = socket.packets();
        assert_eq!(given(&socket), sent);
    }

    #[test]
    fn a_packet_that_is_too_long_is_lost_and_no_other() {
        let socket = Received::new([(1_501, 1_501), (60_000, 60_000), (9_000, 20_000), (1_200, 2_400)]);
        let mut sent = socket.packets();
        // What is shorter at the end of a message of packets that are too long is one of them, cut to what was left.
        sent.retain(|packet| packet.len() <= 1_500);
        assert_eq!(sent.len(), 2);
        assert_eq!(given(&socket), sent);
    }

    #[test]
    fn many_short_messages_are_received_at_once_and_few_long_ones() {
        let receiver = Receiver::default();
        let meta = |stride, len| RecvMeta { stride, len, ..RecvMeta::default() };
        let are_many = || receiver.are_many.load(Ordering::Relaxed);
        receiver.learn(&[meta(9, 9); LONG_AT_ONCE], LONG_AT_ONCE);
        assert!(are_many());
        receiver.learn(&[meta(9, 9)], BATCH_SIZE);
        assert!(are_many());
        receiver.learn(&[meta(9, 9), meta(1_452, 60_000)], BATCH_SIZE);
        assert!(!are_many());
        receiver.learn(&[meta(9, 9)], LONG_AT_ONCE);
        assert!(!are_many());
    }
}
