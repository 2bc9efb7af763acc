//! [`ReplayWindow`], the memory of spent nonces.

use std::collections::BTreeMap;

use super::{Hotkey, Nonce};

/// Remembers every admitted `(hotkey, nonce)` until its timestamp can no longer be accepted, and admits none twice.
///
/// # What it promises
///
/// - Two calls of [`admit`](Self::admit) with the same hotkey and nonce never both succeed while their timestamp could
///   be accepted, whatever the wall clock does in between (see below).
/// - A full window refuses newcomers. It never forgets to make room.
/// - One hotkey holds at most its share: an eighth of the window, or [`SHARE_ENTRIES_MIN`] where that is more, or the
///   whole of a window smaller than that. No single key can close the window to others.
/// - A quarter of the window is kept for hotkeys that were connected for long, and half of that for those that hold a
///   permit ([`Standing`]): however many others sign, they cannot close it to these.
///
/// # Clocks that step back
///
/// Suppose the clock jumps an hour ahead, entries are dropped as stale, and the clock is put right: their requests are
/// young again, and the nonces are gone. So the window keeps the highest timestamp that it ever dropped, and refuses
/// everything up to it. With a steady clock that refuses nothing that is not too old anyway. After a jump it refuses
/// honest peers for as long as their clocks are behind the newest dropped request: at most the minute that timestamps
/// may be ahead, if those requests came while the clock was right. (Keeping the highest *clock reading* as the floor
/// instead would close the server for as long as the jump was wide.)
///
/// # Costs
///
/// `admit` and each drop are O(log n). An entry takes about 100 bytes, and five times that at worst, when every one is
/// of another hotkey and another second.
#[derive(Debug)]
pub struct ReplayWindow {
    entries_max: usize,
    /// Of hotkeys that anybody may have made up.
    unknown_max: usize,
    /// Of these and of those that were here for long.
    unpermitted_max: usize,
    share_max: usize,
    age_secs_max: u64,
    spent: BTreeMap<Hotkey, BTreeMap<Nonce, Standing>>,
    by_timestamp: BTreeMap<u64, Vec<(Hotkey, Nonce)>>,
    len: usize,
    /// How many entries were admitted as anybody's, in whose share they count until they are dropped.
    unknown: usize,
    /// The same for all that were not admitted as a permit holder's.
    unpermitted: usize,
    /// The highest timestamp of a dropped entry.
    forgotten_through: Option<u64>,
}

/// What a server knows of a hotkey, which says how much of the window it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing: anybody may have made it up. All of these have three quarters of the window.
    Unknown,
    /// It was connected for long, which costs who makes up hotkeys time. These have another eighth.
    Returning,
    /// It holds a permit. The last eighth is theirs alone.
    Permitted,
}

/// A hotkey's share of the window is never less than this, as long as the window has as many. It is more than the
/// limiter's default of 30 a minute lets one address spend in the six minutes that a nonce lives at most.
pub const SHARE_ENTRIES_MIN: usize = 256;

impl ReplayWindow {
    /// A window of at most `entries_max` nonces, for a server that refuses timestamps `age_secs_max` seconds old.
    pub fn new(entries_max: usize, age_secs_max: u64) -> Self {
        Self {
            entries_max,
            unknown_max: entries_max - entries_max / 4,
            unpermitted_max: entries_max - entries_max / 8,
            share_max: entries_max.div_ceil(8).max(SHARE_ENTRIES_MIN).min(entries_max),
            age_secs_max,
            spent: BTreeMap::new(),
            by_timestamp: BTreeMap::new(),
            len: 0,
            unknown: 0,
            unpermitted: 0,
            forgotten_through: None,
        }
    }

    /// Spends a nonce of a hotkey that anybody may have made up; see [`admit_as`](Self::admit_as).
    ///
    /// # Errors
    /// [`ReplayError`]; nothing is remembered then.
    pub fn admit(
        &mut self,
        hotkey: Hotkey,
        nonce: Nonce,
        timestamp: u64,
        now: u64,
    ) -> Result<(), ReplayError> {
        self.admit_as(Standing::Unknown, hotkey, nonce, timestamp, now)
    }

