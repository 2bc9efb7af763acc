//! The queue between a streaming handler and what writes its chunks.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::backlog::{Backlog, Counted};

/// How many chunks a published handler may be ahead: nobody can count what it puts into its queue before that is taken
/// out, so there must not be much of it.
const PUBLISHED_CHUNKS_MAX: usize = 4;

/// The same where there are few such streams on a connection. The shorter queue halves how many tiny chunks there can be
/// in a second.
const LONG_QUEUE_CHUNKS_MAX: usize = 32;

/// Where a streaming handler puts its chunks. Clones send to the same stream.
#[derive(Debug, Clone)]
pub struct ChunkSender {
    queue: mpsc::Sender<Queued>,
    chunk_bytes_max: usize,
    backlog: Arc<Backlog>,
}

/// What a [`ChunkSender`] queues.
#[derive(Debug)]
enum Queued {
    Chunk(Chunk),
    /// The chunks come from here instead.
    Instead(Published),
}

/// The queue of a published handler.
#[derive(Debug)]
struct Published {
    queue: mpsc::Receiver<Vec<u8>>,
    /// It is a long one.
    _long: Option<OwnedSemaphorePermit>,
}

/// A chunk that waits to be written.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) data: Bytes,
    /// Nothing, of a published handler's.
    pub(super) counted: Option<Counted>,
}

/// What is to be written, in order.
#[derive(Debug)]
pub(super) struct ChunkQueue {
    own: mpsc::Receiver<Queued>,
    instead: Option<Published>,
    /// Comes before all others.
    seen: Option<Chunk>,
}

/// A queue of at most `chunks_max` chunks, of at most `chunk_bytes_max` bytes each.
pub(super) fn channel(
    chunks_max: usize,
    chunk_bytes_max: usize,
    backlog: Arc<Backlog>,
) -> (ChunkSender, ChunkQueue) {
    let (queue, own) = mpsc::channel(chunks_max);
    (ChunkSender { queue, chunk_bytes_max, backlog }, ChunkQueue { own, instead: None, seen: None })
}

impl ChunkSender {
    /// Queues one chunk, waiting until there is room for it; chunks that are `Bytes` or `Vec<u8>` are not copied.
    /// Cancel-safe: a dropped future has sent nothing.
    ///
    /// There is room while the stream is not too many chunks ahead, and its connection does not hold too much that the
    /// peer has not read.
    ///
    /// # Errors
    /// [`ChunkError::CallerGone`]; [`ChunkError::TooLarge`], after which smaller chunks can still be sent.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), ChunkError> {
        let data = chunk.into();
        if data.len() > self.chunk_bytes_max {
            return Err(ChunkError::TooLarge { bytes: data.len(), bytes_max: self.chunk_bytes_max });
        }
        let bytes = data.len() as u64;
        let counted = match self.backlog.try_count(bytes) {
            Some(counted) => counted,
            None => tokio::select! {
                biased;
                () = self.queue.closed() => return Err(ChunkError::CallerGone),
                counted = self.backlog.count(bytes) => counted,
            },
        };
        let chunk = Queued::Chunk(Chunk { data, counted: Some(counted) });
        self.queue.send(chunk).await.map_err(|_| ChunkError::CallerGone)
    }

    /// The queue as a published handler has it. Whatever it holds is written even if the handler is dropped, as with a
    /// queue of chunks. Nobody has looked at how long its chunks are.
    pub(super) async fn into_published(self) -> Result<mpsc::Sender<Vec<u8>>, ChunkError> {
        let long = self.backlog.long_queue();
        let chunks_max = if long.is_some() { LONG_QUEUE_CHUNKS_MAX } else { PUBLISHED_CHUNKS_MAX };
        let (sender, queue) = mpsc::channel(self.queue.max_capacity().min(chunks_max));
        let instead = Queued::Instead(Published { queue, _long: long });
        self.queue.send(instead).await.map_err(|_| ChunkError::CallerGone)?;
        Ok(sender)
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(data: Vec<u8>) -> Self {
        Self { data: data.into(), counted: None }
    }
}

