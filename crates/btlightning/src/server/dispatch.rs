//! A validator's request: read, checked, handed to its handler, answered.

use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

use super::call::{Call, Caller, Response};
use super::handler::{Handler, HandlerError};
use super::handlers::Entry;
use super::intake::{Share, Taken};
use super::panics::{HANDLER_WORDS_BYTES_MAX, Panicked};
use super::session::Session;
use super::stream::{fail, refuse_unread, send_last};
use super::streaming;
use super::work::{self, Ended};
use crate::Hotkey;
use crate::transport::close::{printable, printable_within};
use crate::transport::frame_io::{FrameReader, FrameSender};
use crate::wire::{DecodeError, FrameError, FrameHeader, MessageType, RequestEnvelope, ScanLimits};

/// Serves one request of a validator, of which the header was read.
pub(super) async fn serve(
    session: &Session,
    hotkey: Hotkey,
    header: Result<FrameHeader, FrameError>,
    mut reader: FrameReader,
    sender: FrameSender,
) -> Option<FrameSender> {
    let header = match header {
        Ok(header) if header.kind == MessageType::SynapsePacket => header,
        other => return refuse_unread(session, sender, &other),
    };
    let taken = session.intake.payload(&mut reader, header).await?;
    // Whatever follows the request is not wanted.
    drop(reader);
    answer(session, hotkey, taken, sender).await
}

async fn answer(session: &Session, hotkey: Hotkey, taken: Taken, sender: FrameSender) -> Option<FrameSender> {
    let shared = &session.shared;
    let received_at = Instant::now();
    let (request, share) = match parse(taken) {
        Ok(parsed) => parsed,
        Err(error) => {
            shared.hush.requests.line(|more| {
                let why = printable(error.to_string().as_bytes());
                warn!("Failed to parse synapse packet of {hotkey}: {why}{more}");
            });
            return fail(session, sender, "invalid request format").await;
        }
    };
    let Some((name, Entry { handler, habits })) = shared.handlers.find(request.synapse_type()) else {
        shared.hush.requests.line(|more| {
            let name = printable(request.synapse_type().as_bytes());
            warn!("No handler registered for synapse type: {name} (asked by {hotkey}){more}");
        });
        // Nothing of it is needed while the answer is written.
        drop((request, share));
        return fail(session, sender, "unrecognized synapse type").await;
    };
    let deadline = received_at + shared.config.handler_timeout();
    let remote_addr = session.connection.remote_address();
    let caller = Caller::new(hotkey, remote_addr, session.id, received_at.into_std(), deadline.into_std());
    let call = Call::new(caller, request, share);
    match handler {
        Handler::Unary(handler) => {
            let outcome = outcome(deadline, &sender, work::unary(session, &habits, handler, call)).await;
            answer_once(session, &name, outcome, sender).await
        }
        Handler::Blocking(handler) => {
            let outcome = outcome(deadline, &sender, work::blocking(session, &habits, handler, call)).await;
            answer_once(session, &name, outcome, sender).await
        }
        Handler::Streaming(handler) => {
            streaming::answer(session, &name, handler, call, deadline, sender).await
        }
    }
}

/// The request in a payload. From here on the request alone holds the frame, and goes together with its share.
fn parse(taken: Taken) -> Result<(RequestEnvelope, Share), DecodeError> {
    let Taken { payload, share } = taken;
    let request = RequestEnvelope::parse(&payload, &ScanLimits::for_payload(payload.len()))?;
    Ok((request, share))
}

/// How a handler's work ended.
pub(super) enum Outcome<T> {
    Done(T),
    Failed(HandlerError),
    Panicked(Panicked),
    TimedOut,
    /// Nobody waits for the answer.
    CallerGone,
}

/// Waits for `work` until it is done, the time is up, or the caller has gone away; in the last two cases it is dropped
/// where it stands.
async fn outcome(
    deadline: Instant,
    sender: &FrameSender,
    work: impl Future<Output = Ended>,
) -> Outcome<Response> {
    tokio::select! {
        biased;
        ended = work => Outcome::of(ended),
        () = sender.settled() => Outcome::CallerGone,
        () = sleep_until(deadline) => Outcome::TimedOut,
    }
}

impl<T> Outcome<T> {
    pub(super) fn of(done: Result<Result<T, HandlerError>, Panicked>) -> Self {
        match done {
            Ok(Ok(done)) => Self::Done(done),
            Ok(Err(error)) => Self::Failed(error),
            Err(panicked) => Self::Panicked(panicked),
        }
    }
}

async fn answer_once(
    session: &Session,
    name: &str,
    outcome: Outcome<Response>,
    sender: FrameSender,
) -> Option<FrameSender> {
    log_failure(session, name, &outcome);
    match outcome {
        Outcome::Done(response) => {
            let config = &session.shared.config;
            let (frame, payload_bytes) = response.into_frame();
            if payload_bytes > config.max_frame_payload_bytes {
                session.shared.hush.handlers.line(|more| {
                    error!(
                        "Answer of {name} is {payload_bytes} bytes, over the limit of {}{more}",
                        config.max_frame_payload_bytes
                    );
                });
                return fail(session, sender, "internal serialization error").await;
            }
            send_last(sender, frame, config.handler_timeout()).await
        }
        Outcome::Failed(error) if error.is_unsendable() => {
            fail(session, sender, "internal serialization error").await
        }
        Outcome::Failed(_) | Outcome::Panicked(_) => fail(session, sender, "request processing failed").await,
        Outcome::TimedOut => fail(session, sender, "handler timed out").await,
        Outcome::CallerGone => None,
    }
}

/// Says in the log what the caller is not told.
pub(super) fn log_failure<T>(session: &Session, name: &str, outcome: &Outcome<T>) {
    let hush = &session.shared.hush.handlers;
    match outcome {
        Outcome::Done(_) => {}
        Outcome::Failed(failure) if failure.is_logged() => {}
        Outcome::Failed(failure) => hush.line(|more| {
            let words = printable_within(failure.words().as_bytes(), HANDLER_WORDS_BYTES_MAX);
            error!("Handler error for {name}: {words}{more}");
        }),
        Outcome::Panicked(Panicked(words)) => {
            hush.line(|more| error!("Handler panicked for {name}: {words}{more}"));
        }
        Outcome::TimedOut => hush.line(|more| {
            let after = session.shared.config.handler_timeout();
            warn!("Handler for {name} timed out after {after:?}{more}");
        }),
        Outcome::CallerGone => debug!("the caller of {name} is gone before its answer"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::server::config::LightningServerConfig;
    use crate::server::intake::Intake;
    use crate::wire::{FRAME_HEADER_BYTES, encode_map, encode_packet_frame};

    struct Frame {
        bytes: Vec<u8>,
        _alive: Arc<()>,
    }

    impl AsRef<[u8]> for Frame {
        fn as_ref(&self) -> &[u8] {
            &self.bytes[FRAME_HEADER_BYTES..]
        }
    }

    #[tokio::test]
    async fn a_request_alone_holds_its_frame() {
        let intake = Intake::new(&LightningServerConfig::default());
        let alive = Arc::new(());
        let bytes = encode_packet_frame("n", 1, 4096, |out| encode_map(&Default::default(), out)).unwrap();
        let payload = Bytes::from_owner(Frame { bytes, _alive: alive.clone() });
        let share = intake.share(1).await.unwrap();
        let (request, _share) = parse(Taken { payload, share }).unwrap();
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(request);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
