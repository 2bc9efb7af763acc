//! Peers that flood a connection with frames that cost them next to nothing, and this side processor time and memory.
//!
//! quinn takes every frame that is well formed, however many there are: a RETIRE_CONNECTION_ID of three bytes has it issue
//! another connection id and keep it until it is acknowledged. It counts them by kind; so the counts are looked at.

use std::time::Duration;

use quinn::{Connection, ConnectionStats, FrameStats};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often a client looks at a connection, and the least time over which frames are counted.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a server looks at one: after its driver has run so many times, which is when something has come, so that it
/// costs an idle connection nothing. quinn issues 8 connection ids at a time, and 7 of them can be retired at once.
const RUNS_BETWEEN: u8 = 64;

/// Frames about the connection itself that may come between two looks. Of an honest peer it is a dozen or two with the
/// handshake, and then a few when somebody's address changes.
const UPKEEP_FRAMES_MAX: u64 = 512;

/// From so many frames between two looks on, they must have [`FRAME_BYTES_LEAST`] on average. Up to here they may cost what
/// they like: a few milliseconds.
const FRAMES_FREE: u64 = 16_384;

/// What comes in is answers, packets and all: the smallest answer takes 30 bytes, and an acknowledgement in a packet of its
/// own as many. A frame that says nothing takes one to five.
const FRAME_BYTES_LEAST: u64 = 8;

/// How many more connection ids a peer may have retired than it was sent. An honest one retires only what it has, so these
/// are the ones that quinn holds for whoever does not acknowledge, at 48 bytes each, plus what is lost both ways.
const IDS_OWED_MAX: u64 = 64;

/// How many a peer may retire as long as a connection lives, since it cannot be seen which of those that were sent it has
/// acknowledged. An honest one retires one when an address changes.
const IDS_RETIRED_MAX: u64 = 1024;

/// What a peer floods a connection with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flood {
    /// Connection ids that are retired, and the new ones not acknowledged.
    IdsOwed,
    /// Connection ids that are retired, too many for one connection. A peer does no worse whose client's address has changed
    /// as often.
    IdsRetired,
    /// Other frames about the connection itself.
    Upkeep,
    /// Frames that say next to nothing.
    Empty,
}

impl Flood {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::IdsOwed => "it retires connection ids and does not take others",
            Self::IdsRetired => "more connection ids were retired than a connection may have",
            Self::Upkeep => "it floods the connection with frames about the connection",
            Self::Empty => "it floods the connection with frames that say nothing",
        }
    }
}

/// The counts of one connection, from look to look.
#[derive(Debug, Default)]
pub(crate) struct Floods {
    seen: Counts,
    /// Since when it is counted.
    since: Option<Instant>,
    /// How often the driver of the connection has run since the last look.
    runs: u8,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    upkeep_frames: u64,
    frames: u64,
    bytes: u64,
}

impl Floods {
    /// What the peer does that no honest one does, and has done for [`LOOK_EVERY`] at most, or since the last look.
    pub(crate) fn look(&mut self, connection: &Connection) -> Option<Flood> {
        self.look_at(&connection.stats(), Instant::now())
    }

    fn look_at(&mut self, stats: &ConnectionStats, now: Instant) -> Option<Flood> {
        let counts = Counts::of(stats);
        let between = counts.since(self.seen);
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= LOOK_EVERY) {
            (self.seen, self.since) = (counts, Some(now));
        }
        judge_ids(stats).or_else(|| judge(between))
    }

    /// Notes that the driver of the connection has run. True when it is time for a look.
    pub(crate) fn note_run(&mut self) -> bool {
        self.runs = (self.runs + 1) % RUNS_BETWEEN;
        self.runs == 0
    }
}

/// Resolves when the peer floods the connection, and says with what. Cancel-safe.
pub(crate) async fn flooded(connection: &Connection) -> Flood {
    let mut floods = Floods::default();
    let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Some(flood) = floods.look(connection) {
            return flood;
        }
    }
}

fn judge_ids(stats: &ConnectionStats) -> Option<Flood> {
    let retired = stats.frame_rx.retire_connection_id;
    let owed = retired.saturating_sub(stats.frame_tx.new_connection_id);
    if owed > IDS_OWED_MAX {
        return Some(Flood::IdsOwed);
    }
    (retired > IDS_RETIRED_MAX).then_some(Flood::IdsRetired)
}

fn judge(between: Counts) -> Option<Flood> {
    if between.upkeep_frames > UPKEEP_FRAMES_MAX {
        return Some(Flood::Upkeep);
    }
    let is_cheap = between.bytes < between.frames.saturating_mul(FRAME_BYTES_LEAST);
    (between.frames > FRAMES_FREE && is_cheap).then_some(Flood::Empty)
}

impl Counts {
    fn of(stats: &ConnectionStats) -> Self {
        let frames = &stats.frame_rx;
        let upkeep_frames = upkeep(frames);
        Self { upkeep_frames, frames: upkeep_frames + work(frames), bytes: stats.udp_rx.bytes }
    }

