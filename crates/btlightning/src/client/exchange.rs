//! One exchange on a proven link: a stream of its own, one frame out, an answer back, every wait within a deadline.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quinn::{ConnectionStats, ReadError};
use tokio::time::{Instant, sleep_until};

use super::ask::ask_on;
use super::deadline::deadline_after;
use super::ends::AnswerReader;
use super::error::{CallError, Phase};
use super::link::Link;
use super::reply::Timings;
use super::slot::{LinkFault, Slot};
use crate::transport::close;
use crate::transport::frame_io::{Frame, FrameReadError, FrameSender, Outgoing};

/// A link is dead when packets went out on it and nothing at all came back for this long: a live peer acknowledges even a
/// request that its handler takes minutes to serve, and QUIC sends again what is not acknowledged.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How often a waiting call looks whether its link is dead.
const LOOK_EVERY: Duration = Duration::from_millis(2500);

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

/// A request that went out, on a link that whoever holds this has in one way or another.
pub(crate) struct Sent<L: Deref<Target = Link>> {
    pub(crate) reader: AnswerReader<L>,
    pub(crate) marks: SentMarks,
}

/// When things happened until a request had gone out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentMarks {
    /// The caller asked.
    pub(crate) asked: Instant,
    /// A connection and a stream on it were there; the request began to go out.
    pub(crate) opened: Instant,
    /// QUIC had taken the whole request.
    pub(crate) sent: Instant,
}

/// Sends `frame` on `link`, on a stream of its own.
///
/// Dropping the future at any point resets the stream in both directions; the link stays good. An error in the phase
/// [`Phase::Connecting`] means that nothing was sent.
pub(crate) async fn send<L: Deref<Target = Link>>(
    slot: &Slot,
    link: L,
    frame: Outgoing,
    deadline: Instant,
    asked: Instant,
) -> Result<Sent<L>, CallError> {
    let timed_out = |phase| CallError::TimedOut { phase, after: asked.elapsed() };

    let (send, receive) = within(deadline, slot, &link, link.connection.open_bi())
        .await
        .map_err(|_| timed_out(Phase::Connecting))?
        .map_err(|error| connection_lost(&link, Phase::Connecting, &error))?;
    let opened = Instant::now();
    let mut sender = FrameSender::new(send);
    let reader = AnswerReader::new(link, receive);
    within(deadline, slot, &reader.link, sender.send(frame))
        .await
        .map_err(|_| timed_out(Phase::Sending))?
        .map_err(|error| connection_lost(&reader.link, Phase::Sending, &error))?;
    sender.finish();
    Ok(Sent { reader, marks: SentMarks { asked, opened, sent: Instant::now() } })
}

/// A whole exchange: a request, and the first frame of its answer.
///
/// Dropping the future at any point resets the stream; see [`send`] for errors.
pub(crate) async fn ask(
    slot: &Arc<Slot>,
    link: &Arc<Link>,
    frame: Outgoing,
    bounds: &Bounds,
    asked: Instant,
) -> Result<Answer, CallError> {
    let Some(thread) = link.lane.elsewhere() else {
        return ask_here(slot, link, frame, bounds, asked).await;
    };
    // The connection's own thread does all of it: two wake-ups, whatever the exchange takes.
    ask_on(thread, slot, link, frame, bounds, asked).await
}

/// [`ask`], on the thread that it is called on.
pub(crate) async fn ask_here(
    slot: &Slot,
    link: &Link,
    frame: Outgoing,
    bounds: &Bounds,
    asked: Instant,
) -> Result<Answer, CallError> {
    let _expected = link.lane.expect();
    let mut sent = send(slot, link, frame, bounds.deadline, asked).await?;
    let (frame, first_byte) = receive(slot, &mut sent, bounds).await?;
    let timings = Timings::new(&sent.marks, first_byte, Instant::now(), link);
    Ok(Answer { frame, timings })
}

/// The first frame of an answer.
pub(crate) struct Answer {
    pub(crate) frame: Frame,
    pub(crate) timings: Timings,
}

