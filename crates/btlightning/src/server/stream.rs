//! One stream of a connection: which kind of request it carries, and who answers it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::dispatch::{self, Asked, Request};
use super::handshake::{self, HANDSHAKE_PAYLOAD_BYTES_MAX};
use super::pace::{time_for, time_to_take};
use super::quick::Quick;
use super::session::Session;
use super::unread;
use super::work::Ended;
use crate::transport::frame_io::{FrameReadError, FrameReader, FrameSender, Outgoing};
use crate::transport::io::Task;
use crate::util::unix_timestamp_secs;
use crate::wire::{FrameError, FrameHeader, MessageType, encode_error_response_frame, encode_frame};

/// What is left to be done for a stream.
pub(super) enum Begun {
    /// Nothing of it, or only a header, was read.
    Opened(Opened),
    /// It asks for what a handler has to work on.
    Asked(Asked, FrameSender),
    /// Its handler works.
    Working(Task<Ended>, Request, FrameSender),
    /// Its handler hangs.
    Overdue(Arc<Quick>),
    /// Its answer was put on the stream, and does not fit into the peer's window yet.
    Answering(FrameSender),
    /// It is to be sent this large answer.
    Answered(Outgoing, FrameSender),
    /// It is to be told this.
    Refused(&'static str, FrameSender),
}

/// A stream that was opened.
pub(super) struct Opened {
    pub(super) reader: FrameReader,
    pub(super) sender: FrameSender,
    /// The header of its first frame, if that was there already.
    pub(super) header: Option<Result<Option<FrameHeader>, FrameReadError>>,
}

/// Serves one stream. Hands out the finished sending side, or nothing if the stream was given up.
pub(super) async fn serve(session: Arc<Session>, begun: Begun) -> Option<FrameSender> {
    let _in_flight = session.proven().map(|_| session.activity.begin());
    match begun {
        Begun::Opened(opened) if session.proven().is_none() => serve_strangers(&session, opened).await,
        // Much larger than the others, and rarer.
        Begun::Opened(opened) => Box::pin(serve_opened(&session, opened)).await,
        Begun::Asked(asked, sender) => Box::pin(dispatch::answer(&session, asked, sender)).await,
        Begun::Working(working, request, sender) => {
            Box::pin(dispatch::answer_working(&session, &request, working, sender)).await
        }
        Begun::Overdue(quick) => Box::pin(quick.watch(&session)).await,
        Begun::Answering(sender) => flush_last(sender, session.shared.config.handler_timeout()).await,
        Begun::Answered(frame, sender) => answer_with(&session, frame, sender).await,
        Begun::Refused(words, sender) => fail(&session, sender, words).await,
    }
}

/// A stream that was opened, and what it begins with.
struct Heard {
    reader: FrameReader,
    sender: FrameSender,
    header: Result<FrameHeader, FrameError>,
}

/// Waits for the first header. An error is the end of the stream.
async fn hear(session: &Session, opened: Opened) -> Result<Heard, Option<FrameSender>> {
    let Opened { mut reader, sender, header } = opened;
    let header = match header {
        Some(header) => header,
        None => {
            let header = session.intake.header(&mut reader, session.shared.config.max_frame_payload_bytes);
            header.await.ok_or(None)?
        }
    };
    let header = match header {
        Ok(Some(header)) => Ok(header),
        Err(FrameReadError::Frame(error)) => Err(error),
        // Nothing was asked.
        Ok(None) | Err(FrameReadError::Truncated) => return Err(finish(sender)),
        Err(FrameReadError::Read(_)) => return Err(None),
    };
    Ok(Heard { reader, sender, header })
}

/// What is needed to serve a stream takes some kilobytes. A stranger has to say something before they are set aside.
async fn serve_strangers(session: &Session, opened: Opened) -> Option<FrameSender> {
    match hear(session, opened).await {
        Ok(heard) => Box::pin(serve_heard(session, heard)).await,
        Err(ended) => ended,
    }
}

async fn serve_opened(session: &Session, opened: Opened) -> Option<FrameSender> {
    match hear(session, opened).await {
        Ok(heard) => serve_heard(session, heard).await,
        Err(ended) => ended,
    }
}

async fn serve_heard(session: &Session, heard: Heard) -> Option<FrameSender> {
    let Heard { mut reader, sender, header } = heard;
    if let Some(header) = header.ok().filter(is_handshake) {
        let taken = session.intake.payload(&mut reader, header).await?;
        drop(reader);
        return answer_handshake(session, &taken.payload, sender).await;
    }
    match session.proven() {
        Some(hotkey) => dispatch::serve(session, *hotkey, header, reader, sender).await,
        // Nothing of what a stranger sends is read, and the answer does not depend on it.
        None => {
            drop(reader);
            session.earn_eviction();
            fail(session, sender, "authentication failed").await
        }
    }
}

fn is_handshake(header: &FrameHeader) -> bool {
    header.kind == MessageType::HandshakeRequest && header.payload_bytes <= HANDSHAKE_PAYLOAD_BYTES_MAX
}

async fn answer_handshake(session: &Session, payload: &[u8], sender: FrameSender) -> Option<FrameSender> {
    let response = handshake::answer(session, payload).await;
    match encode_frame(&response, session.shared.config.max_frame_payload_bytes) {
        Ok(frame) => send_last(sender, frame, session.shared.config.handler_timeout()).await,
        Err(error) => {
            warn!("a handshake's answer could not be encoded: {error}");
            None
        }
    }
}

/// What is no request gets no answer; the stream just ends. The connection is kept.
pub(super) fn refuse_unread(
    session: &Session,
    sender: FrameSender,
    what: &Result<FrameHeader, FrameError>,
) -> Option<FrameSender> {
    let remote = session.connection.remote_address();
    session.shared.hush.requests.line(|more| match what {
        Ok(header) => warn!("Unexpected message type on server: {:?} from {remote}{more}", header.kind),
        Err(error) => warn!("Failed to read frame from {remote}: {error}{more}"),
    });
    finish(sender)
}

/// Ends a stream on which nothing, or everything, was said.
pub(super) fn finish(mut sender: FrameSender) -> Option<FrameSender> {
    sender.finish();
    Some(sender)
}

/// Answers with one of the published errors.
pub(super) async fn fail(session: &Session, sender: FrameSender, error: &str) -> Option<FrameSender> {
    send_last(sender, failure_frame(session, error)?, session.shared.config.handler_timeout()).await
}

/// One of the published errors.
pub(super) fn failure_frame(session: &Session, error: &str) -> Option<Outgoing> {
    let max = session.shared.config.max_frame_payload_bytes;
    encode_error_response_frame(error, unix_timestamp_secs(), max).ok().map(Outgoing::from)
}

/// Sends an answer. A large one counts against what its connection may hold, until the peer has acknowledged it.
pub(super) async fn answer_with(
    session: &Session,
    frame: Outgoing,
    sender: FrameSender,
) -> Option<FrameSender> {
    let (bytes, patience) = (frame.len() as u64, session.shared.config.handler_timeout());
    if !unread::counts(bytes) {
        return send_last(sender, frame, patience).await;
    }
    let Some(_held) = session.unread.hold(bytes) else {
        drop(frame);
        session.shared.hush.handlers.line(|more| {
            let id = session.id;
            warn!(
                "an answer of {bytes} bytes is dropped: connection {id} does not read those before it{more}"
            );
        });
        return fail(session, sender, "request processing failed").await;
    };
    let sent = send_last(sender, frame, patience).await?;
    acknowledged(sent, bytes, patience).await
}

/// Waits until the peer has acknowledged an answer of so many bytes, of which the last was written. One that it does not
/// acknowledge in time is let go of.
pub(super) async fn acknowledged(
    sender: FrameSender,
    answer_bytes: u64,
    patience: Duration,
) -> Option<FrameSender> {
    let until_then = timeout(time_for(patience, unread::in_flight_bytes(answer_bytes)), sender.settled());
    if until_then.await.is_err() {
        sender.abandon();
    }
    None
}

/// Writes the last frame of a stream. A peer that does not read it in time, which is `patience` and more for what it has
/// read of it, finds the stream reset.
pub(super) async fn send_last(
    mut sender: FrameSender,
    frame: impl Into<Outgoing>,
    patience: Duration,
) -> Option<FrameSender> {
    sender.put(frame.into());
    flush_last(sender, patience).await
}

/// [`send_last`], of what was put on the stream.
async fn flush_last(mut sender: FrameSender, patience: Duration) -> Option<FrameSender> {
    let (began, bytes) = (Instant::now(), sender.rest_bytes());
    let mut until = began + time_to_take(patience, bytes, 0);
    loop {
        match timeout_at(until, sender.flush()).await {
            Ok(Ok(())) => return finish(sender),
            Ok(Err(_)) => return None,
            // It may have earned more time meanwhile.
            Err(_) => {
                let extended = began + time_to_take(patience, bytes, bytes - sender.rest_bytes());
                if extended <= until {
                    return None;
                }
                until = extended;
            }
        }
    }
}
