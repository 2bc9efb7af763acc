//! Hotkeys that come back: a flood can make up as many hotkeys as it likes, but not the time that they were here.

use std::collections::HashMap;
use std::time::Duration;

use btlightning_proto::identity::SourcePrefix;
use tokio::time::Instant;

use crate::Hotkey;

/// How long a hotkey without a permit has to hold a connection to be remembered.
pub(super) const HELD_LEAST: Duration = Duration::from_secs(10 * 60);

/// How long it is remembered after that.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How many are remembered.
const HOTKEYS_MAX: usize = 4096;

/// How many sources of one hotkey are remembered.
const SOURCES_MAX: usize = 4;

/// Who was here for long, and from where.
#[derive(Debug, Default)]
pub(super) struct Regulars {
    by_hotkey: HashMap<Hotkey, Regular>,
}

#[derive(Debug)]
struct Regular {
    seen_at: Instant,
    /// The newest comes last, and there is always one.
    sources: Vec<SourcePrefix>,
}

impl Regulars {
    /// Remembers `hotkey`. Where there is no room, whoever was not seen for longest is forgotten, of those from the source
    /// that takes the most room: who has few addresses pushes out no one but himself.
    pub(super) fn note(&mut self, hotkey: Hotkey, source: SourcePrefix, now: Instant) {
        if self.by_hotkey.len() >= HOTKEYS_MAX && !self.by_hotkey.contains_key(&hotkey) {
            self.make_room(now);
        }
        let regular =
            self.by_hotkey.entry(hotkey).or_insert_with(|| Regular { seen_at: now, sources: Vec::new() });
        regular.seen_at = now;
        regular.sources.retain(|known| *known != source);
        regular.sources.push(source);
        if regular.sources.len() > SOURCES_MAX {
            regular.sources.remove(0);
        }
    }

    pub(super) fn has(&self, hotkey: &Hotkey, now: Instant) -> bool {
        self.remembered(hotkey, now).is_some()
    }

    /// Whether `hotkey` was here from `source`.
    pub(super) fn has_from(&self, hotkey: &Hotkey, source: SourcePrefix, now: Instant) -> bool {
        self.remembered(hotkey, now).is_some_and(|regular| regular.sources.contains(&source))
    }

    fn remembered(&self, hotkey: &Hotkey, now: Instant) -> Option<&Regular> {
        self.by_hotkey.get(hotkey).filter(|regular| regular.is_remembered(now))
    }

    fn make_room(&mut self, now: Instant) {
        self.by_hotkey.retain(|_, regular| regular.is_remembered(now));
        if self.by_hotkey.len() < HOTKEYS_MAX {
            return;
        }
        let mut from: HashMap<Option<SourcePrefix>, usize> = HashMap::new();
        for regular in self.by_hotkey.values() {
            *from.entry(regular.source()).or_default() += 1;
        }
        let crowd = |regular: &Regular| from.get(&regular.source()).copied().unwrap_or_default();
        let goes = self
            .by_hotkey
            .iter()
            .max_by_key(|(_, regular)| (crowd(regular), std::cmp::Reverse(regular.seen_at)))
            .map(|(hotkey, _)| *hotkey);
        if let Some(goes) = goes {
            self.by_hotkey.remove(&goes);
        }
    }
}

impl Regular {
    fn source(&self) -> Option<SourcePrefix> {
        self.sources.last().copied()
    }

    fn is_remembered(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen_at) < REMEMBERED_FOR
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn hotkey(n: u16) -> Hotkey {
        let mut key = [7; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        Hotkey::from_public_key(key).unwrap()
    }

    fn source(n: u32) -> SourcePrefix {
        SourcePrefix::of(Ipv4Addr::from_bits(0x0a00_0000 + n).into())
    }

    #[test]
    fn who_was_here_is_remembered_for_a_day_and_by_its_last_sources() {
        let (mut regulars, start) = (Regulars::default(), Instant::now());
        for n in 0..5 {
            regulars.note(hotkey(1), source(n), start);
        }
        let last = start + REMEMBERED_FOR - Duration::from_secs(1);
        assert!(regulars.has(&hotkey(1), last) && !regulars.has(&hotkey(2), last));
        assert!(regulars.has_from(&hotkey(1), source(4), last));
        assert!(regulars.has_from(&hotkey(1), source(1), last));
        assert!(!regulars.has_from(&hotkey(1), source(0), last), "the fifth source from the end");
        assert!(!regulars.has(&hotkey(1), start + REMEMBERED_FOR));
    }

    #[test]
    fn a_source_that_fills_the_table_pushes_out_its_own() {
        let (mut regulars, start) = (Regulars::default(), Instant::now());
        regulars.note(hotkey(0), source(0), start);
        for n in 1..=4150 {
            regulars.note(hotkey(n), source(1), start + Duration::from_secs(n.into()));
        }
        let now = start + Duration::from_secs(4150);
        assert_eq!(regulars.by_hotkey.len(), HOTKEYS_MAX);
        assert!(regulars.has(&hotkey(0), now), "the one that was seen least recently, from elsewhere");
        assert!(!regulars.has(&hotkey(1), now) && regulars.has(&hotkey(4150), now));
    }

    #[test]
    fn what_is_forgotten_makes_room_for_all_the_others() {
        let (mut regulars, start) = (Regulars::default(), Instant::now());
        for n in 0..4096 {
            regulars.note(hotkey(n), source(n.into()), start);
        }
        regulars.note(hotkey(5000), source(0), start + REMEMBERED_FOR);
        assert_eq!(regulars.by_hotkey.len(), 1);
    }
}
