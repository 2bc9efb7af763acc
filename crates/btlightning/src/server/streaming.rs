//! A streaming answer: the handler runs and its chunks are written, side by side on one task.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::debug;

use super::call::Call;
use super::dispatch::{Outcome, log_failure};
use super::handler::{ChunkSender, HandlerError, StreamHandler};
use super::panics::{Panicked, catching};
use super::session::Session;
use super::stream::send_last;
use crate::transport::frame_io::FrameSender;
use crate::wire::{StreamEnd, encode_frame, write_stream_chunk_header};

/// What a chunk's message takes beside its data, in bytes, at most.
const CHUNK_OVERHEAD_BYTES: usize = 6;

/// Answers `call` with the chunks of `handler`, and the message that ends them.
///
/// The handler has until `deadline`. Then, or once it has returned, the chunks that it has sent so far may take as long
/// again to be written; a peer that does not read them by then finds the stream reset.
pub(super) async fn answer(
    session: &Session,
    name: &str,
    handler: &dyn StreamHandler,
    call: Call,
    deadline: Instant,
    mut sender: FrameSender,
) -> Option<FrameSender> {
    let config = &session.shared.config;
    let (queue, queued) = mpsc::channel(config.streaming_channel_buffer);
    let chunks = ChunkSender::new(queue, config.max_frame_payload_bytes - CHUNK_OVERHEAD_BYTES);
    let write_time = config.handler_timeout();
    let gone = sender.settled();
    let (close, closing) = oneshot::channel();
    let outcome = {
        let mut writer = pin!(write(queued, closing, &mut sender, config.max_frame_payload_bytes));
        let handling = catching(|| handler.handle(call, chunks));
        let (outcome, written) = while_writing(handling, writer.as_mut(), deadline, gone).await;
        log_failure(session, name, &outcome);
        let written = match (&outcome, written) {
            (Outcome::CallerGone, _) => return None,
            (_, Some(written)) => written,
            // What the handler has left running may send on as long as the handler might have.
            (Outcome::Done(()), None) => match timeout_at(deadline, writer.as_mut()).await {
                Ok(written) => written,
                Err(_) => rest(close, writer.as_mut(), write_time).await,
            },
            (_, None) => rest(close, writer.as_mut(), write_time).await,
        };
        written.ok()?;
        outcome
    };
    let frame = encode_frame(&end(&outcome), config.max_frame_payload_bytes).ok()?;
    send_last(sender, frame, write_time).await
}

/// Nothing more can be written: the peer has left, or does not read.
#[derive(Debug, Clone, Copy)]
struct Unwritable;

/// Runs the handler, and writes meanwhile. Says how the handler ended, and the writer if it did so too.
async fn while_writing(
    handling: impl Future<Output = Result<Result<(), HandlerError>, Panicked>>,
    mut writer: Pin<&mut impl Future<Output = Result<(), Unwritable>>>,
    deadline: Instant,
    gone: impl Future<Output = ()>,
) -> (Outcome<()>, Option<Result<(), Unwritable>>) {
    let mut handling = pin!(handling);
    let mut gone = pin!(gone);
    let mut written = None;
    loop {
        tokio::select! {
            biased;
            done = &mut handling => return (Outcome::of(done), written),
            ended = writer.as_mut(), if written.is_none() => match ended {
                Ok(()) => written = Some(Ok(())),
                Err(Unwritable) => return (Outcome::CallerGone, None),
            },
            () = &mut gone => return (Outcome::CallerGone, None),
            () = sleep_until(deadline) => return (Outcome::TimedOut, written),
        }
    }
}

/// Writes what is queued, and takes no more.
async fn rest(
    close: oneshot::Sender<()>,
    writer: Pin<&mut impl Future<Output = Result<(), Unwritable>>>,
    within: Duration,
) -> Result<(), Unwritable> {
    // An error means that the writer has ended, which it says itself.
    let _ = close.send(());
    timeout(within, writer).await.unwrap_or(Err(Unwritable))
}

/// Writes chunks until nobody can send any more, or `closing` says that no more are wanted.
async fn write(
    mut queued: mpsc::Receiver<Bytes>,
    closing: oneshot::Receiver<()>,
    sender: &mut FrameSender,
    payload_bytes_max: usize,
) -> Result<(), Unwritable> {
    let mut closing = pin!(closing);
    let mut is_closing = false;
    loop {
        tokio::select! {
            biased;
            chunk = queued.recv() => match chunk {
                Some(chunk) => write_chunk(chunk, sender, payload_bytes_max).await?,
                None => return Ok(()),
            },
            _ = &mut closing, if !is_closing => {
                is_closing = true;
                queued.close();
            }
        }
    }
}

/// Writes one chunk: its header, and then its data as the handler handed it over.
async fn write_chunk(
    chunk: Bytes,
    sender: &mut FrameSender,
    payload_bytes_max: usize,
) -> Result<(), Unwritable> {
    // The chunk's length was checked when it was queued.
    let header = write_stream_chunk_header(chunk.len(), payload_bytes_max).map_err(|_| Unwritable)?;
    let mut pieces = [Bytes::copy_from_slice(header.as_ref()), chunk];
    sender.send_pieces(&mut pieces).await.map_err(|error| {
        debug!("Failed to write stream chunk: {error}");
        Unwritable
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
