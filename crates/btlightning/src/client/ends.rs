//! The ends of answers' streams.
//!
//! quinn keeps a few hundred bytes of every stream until the peer has ended it, even of one that nobody reads any more; and
//! no miner has to end any. So it is counted how many were not, as the [wear](Ends) of their link. A link that is worn is
//! replaced by a fresh one, and with it goes all that quinn had kept.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btlightning_proto::wire::{FrameHeader, MessageType};
use bytes::Bytes;
use quinn::RecvStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::Link;
use crate::transport::frame_io::{End, Frame, FrameReadError, FrameReader};

/// How many streams whose answers are whole may wait for their end at once, and for how long. It is often in another packet
/// than the answer, right behind it; whoever stops such a stream causes two more.
const LINGERING_MAX: usize = 16;
const LINGERING_FOR: Duration = Duration::from_secs(1);

/// Each so many pieces that were behind an answer, out of order, count for as much as a stream: quinn keeps the room that
/// they took.
const PIECES_A_STREAM: u32 = 4;

/// From this wear on a link is replaced in a quiet moment: some 400 KiB.
const WEAR_LEAST: u32 = 1024;

/// ... if it is this old: a busy caller that cancels much should not have a miner verify signatures all the time. A miner
/// that ends its streams has nothing left of those; but that cannot be seen from here.
const AGE_LEAST: Duration = Duration::from_secs(60);

/// From this wear on a link is replaced, calls or not: some 6 MiB, or 15 where it is pieces.
const WEAR_MUCH: u32 = 16 * WEAR_LEAST;

/// ... if it is this old. Then there are never more than six dials a minute; miners allow 30.
const AGE_MUCH: Duration = Duration::from_secs(10);

/// At this wear a link is dropped. So many streams within [`AGE_MUCH`] are nobody's who means well.
const WEAR_MOST: u32 = 64 * WEAR_LEAST;

/// What is to become of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wear {
    Fine,
    /// The next link is to take its place.
    Worn,
    /// It is to be dropped.
    TooMuch,
}

/// The streams of a link that were not ended.
#[derive(Default)]
pub(crate) struct Ends {
    wear: AtomicU32,
    /// Told when the wear has become much, or too much.
    worn: Notify,
    /// Those that may yet end, and since when they might have.
    lingering: Mutex<VecDeque<(Instant, FrameReader)>>,
    are_lingering: AtomicBool,
}

impl Ends {
    /// Lets go of a stream. Of one whose answer `is_whole` nothing is missing but its end.
    fn leave(&self, mut reader: FrameReader, is_whole: bool) {
        match reader.end() {
            End::Seen => {
                if self.are_lingering.load(Ordering::Relaxed) {
                    self.sweep(&mut self.lingering());
                }
            }
            End::Missing { pieces: 0 } if is_whole => {
                let mut lingering = self.lingering();
                self.sweep(&mut lingering);
                if lingering.len() >= LINGERING_MAX {
                    lingering.pop_front();
                    self.note(0);
                }
                lingering.push_back((Instant::now(), reader));
                self.are_lingering.store(true, Ordering::Relaxed);
            }
            End::Missing { pieces } => self.note(pieces),
        }
    }

    /// Gives up waiting for ends that do not come. To be called now and then.
    pub(crate) fn look(&self) {
        if !self.are_lingering.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut lingering = self.lingering();
        self.sweep(&mut lingering);
        while lingering.front().is_some_and(|(since, _)| now.duration_since(*since) >= LINGERING_FOR) {
            lingering.pop_front();
            self.note(0);
        }
    }

    /// Forgets those that have ended, and those that more came of: they were whole.
    fn sweep(&self, lingering: &mut VecDeque<(Instant, FrameReader)>) {
        lingering.retain_mut(|(_, reader)| match reader.end() {
            End::Seen => false,
            End::Missing { pieces: 0 } => true,
            End::Missing { pieces } => {
                self.note(pieces);
                false
            }
        });
        self.are_lingering.store(!lingering.is_empty(), Ordering::Relaxed);
    }

    /// Counts a stream that was not ended.
    fn note(&self, pieces: u32) {
        let more = 1 + pieces / PIECES_A_STREAM;
        let before = self.wear.fetch_add(more, Ordering::Relaxed);
        let after = before.saturating_add(more);
        if [WEAR_MUCH, WEAR_MOST].iter().any(|limit| before < *limit && after >= *limit) {
            self.worn.notify_one();
        }
    }

