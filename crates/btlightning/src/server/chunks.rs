//! The queue between a streaming handler and what writes its chunks.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Where a streaming handler puts its chunks. Clones send to the same stream.
#[derive(Debug, Clone)]
pub struct ChunkSender {
    queue: mpsc::Sender<Queued>,
    chunk_bytes_max: usize,
}

/// What a [`ChunkSender`] queues.
#[derive(Debug)]
enum Queued {
    Chunk(Bytes),
    /// The chunks come from here instead.
    Instead(mpsc::Receiver<Vec<u8>>),
}

/// What is to be written, in order.
#[derive(Debug)]
pub(super) struct ChunkQueue {
    own: mpsc::Receiver<Queued>,
    instead: Option<mpsc::Receiver<Vec<u8>>>,
}

/// A queue of at most `chunks_max` chunks, of at most `chunk_bytes_max` bytes each.
pub(super) fn channel(chunks_max: usize, chunk_bytes_max: usize) -> (ChunkSender, ChunkQueue) {
    let (queue, own) = mpsc::channel(chunks_max);
    (ChunkSender { queue, chunk_bytes_max }, ChunkQueue { own, instead: None })
}

impl ChunkSender {
    /// Queues one chunk, waiting until there is room for it; chunks that are `Bytes` or `Vec<u8>` are not copied.
    /// Cancel-safe: a dropped future has sent nothing.
    ///
    /// # Errors
    /// [`ChunkError::CallerGone`]; [`ChunkError::TooLarge`], after which smaller chunks can still be sent.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), ChunkError> {
        let chunk = chunk.into();
        if chunk.len() > self.chunk_bytes_max {
            return Err(ChunkError::TooLarge { bytes: chunk.len(), bytes_max: self.chunk_bytes_max });
        }
        self.queue.send(Queued::Chunk(chunk)).await.map_err(|_| ChunkError::CallerGone)
    }

    /// The queue as a published handler has it, with as much room. Whatever it holds is written even if the handler is
    /// dropped, as with a queue of chunks. Nobody has looked at how long its chunks are.
    pub(super) async fn into_published(self) -> Result<mpsc::Sender<Vec<u8>>, ChunkError> {
        let (sender, queue) = mpsc::channel(self.queue.max_capacity());
        self.queue.send(Queued::Instead(queue)).await.map_err(|_| ChunkError::CallerGone)?;
        Ok(sender)
    }
}

impl ChunkQueue {
    /// The next chunk; `None` once nobody can send any more. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(instead) = &mut self.instead {
                return instead.recv().await.map(Bytes::from);
            }
            match self.own.recv().await? {
                Queued::Chunk(chunk) => return Some(chunk),
                Queued::Instead(instead) => self.instead = Some(instead),
            }
        }
    }

    /// Takes no more, and hands out what is queued.
    pub(super) fn close(mut self) -> Vec<Bytes> {
        let mut chunks = Vec::new();
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
            instead.close();
            while let Ok(chunk) = instead.try_recv() {
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

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_holds_and_takes_no_more() {
        for seen_before in [false, true] {
            let (sender, mut queue) = channel(2, 9);
            let published = sender.into_published().await.unwrap();
            published.send(vec![1]).await.unwrap();
            published.send(vec![2]).await.unwrap();
            assert!(published.try_send(vec![3]).is_err(), "there is room for two");
            let mut chunks = Vec::new();
            if seen_before {
                chunks.extend(queue.next().await);
            }
            chunks.extend(queue.close());
            assert_eq!(chunks, [&[1_u8][..], &[2]]);
            assert!(published.is_closed());
        }
        let (sender, queue) = channel(1, 9);
        sender.send(&b"one"[..]).await.unwrap();
        assert_eq!(queue.close(), [&b"one"[..]]);
        assert_eq!(sender.send(&b"two"[..]).await, Err(ChunkError::CallerGone));
    }
}