/// One whole frame of an answer, and when its header was read.
///
/// # Errors
/// [`CallError::TimedOut`]: in [`Phase::FirstByte`] if the answer has not begun within the first-byte bound or by the
/// deadline, in [`Phase::Answer`] if it has begun and is not whole by the deadline.
async fn receive(
    slot: &Slot,
    sent: &mut Sent<&Link>,
    bounds: &Bounds,
) -> Result<(Frame, Instant), CallError> {
    let link = sent.reader.link;
    let after = || sent.marks.asked.elapsed();
    let begin_by = bounds.first_byte.map_or(bounds.deadline, |first_byte| {
        bounds.deadline.min(deadline_after(sent.marks.sent, first_byte))
    });
    let header = within(begin_by, slot, link, sent.reader.header(bounds.payload_bytes_max))
        .await
        .map_err(|_| CallError::TimedOut { phase: Phase::FirstByte, after: after() })?
        .map_err(|error| read_failure(link, Phase::FirstByte, error))?
        .ok_or_else(|| {
            connection_lost(link, Phase::FirstByte, &"the peer ended the stream without an answer")
        })?;
    let first_byte = Instant::now();
    let payload = within(bounds.deadline, slot, link, sent.reader.payload(header))
        .await
        .map_err(|_| CallError::TimedOut { phase: Phase::Answer, after: after() })?
        .map_err(|error| read_failure(link, Phase::Answer, error))?;
    Ok((Frame { kind: header.kind, payload }, first_byte))
}

/// The time was up.
#[derive(Debug)]
pub(crate) struct Late;

/// Waits for `work` until `deadline`, and looks now and then whether the link is dead. If it is, the supervisor is told; it
/// closes the link, and `work` then fails like on any other loss.
pub(crate) async fn within<T>(
    deadline: Instant,
    slot: &Slot,
    link: &Link,
    work: impl Future<Output = T>,
) -> Result<T, Late> {
    let mut work = std::pin::pin!(work);
    // Most work is done at once, and needs no clock.
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        return Ok(done);
    }
    let mut silence = Silence::default();
    let mut now = Instant::now();
    loop {
        let look_at = deadline.min(now + LOOK_EVERY);
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = sleep_until(look_at) => {}
        }
        now = Instant::now();
        if look_at == deadline {
            return Err(Late);
        }
        let (sent, received) = traffic(&link.connection.stats());
        if silence.is_too_long(now, sent, received) {
            slot.give_up(link, LinkFault::Silent);
        }
    }
}

/// How many frames went out that a live peer acknowledges, and how many came in.
///
/// Frames, not datagrams: acknowledgements go out that nobody answers, and a miner that has restarted answers what it
/// cannot decrypt, as anybody could. Nor are probes for a larger packet size counted, which the path may swallow.
fn traffic(stats: &ConnectionStats) -> (u64, u64) {
    let (tx, rx) = (&stats.frame_tx, &stats.frame_rx);
    // A packet-size probe has one of each; what is sent in the place of something lost has one or the other.
    let probes = stats.path.sent_plpmtud_probes;
    let pings = tx.ping.saturating_sub(probes) + tx.immediate_ack.saturating_sub(probes);
    let sent = tx.stream + pings + tx.reset_stream + tx.stop_sending + tx.max_data + tx.max_stream_data;
    let received = rx.acks + rx.stream + rx.ping + rx.reset_stream + rx.stop_sending;
    (sent, received)
}

/// Whether what goes out on a link is answered, judged by looks at its counters.
#[derive(Debug, Default)]
struct Silence {
    counted: Option<(u64, u64)>,
    /// When a look first found that something had gone out and nothing had come in.
    unanswered_since: Option<Instant>,
}

impl Silence {
    fn is_too_long(&mut self, now: Instant, sent: u64, received: u64) -> bool {
        let before = self.counted.replace((sent, received));
        match before {
            Some((sent_before, received_before)) if received == received_before => {
                if sent > sent_before {
                    self.unanswered_since.get_or_insert(now);
                }
            }
            _ => self.unanswered_since = None,
        }
        self.unanswered_since.is_some_and(|since| now.duration_since(since) >= SILENCE_MAX)
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
        Some(error) => {
            link.note_lost();
            close::describe(&error)
        }
        None => otherwise.to_string(),
    };
    CallError::ConnectionLost { phase, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_what_follows_something_sent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut idle = Silence::default();
        assert!(
            (0..100).all(|second| !idle.is_too_long(at(second), 7, 7)),
            "nothing was sent, nothing is missing"
        );

        let mut dead = Silence::default();
        assert!(!dead.is_too_long(at(0), 7, 7));
        assert!(!dead.is_too_long(at(3), 8, 7));
        assert!(!dead.is_too_long(at(6), 8, 7));
        assert!(dead.is_too_long(at(8), 9, 7));

        let mut lossy = Silence::default();
        assert!(!lossy.is_too_long(at(0), 7, 7));
        assert!(!lossy.is_too_long(at(3), 8, 7));
        assert!(!lossy.is_too_long(at(7), 9, 8), "one packet that arrives is proof of life");
        assert!(!lossy.is_too_long(at(10), 9, 8));
    }
}