    /// What is to become of a link of this age.
    pub(crate) fn wear(&self, age: Duration, is_quiet: bool) -> Wear {
        judge(self.wear.load(Ordering::Relaxed), age, is_quiet)
    }

    /// Resolves when a look at the wear is due at once. Cancel-safe.
    pub(crate) async fn worn(&self) {
        self.worn.notified().await;
    }

    fn lingering(&self) -> MutexGuard<'_, VecDeque<(Instant, FrameReader)>> {
        self.lingering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("wear", &self.wear).finish_non_exhaustive()
    }
}

fn judge(wear: u32, age: Duration, is_quiet: bool) -> Wear {
    match wear {
        WEAR_MOST.. => Wear::TooMuch,
        WEAR_MUCH.. if age >= AGE_MUCH => Wear::Worn,
        WEAR_LEAST.. if age >= AGE_LEAST && is_quiet => Wear::Worn,
        _ => Wear::Fine,
    }
}

/// Reads an answer, and counts its stream if that does not end.
pub(crate) struct AnswerReader<L: Deref<Target = Link>> {
    pub(crate) link: L,
    /// `None` only while it is dropped.
    reader: Option<FrameReader>,
    /// What has been read is all that a miner says on a stream.
    is_whole: bool,
}

impl<L: Deref<Target = Link>> AnswerReader<L> {
    pub(crate) fn new(link: L, stream: RecvStream) -> Self {
        Self { link, reader: Some(FrameReader::new(stream)), is_whole: false }
    }

    /// As [`FrameReader::frame`].
    pub(crate) async fn frame(&mut self, payload_bytes_max: usize) -> Result<Option<Frame>, FrameReadError> {
        let frame = self.reader().frame(payload_bytes_max).await?;
        self.is_whole = frame.as_ref().is_none_or(|frame| is_last(frame.kind));
        Ok(frame)
    }

    /// As [`FrameReader::header`].
    pub(crate) async fn header(
        &mut self,
        payload_bytes_max: usize,
    ) -> Result<Option<FrameHeader>, FrameReadError> {
        self.reader().header(payload_bytes_max).await
    }

    /// As [`FrameReader::payload`].
    pub(crate) async fn payload(&mut self, header: FrameHeader) -> Result<Bytes, FrameReadError> {
        let payload = self.reader().payload(header).await?;
        self.is_whole = is_last(header.kind);
        Ok(payload)
    }

    fn reader(&mut self) -> &mut FrameReader {
        match &mut self.reader {
            Some(reader) => reader,
            None => unreachable!("it is being dropped"),
        }
    }
}

/// Whether nothing follows a frame of this kind.
fn is_last(kind: MessageType) -> bool {
    matches!(kind, MessageType::SynapseResponse | MessageType::StreamEnd)
}

impl<L: Deref<Target = Link>> Drop for AnswerReader<L> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.link.ends.leave(reader, self.is_whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wear_is_judged_by_the_links_age_and_by_who_would_notice() {
        let secs = Duration::from_secs;
        for (wear, age, is_quiet, verdict) in [
            (0, secs(86_400), true, Wear::Fine),
            (1_023, secs(86_400), true, Wear::Fine),
            (1_024, secs(60), true, Wear::Worn),
            (1_024, secs(60), false, Wear::Fine),
            (1_024, secs(59), true, Wear::Fine),
            (16_384, secs(10), false, Wear::Worn),
            (16_384, secs(9), true, Wear::Fine),
            (65_535, secs(9), false, Wear::Fine),
            (65_536, secs(0), false, Wear::TooMuch),
            (u32::MAX, secs(86_400), true, Wear::TooMuch),
        ] {
            assert_eq!(judge(wear, age, is_quiet), verdict, "{wear} after {age:?}, quiet: {is_quiet}");
        }
    }

    #[test]
    fn pieces_behind_an_answer_count_for_what_they_took() {
        let ends = Ends::default();
        ends.note(0);
        ends.note(1000);
        assert_eq!(ends.wear.load(Ordering::Relaxed), 1 + 251);
    }
}
