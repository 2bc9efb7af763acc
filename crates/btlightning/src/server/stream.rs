//! One stream of a connection: which kind of request it carries, and who answers it.

use std::sync::Arc;
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::time::timeout;
use tracing::warn;

use super::dispatch;
use super::handshake::{self, HANDSHAKE_PAYLOAD_BYTES_MAX};
use super::pace::time_for;
use super::session::Session;
use crate::transport::frame_io::{FrameReadError, FrameReader, FrameSender, Outgoing};
use crate::util::unix_timestamp_secs;
use crate::wire::{FrameError, FrameHeader, MessageType, encode_error_response_frame, encode_frame};

/// Serves one stream. Hands out the finished sending side, or nothing if the stream was given up.
pub(super) async fn serve(
    session: Arc<Session>,
    send: SendStream,
    receive: RecvStream,
) -> Option<FrameSender> {
    let sender = FrameSender::new(send);
    let mut reader = FrameReader::new(receive);
    let header =
        match session.intake.header(&mut reader, session.shared.config.max_frame_payload_bytes).await? {
            Ok(Some(header)) => Ok(header),
            Err(FrameReadError::Frame(error)) => Err(error),
            // Nothing was asked.
            Ok(None) | Err(FrameReadError::Truncated) => return finish(sender),
            Err(FrameReadError::Read(_)) => return None,
        };
    if let Some(header) = header.ok().filter(is_handshake) {
        let taken = session.intake.payload(&mut reader, header).await?;
        drop(reader);
        return answer_handshake(&session, &taken.payload, sender).await;
    }
    match session.proven() {
        Some(hotkey) => {
            let _in_flight = session.activity.begin();
            dispatch::serve(&session, *hotkey, header, reader, sender).await
        }
        // Nothing of what a stranger sends is read, and the answer does not depend on it.
        None => {
            drop(reader);
            fail(&session, sender, "authentication failed").await
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
    let config = &session.shared.config;
    let frame =
        encode_error_response_frame(error, unix_timestamp_secs(), config.max_frame_payload_bytes).ok()?;
    send_last(sender, frame, config.handler_timeout()).await
}

/// Writes the last frame of a stream. A peer that does not read it in time, which is `patience` and more for the frame's
/// size, finds the stream reset.
pub(super) async fn send_last(
    mut sender: FrameSender,
    frame: impl Into<Outgoing>,
    patience: Duration,
) -> Option<FrameSender> {
    let frame = frame.into();
    match timeout(time_for(patience, frame.len() as u64), sender.send(frame)).await {
        Ok(Ok(())) => finish(sender),
        _ => None,
    }
}
