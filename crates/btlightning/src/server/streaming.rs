//! A streaming answer: the handler runs and its chunks are written, side by side on one task.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::backlog::Backlog;
use super::batch::{Batch, CHUNK_OVERHEAD_BYTES};
use super::call::Call;
use super::chunks::{self, Chunk, ChunkError, ChunkQueue};
use super::dispatch::{Outcome, log_failure};
use super::handler::{HandlerError, StreamHandler};
use super::pace::time_to_take;
use super::panics::Panicked;
use super::session::Session;
use super::stream::{acknowledged, send_last};
use super::work;
use crate::transport::frame_io::FrameSender;
use crate::wire::{StreamEnd, encode_frame};

/// Answers `call` with the chunks of `handler`, and the message that ends them.
///
/// The handler has until `deadline`. Then, or once it has returned, the chunks that it has sent so far may take as long
/// again to be written, and more for what the peer has read of them; one that does not finds the stream reset.
pub(super) async fn answer(
    session: &Session,
    name: &str,
    handler: Arc<dyn StreamHandler>,
    call: Call,
    deadline: Instant,
    mut sender: FrameSender,
) -> Option<FrameSender> {
    let config = &session.shared.config;
    let payload_bytes_max = config.max_frame_payload_bytes;
    let backlog = Backlog::new(&session.unread);
    let chunk_bytes_max = payload_bytes_max - CHUNK_OVERHEAD_BYTES;
    let (chunks, queue) = chunks::channel(config.streaming_channel_buffer, chunk_bytes_max, backlog.clone());
    let patience = config.handler_timeout();
    let gone = sender.settled();
    let (close, closing) = oneshot::channel();
    let progress = Progress::default();
    let outcome = {
        let writer = Writer { sender: &mut sender, backlog, payload_bytes_max, progress: &progress };
        let mut writer = pin!(write(queue, closing, writer));
        let handling = work::streaming(session, handler, call, chunks);
        let (outcome, mut written) = while_writing(handling, writer.as_mut(), deadline, gone).await;
        log_failure(session, name, &outcome);
        match (&outcome, &written) {
            (Outcome::CallerGone, _) => return None,
            // What the handler has left running may send on as long as the handler might have.
            (Outcome::Done(()), None) => written = timeout_at(deadline, writer.as_mut()).await.ok(),
            _ => {}
        }
        let written = match written {
            Some(written) => written,
            None => rest(close, writer.as_mut(), &progress, patience).await,
        };
        match written {
            Ok(()) => outcome,
            Err(Unwritten::Unread) => return None,
            Err(Unwritten::TooLarge(why)) => {
                let unsendable = too_large(why);
                log_failure(session, name, &unsendable);
                unsendable
            }
        }
    };
    let frame = encode_frame(&end(&outcome), payload_bytes_max).ok()?;
    let sent = send_last(sender, frame, patience).await?;
    acknowledged(sent, u64::MAX, patience).await
}

/// Why nothing more is written.
#[derive(Debug, Clone, Copy)]
enum Unwritten {
    /// The peer has left, or does not read.
    Unread,
    /// A chunk of a published handler is too long for its frame.
    TooLarge(ChunkError),
}

fn too_large(why: ChunkError) -> Outcome<()> {
    Outcome::Failed(HandlerError::unsendable(why))
}

/// Runs the handler, and writes meanwhile. Says how the handler ended, and the writer if it did so too.
async fn while_writing(
    handling: impl Future<Output = Result<Result<(), HandlerError>, Panicked>>,
    mut writer: Pin<&mut impl Future<Output = Result<(), Unwritten>>>,
    deadline: Instant,
    gone: impl Future<Output = ()>,
) -> (Outcome<()>, Option<Result<(), Unwritten>>) {
    let mut handling = pin!(handling);
    let mut gone = pin!(gone);
    let mut written = None;
    loop {
        tokio::select! {
            biased;
            done = &mut handling => return (Outcome::of(done), written),
            ended = writer.as_mut(), if written.is_none() => match ended {
                Ok(()) => written = Some(Ok(())),
                Err(Unwritten::Unread) => return (Outcome::CallerGone, None),
                Err(Unwritten::TooLarge(why)) => return (too_large(why), Some(Ok(()))),
            },
            () = &mut gone => return (Outcome::CallerGone, None),
            () = sleep_until(deadline) => return (Outcome::TimedOut, written),
        }
    }
}

