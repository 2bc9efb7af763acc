//! One exchange on a proven link: a stream of its own, one frame out, an answer back, every wait within a deadline.

use std::time::Duration;

use btlightning_proto::wire::FrameHeader;
use bytes::Bytes;
use quinn::ReadError;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::dial::Link;
use super::error::{CallError, Phase};
use super::slot::{LinkFault, Slot};
use crate::transport::close;
use crate::transport::frame_io::{Frame, FrameReadError, FrameReader, FrameSender};

/// A link on which nothing at all arrives for this long while an answer is awaited is dead: a live peer acknowledges
/// even a request that its handler takes minutes to serve. The next look is half as far away at first.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// When things happened in an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    /// The caller asked.
    pub(crate) asked: Instant,
    /// A connection and a stream on it were there; the request began to go out.
    pub(crate) opened: Instant,
    /// QUIC had taken the whole request.
    pub(crate) sent: Instant,
    /// The answer's first frame header was read.
    pub(crate) first_byte: Instant,
}

/// The bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// When the whole must be over.
    pub(crate) deadline: Instant,
    /// How long after the request went out the answer must begin.
    pub(crate) first_byte: Option<Duration>,
    /// The largest answer frame, in bytes.
    pub(crate) payload_bytes_max: usize,
}

/// A request that went out and the beginning of its answer.
pub(crate) struct Answering {
    reader: FrameReader,
    header: FrameHeader,
    pub(crate) marks: Marks,
}

/// Sends `frame` on `link` and waits for the answer to begin.
///
/// Dropping the future at any point resets the stream in both directions; the link stays good.
pub(crate) async fn ask(
    slot: &Slot,
    link: &Link,
    frame: Bytes,
    bounds: &Bounds,
    asked: Instant,
) -> Result<Answering, CallError> {
    let deadline = bounds.deadline;
    let timed_out = |phase| CallError::TimedOut { phase, after: asked.elapsed() };
    let lost = |phase, why: &dyn std::fmt::Display| connection_lost(link, phase, why);

    let (send, receive) = timeout_at(deadline, link.connection.open_bi())
        .await
        .map_err(|_| timed_out(Phase::Connecting))?
        .map_err(|error| lost(Phase::Connecting, &error))?;
    let opened = Instant::now();

    let mut sender = FrameSender::new(send);
    let mut reader = FrameReader::new(receive);
    timeout_at(deadline, within_silence(slot, link, sender.send(frame)))
        .await
        .map_err(|_| timed_out(Phase::Sending))?
        .map_err(|error| lost(Phase::Sending, &error))?;
    sender.finish();
    let sent = Instant::now();

    let first_byte_by = bounds.first_byte.map_or(deadline, |first_byte| deadline.min(sent + first_byte));
    let header =
        timeout_at(first_byte_by, within_silence(slot, link, reader.header(bounds.payload_bytes_max)))
            .await
            .map_err(|_| timed_out(Phase::FirstByte))?
            .map_err(|error| read_failure(link, Phase::FirstByte, error))?
            .ok_or_else(|| lost(Phase::FirstByte, &"the peer ended the stream without an answer"))?;
    let marks = Marks { asked, opened, sent, first_byte: Instant::now() };
    Ok(Answering { reader, header, marks })
}

impl Answering {
    /// The rest of the first frame, and the reader for those that may follow.
    pub(crate) async fn first_frame(
        mut self,
        slot: &Slot,
        link: &Link,
        deadline: Instant,
    ) -> Result<(Frame, FrameReader, Marks), CallError> {
        let payload = timeout_at(deadline, within_silence(slot, link, self.reader.payload(self.header)))
            .await
            .map_err(|_| CallError::TimedOut { phase: Phase::Answer, after: self.marks.asked.elapsed() })?
            .map_err(|error| read_failure(link, Phase::Answer, error))?;
        Ok((Frame { kind: self.header.kind, payload }, self.reader, self.marks))
    }
}

/// Waits for `work`, and looks now and then whether anything at all arrives on the link meanwhile. If nothing does, the
/// supervisor is told; it closes the link, and `work` then fails like on any other loss.
async fn within_silence<T>(slot: &Slot, link: &Link, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let received = || link.connection.stats().udp_rx.datagrams;
    let mut look_at = Instant::now() + SILENCE_MAX / 2;
    let mut before = None;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(look_at) => {}
        }
        let now = received();
        if before == Some(now) {
            slot.give_up(link, LinkFault::Silent);
        }
        before = Some(now);
        look_at = Instant::now() + SILENCE_MAX;
    }
}

/// Sorts out why nothing could be read.
pub(crate) fn read_failure(link: &Link, phase: Phase, error: FrameReadError) -> CallError {
    match error {
        FrameReadError::Frame(error) => CallError::Frame(error),
        FrameReadError::Truncated => connection_lost(link, phase, &FrameReadError::Truncated),
        FrameReadError::Read(ReadError::Reset(_)) => {
            connection_lost(link, phase, &"the peer gave up the stream")
        }
        FrameReadError::Read(error) => connection_lost(link, phase, &error),
    }
}

fn connection_lost(link: &Link, phase: Phase, otherwise: &dyn std::fmt::Display) -> CallError {
    let why = match link.connection.close_reason() {
        Some(error) => close::describe(&error),
        None => otherwise.to_string(),
    };
    CallError::ConnectionLost { phase, why }
}