    /// Spends a nonce of a hotkey that has this standing with the server. Call it once the signature is verified, so that a
    /// hotkey's share is its owner's to use up.
    ///
    /// `timestamp` is the request's, `now` the server's clock, both in Unix seconds.
    ///
    /// # Errors
    /// [`ReplayError`]; nothing is remembered then.
    pub fn admit_as(
        &mut self,
        standing: Standing,
        hotkey: Hotkey,
        nonce: Nonce,
        timestamp: u64,
        now: u64,
    ) -> Result<(), ReplayError> {
        self.expire(now);
        if self.is_stale(timestamp, now)
            || self.forgotten_through.is_some_and(|forgotten| timestamp <= forgotten)
        {
            return Err(ReplayError::Stale);
        }
        let held = self.spent.get(&hotkey);
        if held.is_some_and(|nonces| nonces.contains_key(&nonce)) {
            return Err(ReplayError::Seen);
        }
        let is_full = match standing {
            Standing::Unknown => self.unknown >= self.unknown_max || self.unpermitted >= self.unpermitted_max,
            Standing::Returning => self.unpermitted >= self.unpermitted_max,
            Standing::Permitted => false,
        };
        if is_full || self.len >= self.entries_max {
            return Err(ReplayError::Full);
        }
        if held.map_or(0, BTreeMap::len) >= self.share_max {
            return Err(ReplayError::ShareFull);
        }
        self.unknown += usize::from(standing == Standing::Unknown);
        self.unpermitted += usize::from(standing < Standing::Permitted);
        self.spent.entry(hotkey).or_default().insert(nonce, standing);
        self.by_timestamp.entry(timestamp).or_default().push((hotkey, nonce));
        self.len += 1;
        Ok(())
    }

    /// Drops what can no longer be accepted at `now`, in Unix seconds. `admit` does it too; this is for quiet times.
    /// Each entry is dropped once, so the cost is amortised over the calls that admitted it.
    pub fn expire(&mut self, now: u64) {
        while let Some(oldest) = self.by_timestamp.first_entry() {
            let timestamp = *oldest.key();
            if !is_stale(timestamp, self.age_secs_max, now) {
                return;
            }
            for (hotkey, nonce) in oldest.remove() {
                self.forget(&hotkey, &nonce);
            }
            self.forgotten_through = self.forgotten_through.max(Some(timestamp));
        }
    }

    /// How many nonces are remembered, stale ones not yet dropped included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn is_stale(&self, timestamp: u64, now: u64) -> bool {
        is_stale(timestamp, self.age_secs_max, now)
    }

    fn forget(&mut self, hotkey: &Hotkey, nonce: &Nonce) {
        if let Some(nonces) = self.spent.get_mut(hotkey) {
            if let Some(standing) = nonces.remove(nonce) {
                self.unknown -= usize::from(standing == Standing::Unknown);
                self.unpermitted -= usize::from(standing < Standing::Permitted);
            }
            if nonces.is_empty() {
                self.spent.remove(hotkey);
            }
        }
        self.len -= 1;
    }
}

/// The rule of [`Claim::check_time`](super::Claim::check_time), so that nothing acceptable is ever dropped.
fn is_stale(timestamp: u64, age_secs_max: u64, now: u64) -> bool {
    now.saturating_sub(timestamp) >= age_secs_max
}

/// Why a nonce was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The hotkey has spent this nonce before.
    #[error("the nonce was used before")]
    Seen,
    /// The timestamp is too old, or so old that the window may have forgotten the nonce.
    #[error("the timestamp is too old to rule out a replay")]
    Stale,
    /// The window is full, and nothing in it may be forgotten yet.
    #[error("no room to remember another nonce")]
    Full,
    /// The hotkey's share of the window is full.
    #[error("no room to remember another nonce of this hotkey")]
    ShareFull,
}

impl ReplayError {
    /// The reason as fixed words for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Seen => "nonce_seen",
            Self::Stale => "nonce_stale",
            Self::Full => "nonce_window_full",
            Self::ShareFull => "nonce_share_full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: u64 = 300;
    const NOW: u64 = 1_700_000_000;

    fn hotkey(n: u8) -> Hotkey {
        Hotkey::from_public_key([n; 32]).unwrap()
    }

    fn nonce(n: u32) -> Nonce {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Nonce::from_random(bytes)
    }