/// How far the writer is.
#[derive(Debug, Default)]
struct Progress {
    /// How many bytes of data there were to be written when it was told to close.
    due_bytes: AtomicU64,
    /// How many bytes QUIC has taken since the stream began.
    taken_bytes: AtomicU64,
}

/// Writes what is queued, and takes no more.
async fn rest(
    close: oneshot::Sender<()>,
    mut writer: Pin<&mut impl Future<Output = Result<(), Unwritten>>>,
    progress: &Progress,
    patience: Duration,
) -> Result<(), Unwritten> {
    // An error means that the writer has ended, which it says itself.
    let _ = close.send(());
    let began = Instant::now();
    let taken_before = progress.taken_bytes.load(Ordering::Relaxed);
    let mut until = began;
    loop {
        // The writer says how much there is once it has seen that it is to close.
        let due = progress.due_bytes.load(Ordering::Relaxed);
        let taken = progress.taken_bytes.load(Ordering::Relaxed) - taken_before;
        let extended = began + time_to_take(patience, due, taken);
        if extended <= until {
            return Err(Unwritten::Unread);
        }
        until = extended;
        if let Ok(written) = timeout_at(until, writer.as_mut()).await {
            return written;
        }
    }
}

/// Writes chunks until nobody can send any more, or `closing` says that no more are wanted.
async fn write(
    mut queue: ChunkQueue,
    closing: oneshot::Receiver<()>,
    mut writer: Writer<'_>,
) -> Result<(), Unwritten> {
    let (payload_bytes_max, progress) = (writer.payload_bytes_max, writer.progress);
    let mut closing = pin!(closing);
    let left = loop {
        let chunk = tokio::select! {
            biased;
            _ = &mut closing => break queue.close(),
            chunk = queue.next() => chunk,
        };
        let Some(chunk) = chunk else { return Ok(()) };
        let batch = Batch::new(chunk, &mut queue, payload_bytes_max)?;
        let batch_bytes = batch.data_bytes();
        let mut writing = pin!(writer.write(batch));
        tokio::select! {
            biased;
            _ = &mut closing => {
                let left = queue.close();
                progress.due_bytes.store(bytes_in(&left) + batch_bytes, Ordering::Relaxed);
                writing.await?;
                break left;
            }
            written = &mut writing => written?,
        }
    };
    progress.due_bytes.fetch_max(bytes_in(&left), Ordering::Relaxed);
    for chunk in left {
        writer.write(Batch::of(chunk, payload_bytes_max)?).await?;
    }
    Ok(())
}

fn bytes_in(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.data.len() as u64).sum()
}

/// Where chunks are written.
struct Writer<'a> {
    sender: &'a mut FrameSender,
    backlog: Arc<Backlog>,
    payload_bytes_max: usize,
    progress: &'a Progress,
}

impl Writer<'_> {
    async fn write(&mut self, batch: Batch) -> Result<(), Unwritten> {
        let (mut pieces, _counted) = batch.into_pieces(&self.backlog).await;
        let mut pieces = &mut pieces[..];
        while !pieces.is_empty() {
            let written = self.sender.send_some(pieces).await.map_err(|_| Unwritten::Unread)?;
            self.progress.taken_bytes.fetch_add(written.bytes as u64, Ordering::Relaxed);
            pieces = &mut pieces[written.chunks..];
        }
        Ok(())
    }
}

impl From<ChunkError> for Unwritten {
    fn from(why: ChunkError) -> Self {
        Self::TooLarge(why)
    }
}

/// The message that ends the stream.
fn end(outcome: &Outcome<()>) -> StreamEnd {
    let error = match outcome {
        Outcome::Done(()) => None,
        Outcome::TimedOut => Some("handler timed out"),
        Outcome::Failed(error) if error.is_unsendable() => Some("stream write failed"),
        Outcome::Failed(_) | Outcome::Panicked(_) | Outcome::CallerGone => Some("stream processing failed"),
    };
    StreamEnd { success: error.is_none(), error: error.map(str::to_owned) }
}
