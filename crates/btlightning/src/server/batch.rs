//! What is written at once of a streaming answer: a large chunk, or small ones that are queued, in one piece.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::backlog::{Backlog, Counted};
use super::chunks::{Chunk, ChunkError, ChunkQueue};
use crate::wire::write_stream_chunk_header;

/// What a chunk's message takes beside its data, in bytes, at most.
pub(super) const CHUNK_OVERHEAD_BYTES: usize = 6;

/// The data of a chunk that is copied, so that it is written as one piece with its header and with others, in bytes.
const COPIED_BYTES_MAX: usize = 1024;

/// The longest piece that is made of small chunks, in bytes, but for the last chunk in it.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// Messages that are written at once.
#[derive(Debug)]
pub(super) enum Batch {
    /// Of small chunks. quinn counts what it holds of them.
    Small { piece: Bytes, data_bytes: u64, counted: Option<Counted> },
    /// Of a large one. All of it stays while quinn holds some.
    Large { header: Bytes, chunk: Chunk },
}

impl Batch {
    /// `chunk`, and small ones that are queued behind it.
    ///
    /// quinn keeps every piece that it is given until it is acknowledged, and goes through all of them for each that it
    /// sends: millions of tiny ones would keep its thread for minutes, and take many times their bytes.
    pub(super) fn new(
        chunk: Chunk,
        queue: &mut ChunkQueue,
        payload_bytes_max: usize,
    ) -> Result<Self, ChunkError> {
        if chunk.data.len() > COPIED_BYTES_MAX {
            return Self::of(chunk, payload_bytes_max);
        }
        let mut piece = BytesMut::from(header(&chunk.data, payload_bytes_max)?.as_ref());
        piece.extend_from_slice(&chunk.data);
        let mut data_bytes = chunk.data.len() as u64;
        let mut counted = chunk.counted;
        while piece.len() < PIECE_BYTES_MAX
            && let Some(chunk) = queue.next_ready(COPIED_BYTES_MAX)
        {
            piece.extend_from_slice(header(&chunk.data, payload_bytes_max)?.as_ref());
            piece.extend_from_slice(&chunk.data);
            data_bytes += chunk.data.len() as u64;
            match (&mut counted, chunk.counted) {
                (Some(counted), Some(more)) => counted.absorb(more),
                (counted, more) => *counted = counted.take().or(more),
            }
        }
        Ok(Self::Small { piece: piece.freeze(), data_bytes, counted })
    }

    /// `chunk` alone.
    pub(super) fn of(chunk: Chunk, payload_bytes_max: usize) -> Result<Self, ChunkError> {
        let header = Bytes::copy_from_slice(header(&chunk.data, payload_bytes_max)?.as_ref());
        Ok(Self::Large { header, chunk })
    }

    /// How much data there is in it.
    pub(super) fn data_bytes(&self) -> u64 {
        match self {
            Self::Small { data_bytes, .. } => *data_bytes,
            Self::Large { chunk, .. } => chunk.data.len() as u64,
        }
    }

    /// The pieces to be written, once there is room for them, and what is to be kept until they are. Cancel-safe in so far
    /// as nothing is counted that is not here.
    pub(super) async fn into_pieces(self, backlog: &Arc<Backlog>) -> ([Bytes; 2], Option<Counted>) {
        match self {
            Self::Small { piece, counted, .. } => ([piece, Bytes::new()], counted),
            Self::Large { header, chunk: Chunk { data, counted } } => {
                let counted = match counted {
                    Some(counted) => counted,
                    None => backlog.count(data.len() as u64).await,
                };
                ([header, counted.keep(data)], None)
            }
        }
    }
}

fn header(data: &Bytes, payload_bytes_max: usize) -> Result<impl AsRef<[u8]> + use<>, ChunkError> {
    write_stream_chunk_header(data.len(), payload_bytes_max).map_err(|_| {
        let bytes_max = payload_bytes_max - CHUNK_OVERHEAD_BYTES;
        ChunkError::TooLarge { bytes: data.len(), bytes_max }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::chunks::{self, ChunkSender};
    use crate::server::config::LightningServerConfig;
    use crate::server::unread::Unread;

    fn stream(chunks_max: usize) -> (ChunkSender, ChunkQueue, Arc<Backlog>, Arc<Unread>) {
        let unread = Unread::new(&LightningServerConfig::default());
        let backlog = Backlog::new(&unread);
        let (sender, queue) = chunks::channel(chunks_max, 1 << 20, backlog.clone());
        (sender, queue, backlog, unread)
    }

    #[tokio::test]
    async fn small_chunks_that_are_queued_are_one_piece_and_large_ones_are_not_copied() {
        let (sender, mut queue, backlog, unread) = stream(64);
        let large = Bytes::from(vec![7; 100_000]);
        for _ in 0..20 {
            sender.send(Bytes::new()).await.unwrap();
        }
        sender.send(large.clone()).await.unwrap();
        sender.send(&b"last"[..]).await.unwrap();

        let mut written = Vec::new();
        let mut sizes = Vec::new();
        let mut held = Vec::new();
        for _ in 0..3 {
            let first = queue.next().await.unwrap();
            let batch = Batch::new(first, &mut queue, 1 << 20).unwrap();
            let data_bytes = batch.data_bytes();
            let (pieces, _counted) = batch.into_pieces(&backlog).await;
            sizes.push((pieces.iter().filter(|piece| !piece.is_empty()).count(), data_bytes));
            written.extend(pieces.concat());
            held.push(pieces);
        }
        assert_eq!(sizes, [(1, 0), (2, large.len() as u64), (1, 4)]);
        assert_eq!(held[1][1].as_ptr(), large.as_ptr());
        assert_eq!(unread.held_bytes(), 100_000, "until the last of it is dropped");

        let mut expected = Vec::new();
        for chunk in std::iter::repeat_n(Bytes::new(), 20).chain([large, Bytes::from_static(b"last")]) {
            expected.extend(header(&chunk, 1 << 20).unwrap().as_ref());
            expected.extend(chunk);
        }
        assert!(written == expected, "the same bytes as one by one");
        drop(held);
        assert_eq!(unread.held_bytes(), 0);
    }

    #[tokio::test]
    async fn a_piece_of_small_chunks_has_an_end() {
        let (sender, mut queue, backlog, _) = stream(100);
        for _ in 0..64 {
            sender.send(vec![1; COPIED_BYTES_MAX]).await.unwrap();
        }
        let first = queue.next().await.unwrap();
        let ([piece, nothing], counted) =
            Batch::new(first, &mut queue, 1 << 20).unwrap().into_pieces(&backlog).await;
        assert!((PIECE_BYTES_MAX..PIECE_BYTES_MAX + 2 * COPIED_BYTES_MAX).contains(&piece.len()));
        assert!(nothing.is_empty() && counted.is_some());
    }
}
