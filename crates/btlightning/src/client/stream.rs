//! Streaming answers: chunk after chunk until the miner says that it was all.

use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::wire::{MessageType, ResponseEnvelope, ScanLimits, StreamEnd, parse_stream_chunk};
use bytes::Bytes;
use tokio::time::Instant;

use super::call::{self, CallOptions};
use super::config::LightningClientConfig;
use super::deadline::deadline_after;
use super::error::{CallError, PeerError, Phase};
use super::exchange::{self, Sent, within};
use super::link::Link;
use super::reply::Timings;
use super::request::RawRequest;
use super::route::Route;
use super::slot::Slot;
use crate::error::{LightningError, Result};
use crate::transport::frame_io::Frame;

/// What a chunk counts for at least, in bytes, towards `max_stream_payload_bytes`. Otherwise a miner could send empty
/// chunks for ever.
const CHUNK_BYTES_LEAST: usize = 256;

/// Smaller chunks are copied, in bytes: packets are received up to 64 KiB at a time, and a chunk that is kept would keep all
/// of them.
const SHARED_BYTES_LEAST: usize = 4 * 1024;

/// A streaming answer, chunk by chunk. Dropping it tells the miner to stop.
pub struct ChunkStream {
    sent: Sent<Arc<Link>>,
    link: Arc<Link>,
    slot: Arc<Slot>,
    payload_bytes_max: usize,
    stream_bytes_max: usize,
    stream_bytes: usize,
    first_byte_timeout: Option<Duration>,
    chunk_timeout: Duration,
    /// When all of it must be here.
    deadline: Instant,
    /// When the first and the last frame so far had arrived.
    arrived: Option<(Instant, Instant)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// More is to come.
    Open,
    /// The miner has said that it was all.
    Ended,
    /// An error was handed out.
    Failed,
}

impl std::fmt::Debug for ChunkStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkStream")
            .field("link", &self.link)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Asks. Returns when the request has gone out.
pub(crate) async fn open(
    config: &LightningClientConfig,
    route: &Route,
    request: &RawRequest,
    options: CallOptions,
    asked: Instant,
) -> std::result::Result<ChunkStream, CallError> {
    let bounds = options.bounds(config, asked);
    let (payload_bytes_max, stream_bytes_max) = options.stream_bytes_max(config);
    let sent = call::send(route, request, bounds.deadline, asked).await?;
    Ok(ChunkStream {
        link: sent.reader.link.clone(),
        sent,
        slot: route.slot.clone(),
        payload_bytes_max,
        stream_bytes_max,
        stream_bytes: 0,
        first_byte_timeout: bounds.first_byte,
        chunk_timeout: config.chunk_timeout(),
        deadline: options.stream_deadline(config, asked),
        arrived: None,
        state: State::Open,
    })
}

impl ChunkStream {
    /// The next chunk, or `None` once the miner has said that it was all. Waits for at most `stream_chunk_timeout`, and not
    /// beyond the `stream_timeout` of the whole; for the first chunk, also for no more than the call's `first_byte_timeout`
    /// after the request had gone out. A chunk of less than 4 KiB is a copy, a larger one may share memory with what arrived
    /// with it.
    ///
    /// Cancel-safe: what has arrived of a chunk when the future is dropped is kept for the next call.
    ///
    /// # Errors
    /// [`CallError`]: the miner reported a failure, the connection was lost, the time was up, the chunks exceed
    /// `max_stream_payload_bytes` or the call's `answer_bytes_max`. After an error the stream is over, and further calls return
    /// [`CallError::StreamOver`], never a clean end.
    pub async fn next(&mut self) -> std::result::Result<Option<Bytes>, CallError> {
        match self.state {
            State::Open => {}
            State::Ended => return Ok(None),
            State::Failed => return Err(CallError::StreamOver),
        }
        // Of chunks that are all there, others have their turns in between.
        tokio::task::consume_budget().await;
        let frame = self.frame().await;
        let chunk = frame.and_then(|frame| self.sort(&frame));
        self.state = match &chunk {
            Ok(Some(_)) => State::Open,
            Ok(None) => State::Ended,
            Err(_) => State::Failed,
        };
        chunk
    }

    /// Where the time went until now: `first_byte` and `last_byte` are those of the first and the last frame that were
    /// received; of none, they are zero.
    pub fn timings(&self) -> Timings {
        let (first, last) = self.arrived.unwrap_or((self.sent.marks.sent, self.sent.marks.sent));
        Timings::new(&self.sent.marks, first, last, &self.link)
    }

    async fn frame(&mut self) -> std::result::Result<Frame, CallError> {
        let asked = Instant::now();
        let is_first = self.arrived.is_none();
        if asked >= self.deadline {
            return Err(self.whole_too_long());
        }
        let mut deadline = deadline_after(asked, self.chunk_timeout).min(self.deadline);
        if let Some(first_byte) = self.first_byte_timeout.filter(|_| is_first) {
            deadline = deadline.min(deadline_after(self.sent.marks.sent, first_byte));
        }
        let phase = if is_first { Phase::FirstByte } else { Phase::Chunk };
        let reading = self.sent.reader.frame(self.payload_bytes_max);
        let frame = within(deadline, &self.slot, &self.link, reading)
            .await
            .map_err(|_| match deadline == self.deadline {
                true => self.whole_too_long(),
                false => CallError::TimedOut { phase: Phase::Chunk, after: asked.elapsed() },
            })?
            .map_err(|error| exchange::read_failure(&self.link, phase, error))?
            .ok_or_else(|| CallError::ConnectionLost {
                phase,
                why: "the peer ended the stream without saying that it was all".to_owned(),
            })?;
        let now = Instant::now();
        self.arrived = Some((self.arrived.map_or(now, |(first, _)| first), now));
        Ok(frame)
    }

    fn whole_too_long(&self) -> CallError {
        CallError::TimedOut { phase: Phase::Stream, after: self.sent.marks.asked.elapsed() }
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
                if chunk.len() < SHARED_BYTES_LEAST {
                    return Ok(Some(Bytes::copy_from_slice(&chunk)));
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
    /// `Transport` when the connection is lost or a frame is too large; `Stream` for everything else: the miner reports a
    /// failure, the time is up, the chunks are too large together.
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.chunks.next().await.map_err(published)?.map(Vec::from))
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

/// On streams the published calls have another class for what the miner says.
fn published(error: CallError) -> LightningError {
    match error {
        CallError::Rejected(_) | CallError::UnexpectedMessage(_) => LightningError::Stream(error.to_string()),
        other => other.into(),
    }
}
