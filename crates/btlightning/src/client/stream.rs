//! Streaming answers: chunk after chunk until the miner says that it was all.

use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::wire::{MessageType, ResponseEnvelope, ScanLimits, StreamEnd, parse_stream_chunk};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::call::{EncodedRequest, Timings, deadline_after};
use super::config::LightningClientConfig;
use super::error::{CallError, PeerError, Phase};
use super::exchange::{self, Bounds, Marks};
use super::link::Link;
use super::route::{self, Route};
use crate::error::Result;
use crate::transport::frame_io::{Frame, FrameReader};

/// What a chunk counts for at least, in bytes, towards `max_stream_payload_bytes`. Otherwise a miner could send empty
/// chunks for ever.
const CHUNK_BYTES_LEAST: usize = 256;

/// A streaming answer, chunk by chunk. Dropping it tells the miner to stop.
#[derive(Debug)]
pub struct ChunkStream {
    opened: Opened,
    payload_bytes_max: usize,
    stream_bytes_max: usize,
    stream_bytes: usize,
    chunk_timeout: Duration,
    /// The first frame is read with the call; it is handed out by the first [`ChunkStream::next`].
    first: Option<Frame>,
    ended: bool,
}

struct Opened {
    reader: FrameReader,
    link: Arc<Link>,
    marks: Marks,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("link", &self.link).field("marks", &self.marks).finish_non_exhaustive()
    }
}

/// Asks, and waits for the first frame of the answer within `bounds`.
pub(crate) async fn open(
    config: &LightningClientConfig,
    route: &Route,
    request: &EncodedRequest,
    bounds: &Bounds,
    asked: Instant,
) -> std::result::Result<ChunkStream, CallError> {
    let link = route::ready_link(route, bounds.deadline, asked).await?;
    let answering = exchange::ask(&route.slot, &link, request.frame(), bounds, asked).await?;
    let (first, reader, marks) = answering.first_frame(&route.slot, &link, bounds.deadline).await?;
    Ok(ChunkStream {
        opened: Opened { reader, link, marks },
        payload_bytes_max: config.max_frame_payload_bytes,
        stream_bytes_max: config.max_stream_payload_bytes,
        stream_bytes: 0,
        chunk_timeout: config.chunk_timeout(),
        first: Some(first),
        ended: false,
    })
}

impl ChunkStream {
    /// The next chunk, or `None` once the miner has said that it was all. Waits for at most `stream_chunk_timeout`.
    ///
    /// Not cancel-safe: when the future is dropped in the middle of a chunk, that chunk and the stream are lost, and
    /// later calls fail.
    ///
    /// # Errors
    /// [`CallError`]: the miner reported a failure, the connection was lost, the time was up, the chunks exceed
    /// `max_stream_payload_bytes`. After an error the stream is over: further calls return `None`.
    pub async fn next(&mut self) -> std::result::Result<Option<Bytes>, CallError> {
        if self.ended {
            return Ok(None);
        }
        // Whatever goes wrong below, or stops this future, ends the stream.
        self.ended = true;
        let frame = match self.first.take() {
            Some(first) => first,
            None => self.frame().await?,
        };
        let chunk = self.sort(&frame)?;
        self.ended = chunk.is_none();
        Ok(chunk)
    }

    /// Where the time went until now; `last_byte` is now.
    pub fn timings(&self) -> Timings {
        Timings::new(&self.opened.marks, &self.opened.link)
    }

    async fn frame(&mut self) -> std::result::Result<Frame, CallError> {
        let asked = Instant::now();
        let deadline = deadline_after(asked, self.chunk_timeout);
        let Opened { reader, link, .. } = &mut self.opened;
        timeout_at(deadline, reader.frame(self.payload_bytes_max))
            .await
            .map_err(|_| CallError::TimedOut { phase: Phase::Chunk, after: asked.elapsed() })?
            .map_err(|error| exchange::read_failure(link, Phase::Chunk, error))?
            .ok_or_else(|| CallError::ConnectionLost {
                phase: Phase::Chunk,
                why: "the peer ended the stream without saying that it was all".to_owned(),
            })
    }

    /// What a frame means: a chunk, the end, or a failure.
    fn sort(&mut self, frame: &Frame) -> std::result::Result<Option<Bytes>, CallError> {
        match frame.kind {
            MessageType::StreamChunk => {
                let chunk = parse_stream_chunk(&frame.payload)?;
                self.stream_bytes = self.stream_bytes.saturating_add(chunk.len().max(CHUNK_BYTES_LEAST));
                if self.stream_bytes > self.stream_bytes_max {
                    return Err(CallError::StreamTooLarge { max: self.stream_bytes_max });
                }
                Ok(Some(chunk))
            }
            MessageType::StreamEnd => {
                let end = StreamEnd::decode(&frame.payload)?;
                if end.success {
                    return Ok(None);
                }
                Err(CallError::Rejected(PeerError::parse(end.error.as_deref().unwrap_or("stream failed"))))
            }
            // A miner without a handler of that name cannot know that a stream was wanted.
            MessageType::SynapseResponse => {
                let limits = ScanLimits::for_payload(frame.payload.len());
                let envelope = ResponseEnvelope::parse(&frame.payload, &limits)?;
                match envelope.error() {
                    Some(words) if !envelope.success() => Err(CallError::Rejected(PeerError::parse(words))),
                    _ => Err(CallError::UnexpectedMessage(frame.kind)),
                }
            }
            other => Err(CallError::UnexpectedMessage(other)),
        }
    }
}

/// A streaming answer as [`query_axon_stream`](crate::LightningClient::query_axon_stream) returns it.
#[derive(Debug)]
pub struct StreamingResponse {
    chunks: ChunkStream,
}

impl StreamingResponse {
    pub(crate) fn new(chunks: ChunkStream) -> Self {
        Self { chunks }
    }

    /// The next chunk, or `None` once the miner has said that it was all. Time, errors and cancellation are those of
    /// [`ChunkStream::next`].
    ///
    /// # Errors
    /// `Handler` when the miner reports a failure, `Transport` when the connection is lost, `Stream` when the time is up
    /// or the chunks are too large together.
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.chunks.next().await?.map(Vec::from))
    }

    /// All chunks that are left.
    ///
    /// # Errors
    /// As [`StreamingResponse::next_chunk`].
    pub async fn collect_all(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next_chunk().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}
