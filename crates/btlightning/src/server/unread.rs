//! Answers on their way to a peer that may never read them: what those of one connection may hold, and for how long.
//!
//! Small ones are not counted, as small requests are not: the connection's number of streams bounds what they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, Semaphore};

use super::config::LightningServerConfig;
use super::intake::{self, SMALL_BYTES};

/// How often the budget may be held by answers of handlers that had begun while there was room. They are not stopped, and
/// their answers are made when they come; but somewhere there has to be an end.
const BUDGETS_MAX: u64 = 4;

/// The most that QUIC holds of a connection's answers, in bytes.
const IN_FLIGHT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How the chunks of streaming answers are counted, in bytes.
const CHUNK_UNIT_BYTES: u64 = 1024;

/// How many published handlers of a connection may be far ahead at once.
const LONG_QUEUES_MAX: usize = 2;

/// The large answers of one connection that the peer has not acknowledged.
#[derive(Debug)]
pub(super) struct Unread {
    budget_bytes: u64,
    /// What its streaming answers share: half the budget. With all of it, streams that nobody reads would keep other
    /// handlers from beginning.
    chunks: Semaphore,
    chunk_units: u32,
    /// For streaming answers of published handlers that have a long queue.
    long_queues: Arc<Semaphore>,
    held_bytes: AtomicU64,
    /// Told when there is room again.
    room: Notify,
}

/// Counts an answer as long as it lives.
#[derive(Debug)]
pub(super) struct Held {
    unread: Arc<Unread>,
    bytes: u64,
}

/// Whether an answer is large enough to count.
pub(super) fn counts(answer_bytes: u64) -> bool {
    answer_bytes > SMALL_BYTES.into()
}

/// How much of an answer of so many bytes may still be in flight when the last of it was handed to QUIC.
pub(super) fn in_flight_bytes(answer_bytes: u64) -> u64 {
    answer_bytes.min(IN_FLIGHT_BYTES_MAX)
}

impl Unread {
    pub(super) fn new(config: &LightningServerConfig) -> Arc<Self> {
        let budget_bytes = u64::try_from(intake::budget_bytes(config)).unwrap_or(u64::MAX);
        let chunk_units = u32::try_from(budget_bytes / 2 / CHUNK_UNIT_BYTES).unwrap_or(u32::MAX);
        Arc::new(Self {
            budget_bytes,
            chunks: Semaphore::new(chunk_units as usize),
            chunk_units,
            long_queues: Arc::new(Semaphore::new(LONG_QUEUES_MAX)),
            held_bytes: AtomicU64::new(0),
            room: Notify::new(),
        })
    }

    /// Whether another handler may begin.
    pub(super) fn has_room(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) < self.budget_bytes
    }

    /// Waits until another handler may begin: until the peer has read enough of what it asked for before, or the time for
    /// that is over. Cancel-safe.
    pub(super) async fn room(&self) {
        loop {
            let news = self.room.notified();
            if self.has_room() {
                return;
            }
            news.await;
        }
    }

    /// Counts an answer; `None` if there is too much already.
    pub(super) fn hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        let most = self.budget_bytes.saturating_mul(BUDGETS_MAX);
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= most);
        self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Held { unread: self.clone(), bytes })
    }

    /// What the connection's streaming answers share, in units.
    pub(super) fn chunks(&self) -> &Semaphore {
        &self.chunks
    }

    pub(super) fn long_queues(&self) -> &Arc<Semaphore> {
        &self.long_queues
    }

    /// The units of a chunk. One that is larger than all that is shared has all of it.
    pub(super) fn chunk_units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(CHUNK_UNIT_BYTES)).unwrap_or(u32::MAX).min(self.chunk_units)
    }

    /// Counts what somebody else has found to have room.
    pub(super) fn add(&self, bytes: u64) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts no more what was counted.
    pub(super) fn give_back(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.has_room() {
            self.room.notify_waiters();
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.unread.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn handlers_wait_while_the_budget_is_held_and_answers_fail_only_at_four_times_that() {
        let config = LightningServerConfig { max_frame_payload_bytes: 1 << 20, ..Default::default() };
        let unread = Unread::new(&config);
        let budget = 128 << 20;
        let mut held: Vec<_> = (0..4).map(|_| unread.hold(budget / 4).unwrap()).collect();
        assert!(!unread.has_room());
        let mut room = pin!(unread.room());
        assert!(poll_fn(|cx| Poll::Ready(room.as_mut().poll(cx).is_pending())).await);
        held.extend((0..3).map(|_| unread.hold(budget).unwrap()));
        assert!(unread.hold(1).is_none());
        held.truncate(3);
        room.await;
        unread.hold(budget).unwrap();
    }
}
