//! A streaming answer: the handler runs and its chunks are written, side by side on one task.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use super::call::Call;
use super::chunks::{self, ChunkError, ChunkQueue};
use super::dispatch::{Outcome, log_failure};
use super::handler::{HandlerError, StreamHandler};
use super::pace::time_for;
use super::panics::Panicked;
use super::session::Session;
use super::stream::send_last;
use super::work;
use crate::transport::frame_io::FrameSender;
use crate::wire::{StreamEnd, encode_frame, write_stream_chunk_header};

/// What a chunk's message takes beside its data, in bytes, at most.
const CHUNK_OVERHEAD_BYTES: usize = 6;

/// Answers `call` with the chunks of `handler`, and the message that ends them.
///
/// The handler has until `deadline`. Then, or once it has returned, the chunks that it has sent so far may take as long
/// again to be written, and more for their size; a peer that does not read them by then finds the stream reset.
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
    let (chunks, queue) =
        chunks::channel(config.streaming_channel_buffer, payload_bytes_max - CHUNK_OVERHEAD_BYTES);
    let patience = config.handler_timeout();
    let gone = sender.settled();
    let (close, closing) = oneshot::channel();
    let due = AtomicU64::new(0);
    let outcome = {
        let mut writer = pin!(write(queue, closing, &mut sender, payload_bytes_max, &due));
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
            None => rest(close, writer.as_mut(), &due, patience).await,
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
    send_last(sender, frame, patience).await
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

/// Writes what is queued, and takes no more.
async fn rest(
    close: oneshot::Sender<()>,
    mut writer: Pin<&mut impl Future<Output = Result<(), Unwritten>>>,
    due: &AtomicU64,
    patience: Duration,
) -> Result<(), Unwritten> {
    // An error means that the writer has ended, which it says itself.
    let _ = close.send(());
    let began = Instant::now();
    let mut until = began;
    loop {
        // The writer says how much there is once it has seen that it is to close.
        let extended = began + time_for(patience, due.load(Ordering::Relaxed));
        if extended <= until {
            return Err(Unwritten::Unread);
        }
        until = extended;
        if let Ok(written) = timeout_at(until, writer.as_mut()).await {
            return written;
        }
    }
}

/// Writes chunks until nobody can send any more, or `closing` says that no more are wanted. From then on `due` is how
/// many bytes there were to be written at that moment.
async fn write(
    mut queue: ChunkQueue,
    closing: oneshot::Receiver<()>,
    sender: &mut FrameSender,
    payload_bytes_max: usize,
    due: &AtomicU64,
) -> Result<(), Unwritten> {
    let mut closing = pin!(closing);
    let left = loop {
        let chunk = tokio::select! {
            biased;
            _ = &mut closing => break queue.close(),
            chunk = queue.next() => chunk,
        };
        let Some(chunk) = chunk else { return Ok(()) };
        let chunk_bytes = chunk.len();
        let mut writing = pin!(write_chunk(chunk, sender, payload_bytes_max));
        tokio::select! {
            biased;
            _ = &mut closing => {
                let left = queue.close();
                due.store(bytes_in(&left) + chunk_bytes as u64, Ordering::Relaxed);
                writing.await?;
                break left;
            }
            written = &mut writing => written?,
        }
    };
    due.fetch_max(bytes_in(&left), Ordering::Relaxed);
    for chunk in left {
        write_chunk(chunk, sender, payload_bytes_max).await?;
    }
    Ok(())
}

fn bytes_in(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// Writes one chunk: its header, and then its data as the handler handed it over.
async fn write_chunk(
    chunk: Bytes,
    sender: &mut FrameSender,
    payload_bytes_max: usize,
) -> Result<(), Unwritten> {
    let header = write_stream_chunk_header(chunk.len(), payload_bytes_max).map_err(|_| {
        let bytes_max = payload_bytes_max - CHUNK_OVERHEAD_BYTES;
        Unwritten::TooLarge(ChunkError::TooLarge { bytes: chunk.len(), bytes_max })
    })?;
    let mut pieces = [Bytes::copy_from_slice(header.as_ref()), chunk];
    sender.send_pieces(&mut pieces).await.map_err(|error| {
        debug!("Failed to write stream chunk: {error}");
        Unwritten::Unread
    })
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