    fn since(self, before: Self) -> Self {
        Self {
            upkeep_frames: self.upkeep_frames.saturating_sub(before.upkeep_frames),
            frames: self.frames.saturating_sub(before.frames),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

/// Frames that have nothing to do with what is asked and answered.
fn upkeep(frames: &FrameStats) -> u64 {
    frames.crypto + about_addresses(frames)
}

/// The same but for TLS: of an honest peer these have to do with the two addresses.
pub(crate) fn about_addresses(frames: &FrameStats) -> u64 {
    frames.new_token
        + frames.new_connection_id
        + frames.retire_connection_id
        + frames.path_challenge
        + frames.path_response
        + frames.ack_frequency
        + frames.immediate_ack
        + frames.max_streams_uni
        + frames.streams_blocked_uni
        + frames.streams_blocked_bidi
        + frames.datagram
        + u64::from(frames.handshake_done)
}

/// Those whose number follows from how much is asked and answered.
fn work(frames: &FrameStats) -> u64 {
    frames.acks
        + frames.stream
        + frames.reset_stream
        + frames.stop_sending
        + frames.max_data
        + frames.max_stream_data
        + frames.max_streams_bidi
        + frames.data_blocked
        + frames.stream_data_blocked
        + frames.ping
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(count: impl Fn(&mut FrameStats)) -> Counts {
        let mut stats = ConnectionStats::default();
        count(&mut stats.frame_rx);
        Counts::of(&stats)
    }

    #[test]
    fn every_kind_of_upkeep_is_a_flood_on_its_own() {
        let kinds: [fn(&mut FrameStats); 12] = [
            |frames| frames.crypto = 513,
            |frames| frames.new_token = 513,
            |frames| frames.new_connection_id = 513,
            |frames| frames.retire_connection_id = 513,
            |frames| frames.path_challenge = 513,
            |frames| frames.path_response = 513,
            |frames| frames.ack_frequency = 513,
            |frames| frames.immediate_ack = 513,
            |frames| frames.max_streams_uni = 513,
            |frames| frames.streams_blocked_uni = 513,
            |frames| frames.streams_blocked_bidi = 513,
            |frames| frames.datagram = 513,
        ];
        for (index, flood) in kinds.into_iter().enumerate() {
            assert!(judge(one(flood)).is_some(), "kind {index}");
        }
        assert!(judge(one(|frames| frames.retire_connection_id = 512)).is_none());
    }

    #[test]
    fn frames_that_say_nothing_are_a_flood_and_small_answers_are_not() {
        let kinds: [fn(&mut FrameStats); 10] = [
            |frames| frames.ping = 50_000,
            |frames| frames.stream = 50_000,
            |frames| frames.acks = 50_000,
            |frames| frames.reset_stream = 50_000,
            |frames| frames.stop_sending = 50_000,
            |frames| frames.max_data = 50_000,
            |frames| frames.max_stream_data = 50_000,
            |frames| frames.max_streams_bidi = 50_000,
            |frames| frames.data_blocked = 50_000,
            |frames| frames.stream_data_blocked = 50_000,
        ];
        for (index, flood) in kinds.into_iter().enumerate() {
            let counts = one(flood);
            assert!(judge(Counts { bytes: 50_000 * 7, ..counts }).is_some(), "kind {index}");
            assert!(judge(Counts { bytes: 50_000 * 30, ..counts }).is_none(), "kind {index}");
        }
        // 200,000 answers a second of 30 bytes, each acknowledging a request.
        let busy = Counts { upkeep_frames: 0, frames: 200_000, bytes: 100_000 * 40 };
        assert!(judge(busy).is_none());
        assert!(judge(Counts { upkeep_frames: 0, frames: 16_384, bytes: 16_384 }).is_none());
    }

    #[test]
    fn ids_that_nobody_acknowledges_are_a_flood_at_any_pace() {
        let mut floods = Floods::default();
        let mut stats = ConnectionStats::default();
        let mut now = Instant::now();
        let mut look = |retired, sent| {
            stats.frame_rx.retire_connection_id = retired;
            stats.frame_tx.new_connection_id = sent;
            now += LOOK_EVERY;
            floods.look_at(&stats, now)
        };
        for retired in 0..=64 {
            assert_eq!(look(retired, 0), None);
        }
        assert_eq!(look(65, 0), Some(Flood::IdsOwed));
        // Sent, and perhaps never acknowledged.
        for retired in (65..=1024).step_by(64) {
            assert_eq!(look(retired, 2000), None);
        }
        assert_eq!(look(1025, 2000), Some(Flood::IdsRetired));
    }

    #[test]
    fn looks_that_follow_close_upon_each_other_count_together() {
        let mut floods = Floods::default();
        let mut stats = ConnectionStats::default();
        let began = Instant::now();
        let mut look = |millis, upkeep| {
            stats.frame_rx.path_challenge += upkeep;
            floods.look_at(&stats, began + Duration::from_millis(millis))
        };
        assert_eq!(look(0, 100), None);
        assert_eq!(look(100, 256), None);
        assert_eq!(look(500, 256), None);
        assert_eq!(look(600, 500), None);
        assert_eq!(look(700, 13), Some(Flood::Upkeep));
    }

    #[test]
    fn only_what_came_since_the_last_look_counts() {
        let before = one(|frames| frames.retire_connection_id = 10_000);
        let now = one(|frames| frames.retire_connection_id = 10_500);
        assert!(judge(now.since(before)).is_none());
    }
}
