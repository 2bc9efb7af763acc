//! Messages of several connections, taken apart.
//!
//! Linux hands over packets that one sender sent at once as one message, and quinn keeps all of a message for as long as
//! it keeps a byte of it. What is kept for one connection must not depend on packets that are not its own, or are
//! nobody's: a sender could put a byte to keep beside 64 KiB of garbage.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use quinn::udp::RecvMeta;

use super::lock;

/// The length of connection IDs that quinn makes, in bytes.
const CONNECTION_ID_BYTES: usize = 8;

/// Messages that were taken apart and not handed on yet.
#[derive(Debug, Default)]
pub(super) struct Apart {
    is_something: AtomicBool,
    messages: Mutex<VecDeque<(RecvMeta, Vec<u8>)>>,
}

impl Apart {
    /// Hands on what is here, as far as there is room. Says how many messages that are.
    pub(super) fn take(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        if !self.is_something.load(Ordering::Relaxed) {
            return 0;
        }
        let mut messages = lock(&self.messages);
        let count = messages.len().min(bufs.len()).min(meta.len());
        for ((buf, meta), (taken, bytes)) in bufs.iter_mut().zip(meta).zip(messages.drain(..count)) {
            buf[..bytes.len()].copy_from_slice(&bytes);
            *meta = taken;
        }
        self.is_something.store(!messages.is_empty(), Ordering::Relaxed);
        count
    }

    /// Takes apart those of several connections, and leaves empty messages in their place.
    pub(super) fn put(&self, bufs: &[IoSliceMut<'_>], meta: &mut [RecvMeta]) {
        for (buf, meta) in bufs.iter().zip(meta).filter(|(_, meta)| meta.stride < meta.len) {
            let packets = || buf[..meta.len].chunks(meta.stride.max(1));
            let Some(first) = packets().next().map(destination) else { continue };
            if packets().all(|packet| destination(packet) == first) {
                continue;
            }
            let mut messages = lock(&self.messages);
            let mut last = None;
            for packet in packets() {
                match messages.back_mut() {
                    Some((meta, bytes)) if last == Some(destination(packet)) => {
                        meta.len += packet.len();
                        bytes.extend_from_slice(packet);
                    }
                    _ => messages.push_back((RecvMeta { len: packet.len(), ..*meta }, packet.to_vec())),
                }
                last = Some(destination(packet));
            }
            self.is_something.store(true, Ordering::Relaxed);
            meta.len = 0;
        }
    }
}

/// Whether a packet is one of those that a connection begins with (RFC 9000, section 17.2). An empty one is not.
pub(super) fn has_long_header(packet: &[u8]) -> bool {
    const LONG: u8 = 0x80;
    packet.first().is_some_and(|first| first & LONG != 0)
}

/// The connection ID that a packet is for (RFC 9000, section 17), as far as it has one.
fn destination(packet: &[u8]) -> &[u8] {
    let id = if has_long_header(packet) {
        packet.get(5).and_then(|length| packet.get(6..6 + usize::from(*length)))
    } else {
        packet.get(1..=CONNECTION_ID_BYTES)
    };
    id.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(id: u8, bytes: usize) -> Vec<u8> {
        let mut packet = vec![id; bytes];
        packet[0] = 0x40;
        packet
    }

    fn long(id: u8, bytes: usize) -> Vec<u8> {
        let mut packet = vec![id; bytes];
        packet[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 9]);
        packet
    }

    /// What is handed on of one message of `packets`.
    fn handed_on(packets: &[Vec<u8>], room: usize) -> Vec<Vec<u8>> {
        let (apart, stride) = (Apart::default(), packets[0].len());
        let mut bytes = packets.concat();
        let mut metas = [RecvMeta { len: bytes.len(), stride, ..RecvMeta::default() }];
        apart.put(&[IoSliceMut::new(&mut bytes)], &mut metas);
        let mut all = vec![bytes[..metas[0].len].to_vec()];
        loop {
            let mut bufs = vec![vec![0; 4096]; room];
            let mut slices: Vec<_> = bufs.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
            let mut metas = vec![RecvMeta::default(); room];
            let count = apart.take(&mut slices, &mut metas);
            if count == 0 {
                return all;
            }
            for (buf, meta) in bufs.iter().zip(&metas).take(count) {
                assert_eq!(meta.stride, stride);
                all.push(buf[..meta.len].to_vec());
            }
        }
    }

    #[test]
    fn what_is_of_one_connection_stays_as_it_is() {
        for packets in [
            vec![short(1, 100)],
            vec![short(1, 100), short(1, 100), short(1, 40)],
            vec![long(1, 100), long(1, 100)],
        ] {
            assert_eq!(handed_on(&packets, 4), [packets.concat()]);
        }
    }

    #[test]
    fn what_is_of_several_is_handed_on_by_connection_in_its_order() {
        let (a, b, c) = (short(1, 100), short(2, 100), long(3, 100));
        let packets = [a.clone(), a.clone(), b.clone(), c.clone(), c.clone(), a[..50].to_vec()];
        let runs = [vec![], [a.clone(), a.clone()].concat(), b, [c.clone(), c].concat(), a[..50].to_vec()];
        for room in [1, 3, 32] {
            assert_eq!(handed_on(&packets, room), runs, "room for {room}");
        }
    }

    #[test]
    fn packets_that_are_none_are_handed_on_too() {
        let packets = [vec![0x40, 1, 2], vec![0xc0, 0, 0], vec![0x40]];
        let handed_on = handed_on(&packets, 8);
        assert_eq!(handed_on.concat(), packets.concat());
    }
}
