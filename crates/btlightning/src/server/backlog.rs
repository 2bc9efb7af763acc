//! The chunks of streaming answers on their way to a peer that may never read them: what those of one connection may hold.
//!
//! A stream may always have a little on its way, or one chunk, so that none waits for the readers of others. What it has
//! beyond that, all streams of its connection share; who finds no room there waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::intake::SMALL_BYTES;
use super::unread::Unread;

/// While a stream has less on its way, in bytes, it does not ask for a share.
const OWN_BYTES: u64 = SMALL_BYTES as u64;

/// The chunks of one stream that QUIC has not let go of.
#[derive(Debug)]
pub(super) struct Backlog {
    unread: Arc<Unread>,
    /// What counts as the stream's own.
    own_bytes: AtomicU64,
    /// Told when the stream's own is little again.
    room: Notify,
}

/// Counts chunks as long as it lives.
#[derive(Debug)]
pub(super) struct Counted {
    backlog: Arc<Backlog>,
    own_bytes: u64,
    /// Of what all streams of the connection share.
    units: u32,
    /// What keeps handlers from beginning.
    held_bytes: u64,
}

impl Backlog {
    pub(super) fn new(unread: &Arc<Unread>) -> Arc<Self> {
        Arc::new(Self { unread: unread.clone(), own_bytes: AtomicU64::new(0), room: Notify::new() })
    }

    /// Lets the stream have a long queue of chunks that are not counted, if few streams of its connection have one.
    pub(super) fn long_queue(&self) -> Option<OwnedSemaphorePermit> {
        self.unread.long_queues().clone().try_acquire_owned().ok()
    }

    /// Counts a chunk, if there is room for it at once.
    pub(super) fn try_count(self: &Arc<Self>, bytes: u64) -> Option<Counted> {
        self.count_own(bytes).or_else(|| {
            let units = self.unread.chunk_units(bytes);
            let permit = self.unread.chunks().try_acquire_many(units).ok()?;
            permit.forget();
            Some(self.shared(bytes, units))
        })
    }

    /// Counts a chunk, once there is room for it. Cancel-safe.
    pub(super) async fn count(self: &Arc<Self>, bytes: u64) -> Counted {
        let units = self.unread.chunk_units(bytes);
        loop {
            let news = self.room.notified();
            if let Some(counted) = self.count_own(bytes) {
                return counted;
            }
            tokio::select! {
                biased;
                () = news => {}
                // It is never closed.
                Ok(permit) = self.unread.chunks().acquire_many(units) => {
                    permit.forget();
                    return self.shared(bytes, units);
                }
            }
        }
    }

    fn count_own(self: &Arc<Self>, bytes: u64) -> Option<Counted> {
        let more = |own: u64| (own < OWN_BYTES).then(|| own.saturating_add(bytes));
        self.own_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let held_bytes = if bytes > OWN_BYTES { bytes } else { 0 };
        Some(self.counted(bytes, 0, held_bytes))
    }

    fn shared(self: &Arc<Self>, bytes: u64, units: u32) -> Counted {
        self.counted(0, units, bytes)
    }

    fn counted(self: &Arc<Self>, own_bytes: u64, units: u32, held_bytes: u64) -> Counted {
        if held_bytes > 0 {
            self.unread.add(held_bytes);
        }
        Counted { backlog: self.clone(), own_bytes, units, held_bytes }
    }
}

impl Counted {
    /// Counts also what `other`, of the same stream, has counted.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.own_bytes += std::mem::take(&mut other.own_bytes);
        self.units += std::mem::take(&mut other.units);
        self.held_bytes += std::mem::take(&mut other.held_bytes);
    }

    /// `chunk`, which is counted until the last of its bytes is dropped.
    pub(super) fn keep(self, chunk: Bytes) -> Bytes {
        Bytes::from_owner(Kept { chunk, _counted: self })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let unread = &self.backlog.unread;
        if self.own_bytes > 0 {
            let before = self.backlog.own_bytes.fetch_sub(self.own_bytes, Ordering::Relaxed);
            if before >= OWN_BYTES && before - self.own_bytes < OWN_BYTES {
                self.backlog.room.notify_waiters();
            }
        }
        if self.units > 0 {
            unread.chunks().add_permits(self.units as usize);
        }
        if self.held_bytes > 0 {
            unread.give_back(self.held_bytes);
        }
    }
}

struct Kept {
    chunk: Bytes,
    _counted: Counted,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::server::config::LightningServerConfig;
    use crate::transport::io::poll_now;

    const SHARED: u64 = 64 << 20;

    fn unread() -> Arc<Unread> {
        Unread::new(&LightningServerConfig { max_frame_payload_bytes: 1 << 20, ..Default::default() })
    }

    fn assert_free(unread: &Unread) {
        assert_eq!((unread.chunks().available_permits(), unread.held_bytes()), ((SHARED / 1024) as usize, 0));
    }

    #[tokio::test]
    async fn streams_share_and_each_has_a_little_or_one_chunk_of_its_own() {
        let unread = unread();
        let (greedy, modest) = (Backlog::new(&unread), Backlog::new(&unread));
        let mut held: Vec<_> = (0..=64).map(|_| greedy.try_count(1 << 20).unwrap()).collect();
        assert_eq!(unread.held_bytes(), SHARED + (1 << 20));
        assert!(greedy.try_count(1).is_none(), "64 MiB, and one chunk");
        // Another stream goes on: small ones, or one of any size.
        let small: Vec<_> = (0..64).map(|_| modest.try_count(1024).unwrap()).collect();
        assert!(modest.try_count(1).is_none());
        drop(small);
        let large = modest.try_count(1 << 30).unwrap();
        assert!(modest.try_count(1).is_none());

        let mut waiting = pin!(modest.count(1 << 20));
        assert!(poll_now(waiting.as_mut()).is_pending());
        drop(large);
        drop(waiting.await);
        // What is larger than all that is shared passes alone, and is waited for until the rest is gone.
        let mut whole = pin!(greedy.count(1 << 40));
        assert!(poll_now(whole.as_mut()).is_pending());
        held.drain(1..);
        let Poll::Ready(whole) = poll_now(whole) else { panic!("there is room") };
        assert_eq!(unread.chunks().available_permits(), 0);
        drop((held, whole));
        assert_free(&unread);
    }

    #[tokio::test]
    async fn a_chunk_is_counted_until_the_last_of_its_bytes_is_dropped() {
        let unread = unread();
        let backlog = Backlog::new(&unread);
        let mut chunk = backlog.try_count(100_000).unwrap().keep(Bytes::from(vec![7; 100_000]));
        let written = chunk.split_to(1);
        drop(chunk);
        assert_eq!(unread.held_bytes(), 100_000);
        drop(written);
        let mut both = backlog.try_count(70_000).unwrap();
        both.absorb(backlog.try_count(10).unwrap());
        drop(both);
        assert_free(&unread);
        assert_eq!(backlog.own_bytes.load(Ordering::Relaxed), 0);
    }
}