    #[test]
    fn a_nonce_is_spent_once_and_per_hotkey() {
        let mut window = ReplayWindow::new(10, AGE);
        assert_eq!(window.admit(hotkey(1), nonce(1), NOW, NOW), Ok(()));
        assert_eq!(window.admit(hotkey(1), nonce(1), NOW, NOW), Err(ReplayError::Seen));
        // Signed anew with another timestamp, it is still the same nonce.
        assert_eq!(window.admit(hotkey(1), nonce(1), NOW + 1, NOW), Err(ReplayError::Seen));
        assert_eq!(window.admit(hotkey(2), nonce(1), NOW, NOW), Ok(()));
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn it_is_remembered_until_the_last_second_it_could_be_accepted_in() {
        let mut window = ReplayWindow::new(10, AGE);
        window.admit(hotkey(1), nonce(1), NOW, NOW).unwrap();
        assert_eq!(window.admit(hotkey(1), nonce(1), NOW, NOW + AGE - 1), Err(ReplayError::Seen));
        assert_eq!(window.admit(hotkey(1), nonce(1), NOW, NOW + AGE), Err(ReplayError::Stale));
        assert!(window.is_empty());
    }

    #[test]
    fn a_timestamp_from_the_future_is_remembered_longer() {
        let mut window = ReplayWindow::new(10, AGE);
        window.admit(hotkey(1), nonce(1), NOW + 60, NOW).unwrap();
        window.expire(NOW + AGE + 59);
        assert_eq!(window.len(), 1);
        window.expire(NOW + AGE + 60);
        assert!(window.is_empty());
    }

    #[test]
    fn a_full_window_refuses_and_forgets_nothing() {
        let mut window = ReplayWindow::new(2, AGE);
        window.admit(hotkey(1), nonce(1), NOW, NOW).unwrap();
        window.admit(hotkey(2), nonce(2), NOW, NOW).unwrap();
        assert_eq!(window.admit(hotkey(3), nonce(3), NOW, NOW), Err(ReplayError::Full));
        assert_eq!(window.admit(hotkey(1), nonce(1), NOW, NOW), Err(ReplayError::Seen));
        // Room comes with time only.
        assert_eq!(window.admit(hotkey(3), nonce(3), NOW + AGE, NOW + AGE), Ok(()));
    }

    #[test]
    fn one_hotkey_cannot_fill_the_window() {
        let mut window = ReplayWindow::new(8 * SHARE_ENTRIES_MIN, AGE);
        for n in 0..SHARE_ENTRIES_MIN as u32 {
            window.admit(hotkey(1), nonce(n), NOW, NOW).unwrap();
        }
        assert_eq!(window.admit(hotkey(1), nonce(u32::MAX), NOW, NOW), Err(ReplayError::ShareFull));
        assert_eq!(window.admit(hotkey(2), nonce(u32::MAX), NOW, NOW), Ok(()));
    }

    #[test]
    fn who_makes_up_hotkeys_leaves_room_for_who_was_here_and_both_for_permits() {
        use Standing::{Permitted, Returning, Unknown};
        let mut window = ReplayWindow::new(16, AGE);
        let mut next = 0;
        let mut admit = |window: &mut ReplayWindow, standing, times: u8, now| {
            (0..times)
                .map(|_| {
                    next += 1;
                    window.admit_as(standing, hotkey(next), nonce(0), now, now)
                })
                .collect::<Result<Vec<_>, _>>()
                .map(drop)
        };
        assert_eq!(admit(&mut window, Unknown, 12, NOW), Ok(()));
        assert_eq!(admit(&mut window, Unknown, 1, NOW), Err(ReplayError::Full));
        assert_eq!(admit(&mut window, Returning, 2, NOW), Ok(()));
        assert_eq!(admit(&mut window, Returning, 1, NOW), Err(ReplayError::Full));
        assert_eq!(admit(&mut window, Permitted, 2, NOW), Ok(()));
        assert_eq!(admit(&mut window, Permitted, 1, NOW), Err(ReplayError::Full));
        // What those who were here take of the rest, others cannot have.
        let later = NOW + AGE;
        assert_eq!(admit(&mut window, Returning, 4, later), Ok(()));
        assert_eq!(window.len(), 4);
        assert_eq!(admit(&mut window, Unknown, 10, later), Ok(()));
        assert_eq!(admit(&mut window, Unknown, 1, later), Err(ReplayError::Full));
        assert_eq!(admit(&mut window, Returning, 1, later), Err(ReplayError::Full));
        assert_eq!(admit(&mut window, Permitted, 2, later), Ok(()));
    }

    #[test]
    fn a_clock_that_jumped_ahead_and_back_opens_no_replay() {
        let mut window = ReplayWindow::new(10, AGE);
        window.admit(hotkey(1), nonce(1), NOW + 10, NOW).unwrap();
        window.expire(NOW + 86_400);
        assert_eq!(window.admit(hotkey(1), nonce(1), NOW + 10, NOW + 1), Err(ReplayError::Stale));
        // Honest peers are let in again once their clocks pass the newest request that was forgotten.
        assert_eq!(window.admit(hotkey(2), nonce(2), NOW + 11, NOW + 11), Ok(()));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut window = ReplayWindow::new(10, AGE);
        window.admit(hotkey(1), nonce(1), u64::MAX, 0).unwrap();
        window.expire(u64::MAX);
        assert_eq!(window.len(), 1);
        assert_eq!(window.admit(hotkey(1), nonce(2), 0, u64::MAX), Err(ReplayError::Stale));
    }
}
