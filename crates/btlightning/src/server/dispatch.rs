//! A validator's request: read, checked, handed to its handler, answered.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

use super::activity::InFlight;
use super::call::{Call, Caller, Response};
use super::handler::{Handler, HandlerError};
use super::handlers::Entry;
use super::intake::{Share, Taken};
use super::panics::{HANDLER_WORDS_BYTES_MAX, Panicked};
use super::session::Session;
use super::stream::{answer_with, fail, failure_frame, refuse_unread};
use super::streaming;
use super::work::{self, Ended, Work};
use crate::Hotkey;
use crate::transport::close::{printable, printable_within};
use crate::transport::frame_io::{FrameReader, FrameSender, Outgoing};
use crate::transport::io::Task;
use crate::wire::{
    DecodeError, FrameError, FrameHeader, MessageType, RequestEnvelope, SYNAPSE_TYPE_BYTES_MAX, ScanLimits,
};

/// Payloads up to this size, in bytes, are parsed where they arrived: 1 MiB of data, and its envelope. Larger ones can be
/// made of so many values that packets would wait for milliseconds.
const PARSED_HERE_BYTES_MAX: usize = 1024 * 1024 + SYNAPSE_TYPE_BYTES_MAX;

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
    let asked = if taken.payload.len() <= PARSED_HERE_BYTES_MAX {
        ask(session, hotkey, taken)
    } else {
        let received_at = Instant::now();
        let deadline = received_at + session.shared.config.handler_timeout();
        let (scans, program) = (session.shared.scans.clone(), session.running.program.clone());
        let parsing = async move {
            let _permit = scans.acquire_owned().await;
            Task::from(program.spawn_blocking(move || parse(taken))).await
        };
        tokio::select! {
            biased;
            // It fails when the program's runtime ends.
            parsed = parsing => ask_parsed(session, hotkey, received_at, parsed.ok()?),
            () = sender.settled() => return None,
            () = sleep_until(deadline) => {
                session.shared.hush.requests.line(|more| {
                    warn!("No thread had time to parse a request of {hotkey}{more}");
                });
                Err("handler timed out")
            }
        }
    };
    match asked {
        Ok(asked) => answer(session, asked, sender).await,
        Err(words) => fail(session, sender, words).await,
    }
}

/// A request of which nothing but the handler's work is left to do.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) work: Work,
}

/// What is known of a request besides its payload.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) name: Arc<str>,
    pub(super) deadline: Instant,
    /// The connection is not idle while there is one of these.
    _in_flight: Arc<InFlight>,
}

/// Finds out what a request asks for. The other outcome is what the caller is to be told.
pub(super) fn ask(session: &Session, hotkey: Hotkey, taken: Taken) -> Result<Asked, &'static str> {
    ask_parsed(session, hotkey, Instant::now(), parse(taken))
}

fn ask_parsed(
    session: &Session,
    hotkey: Hotkey,
    received_at: Instant,
    parsed: Result<(RequestEnvelope, Share), DecodeError>,
) -> Result<Asked, &'static str> {
    let shared = &session.shared;
    let (request, share) = parsed.map_err(|error| {
        shared.hush.requests.line(|more| {
            let why = printable(error.to_string().as_bytes());
            warn!("Failed to parse synapse packet of {hotkey}: {why}{more}");
        });
        "invalid request format"
    })?;
    let (name, Entry { handler, habits }) =
        shared.handlers.find(request.synapse_type()).ok_or_else(|| {
            shared.hush.requests.line(|more| {
                let name = printable(request.synapse_type().as_bytes());
                warn!("No handler registered for synapse type: {name} (asked by {hotkey}){more}");
            });
            "unrecognized synapse type"
        })?;
    let deadline = received_at + shared.config.handler_timeout();
    let remote_addr = session.connection.remote_address();
    let caller = Caller::new(hotkey, remote_addr, session.id, received_at.into_std(), deadline.into_std());
    let call = Call::new(caller, request, share);
    let program = session.running.program.clone();
    Ok(Asked {
        request: Request { name, deadline, _in_flight: Arc::new(session.activity.begin()) },
        work: Work { handler, habits, call, program },
    })
}

/// Runs the handler and answers.
pub(super) async fn answer(session: &Session, asked: Asked, sender: FrameSender) -> Option<FrameSender> {
    let Asked { request, work } = asked;
    if !session.unread.has_room() {
        tokio::select! {
            biased;
            () = session.unread.room() => {}
            () = sender.settled() => return None,
            () = sleep_until(request.deadline) => {
                log_failure::<()>(session, &request.name, &Outcome::TimedOut);
                return fail(session, sender, "handler timed out").await;
            }
        }
    }
    if let Handler::Streaming(handler) = work.handler {
        return streaming::answer(session, &request.name, handler, work.call, request.deadline, sender).await;
    }
    let outcome = outcome(request.deadline, &sender, work::once(session, work)).await;
    answer_once(session, &request.name, outcome, sender).await
}

/// Waits for a handler that has gone on elsewhere, and answers.
pub(super) async fn answer_working(
    session: &Session,
    request: &Request,
    working: Task<Ended>,
    sender: FrameSender,
) -> Option<FrameSender> {
    let outcome = outcome(request.deadline, &sender, async { work::joined(working.await) }).await;
    answer_once(session, &request.name, outcome, sender).await
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
    let frame = frame_of(session, name, outcome)?;
    answer_with(session, frame, sender).await
}

/// The frame that tells the caller of an outcome, if it is still there; the log is told of failures.
pub(super) fn frame_of(session: &Session, name: &str, outcome: Outcome<Response>) -> Option<Outgoing> {
    log_failure(session, name, &outcome);
    let words = match outcome {
        Outcome::Done(response) => {
            let max = session.shared.config.max_frame_payload_bytes;
            let (frame, payload_bytes) = response.into_frame();
            if payload_bytes <= max {
                return Some(frame);
            }
            session.shared.hush.handlers.line(|more| {
                error!("Answer of {name} is {payload_bytes} bytes, over the limit of {max}{more}");
            });
            "internal serialization error"
        }
        Outcome::Failed(error) if error.is_unsendable() => "internal serialization error",
        Outcome::Failed(_) | Outcome::Panicked(_) => "request processing failed",
        Outcome::TimedOut => "handler timed out",
        Outcome::CallerGone => return None,
    };
    failure_frame(session, words)
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
        Outcome::CallerGone => session.shared.hush.callers.line(|more| {
            debug!("the caller of {name} is gone before its answer{more}");
        }),
    }
}

#[cfg(test)]
mod tests {
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