impl ChunkQueue {
    /// The next chunk; `None` once nobody can send any more. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Chunk> {
        if let Some(seen) = self.seen.take() {
            return Some(seen);
        }
        loop {
            if let Some(instead) = &mut self.instead {
                return instead.queue.recv().await.map(Chunk::from);
            }
            match self.own.recv().await? {
                Queued::Chunk(chunk) => return Some(chunk),
                Queued::Instead(instead) => self.instead = Some(instead),
            }
        }
    }

    /// The next chunk if it is there already and has at most `bytes_max`.
    pub(super) fn next_ready(&mut self, bytes_max: usize) -> Option<Chunk> {
        while self.seen.is_none() {
            if let Some(instead) = &mut self.instead {
                self.seen = Some(instead.queue.try_recv().ok()?.into());
                break;
            }
            match self.own.try_recv().ok()? {
                Queued::Chunk(chunk) => self.seen = Some(chunk),
                Queued::Instead(instead) => self.instead = Some(instead),
            }
        }
        self.seen.take_if(|chunk| chunk.data.len() <= bytes_max)
    }

    /// Takes no more, and hands out what is queued.
    pub(super) fn close(mut self) -> Vec<Chunk> {
        let mut chunks = Vec::from_iter(self.seen.take());
        self.own.close();
        while self.instead.is_none()
            && let Ok(queued) = self.own.try_recv()
        {
            match queued {
                Queued::Chunk(chunk) => chunks.push(chunk),
                Queued::Instead(instead) => self.instead = Some(instead),
            }
        }
        if let Some(instead) = &mut self.instead {
            instead.queue.close();
            while let Ok(chunk) = instead.queue.try_recv() {
                chunks.push(chunk.into());
            }
        }
        chunks
    }
}

/// Why a chunk could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Nobody reads the stream any more.
    #[error("the caller is gone")]
    CallerGone,
    /// The chunk does not fit into a frame.
    #[error("a chunk of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// The chunk's length, in bytes.
        bytes: usize,
        /// The longest chunk, in bytes: a few less than `max_frame_payload_bytes`.
        bytes_max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::LightningServerConfig;
    use crate::server::unread::Unread;

    fn channel(chunks_max: usize) -> (ChunkSender, ChunkQueue) {
        let unread = Unread::new(&LightningServerConfig::default());
        super::channel(chunks_max, 9, Backlog::new(&unread))
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_holds_and_takes_no_more() {
        for seen_before in [false, true] {
            let (sender, mut queue) = channel(2);
            let published = sender.into_published().await.unwrap();
            published.send(vec![1]).await.unwrap();
            published.send(vec![2]).await.unwrap();
            assert!(published.try_send(vec![3]).is_err(), "there is room for two");
            let mut chunks = Vec::new();
            if seen_before {
                chunks.extend(queue.next().await);
            }
            chunks.extend(queue.close());
            let chunks: Vec<_> = chunks.into_iter().map(|chunk| chunk.data).collect();
            assert_eq!(chunks, [&[1_u8][..], &[2]]);
            assert!(published.is_closed());
        }
        let (sender, mut queue) = channel(1);
        sender.send(&b"one"[..]).await.unwrap();
        assert!(queue.next_ready(2).is_none());
        // Looked at, and still there.
        assert_eq!(queue.close()[0].data, &b"one"[..]);
        assert_eq!(sender.send(&b"two"[..]).await, Err(ChunkError::CallerGone));
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_that_the_caller_is_gone() {
        let unread = Unread::new(&LightningServerConfig::default());
        let (sender, queue) = super::channel(9, 1 << 20, Backlog::new(&unread));
        let all = unread.chunks().try_acquire_many(unread.chunk_units(u64::MAX)).unwrap();
        sender.send(vec![1; 1 << 20]).await.unwrap();
        let waiting = tokio::spawn(async move { sender.send(vec![2]).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(queue);
        assert_eq!(waiting.await.unwrap(), Err(ChunkError::CallerGone));
        drop(all);
        assert_eq!(unread.held_bytes(), 0);
    }

    #[tokio::test]
    async fn few_published_handlers_of_a_connection_are_far_ahead() {
        let unread = Unread::new(&LightningServerConfig::default());
        let backlog = Backlog::new(&unread);
        let mut streams = Vec::new();
        for chunks_max in [32, 32, 4, 4] {
            let (sender, queue) = super::channel(100, 9, backlog.clone());
            let published = sender.into_published().await.unwrap();
            assert_eq!(published.max_capacity(), chunks_max);
            streams.push((published, queue));
        }
        streams.remove(0);
        let (sender, _queue) = super::channel(5, 9, backlog.clone());
        assert_eq!(sender.into_published().await.unwrap().max_capacity(), 5);
    }
}
