//! [`Windows`], a table of minute-long windows that is bounded and never resets one that runs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use super::SHARED_WINDOWS;

/// What a key has used up since its window began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    started: Instant,
    used: u32,
}

const WINDOW: Duration = Duration::from_secs(60);

impl Window {
    fn starting(now: Instant) -> Self {
        Self { started: now, used: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        is_over(self.started, now)
    }

    /// Counts one, unless `max` are counted already.
    pub(super) fn take(&mut self, max: u32) -> bool {
        let allowed = self.used < max;
        self.used += u32::from(allowed);
        allowed
    }

    /// Whether a `take` would count.
    pub(super) fn has_left(&self, max: u32) -> bool {
        self.used < max
    }
}

fn is_over(started: Instant, now: Instant) -> bool {
    now.saturating_duration_since(started) >= WINDOW
}

/// Windows by key: `own_max` keys have one to themselves, the rest share.
///
/// A key is charged to one running window at a time. If the shared one that it falls into runs, it stays there even
/// when a place of its own becomes free, so that moving never starts a new count.
#[derive(Debug)]
pub(super) struct Windows<K, S> {
    own_max: usize,
    own: HashMap<K, Window, S>,
    /// When each window in `own` began, oldest first. An entry whose window has been restarted since is out of date,
    /// and is dropped when it reaches the front.
    ///
    /// Never longer than `own_max`: at most one entry a key is younger than a window, and `reclaim` takes an older one
    /// off before another is put on.
    begun: VecDeque<(K, Instant)>,
    shared: Box<[Option<Window>]>,
}

/// Windows looked at by each call. Every call begins at most one, so two keep up and catch up.
const RECLAIMED_PER_CALL: usize = 2;

impl<K: Hash + Eq + Copy, S: BuildHasher> Windows<K, S> {
    pub(super) fn new(own_max: usize, hasher: S) -> Self {
        Self {
            own_max,
            own: HashMap::with_hasher(hasher),
            begun: VecDeque::new(),
            shared: vec![None; SHARED_WINDOWS].into(),
        }
    }

    pub(super) fn tracked(&self) -> usize {
        self.own.len()
    }

    /// The running window that an attempt of `key` counts against, begun now if there is none.
    pub(super) fn charged(&mut self, key: K, now: Instant) -> &mut Window {
        self.reclaim(now);
        let shared = self.shared_index(&key);
        let shared = &mut self.shared[shared];
        let may_begin_own = self.own.len() < self.own_max && shared.is_none_or(|window| window.is_over(now));
        match self.own.entry(key) {
            Entry::Occupied(own) => {
                let window = own.into_mut();
                if window.is_over(now) {
                    *window = Window::starting(now);
                    self.begun.push_back((key, now));
                }
                window
            }
            Entry::Vacant(place) if may_begin_own => {
                self.begun.push_back((key, now));
                place.insert(Window::starting(now))
            }
            Entry::Vacant(_) => {
                shared.take_if(|window| window.is_over(now));
                shared.get_or_insert(Window::starting(now))
            }
        }
    }

    /// The running window of `key`, if there is one.
    pub(super) fn running(&mut self, key: &K, now: Instant) -> Option<&mut Window> {
        let shared = self.shared_index(key);
        self.own.get_mut(key).or(self.shared[shared].as_mut()).filter(|window| !window.is_over(now))
    }

    fn reclaim(&mut self, now: Instant) {
        for _ in 0..RECLAIMED_PER_CALL {
            let Some(&(key, started)) = self.begun.front().filter(|(_, started)| is_over(*started, now))
            else {
                return;
            };
            self.begun.pop_front();
            if self.own.get(&key).is_some_and(|window| window.started == started) {
                self.own.remove(&key);
            }
        }
    }

    fn shared_index(&self, key: &K) -> usize {
        // The remainder is below the number of windows, so it fits.
        (self.own.hasher().hash_one(key) % SHARED_WINDOWS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    #[test]
    fn the_queue_stays_within_the_table_whatever_restarts() {
        let mut windows: Windows<u32, _> = Windows::new(8, RandomState::new());
        let mut now = Instant::now();
        for step in 0..5_000u32 {
            // Steps of up to two minutes, so that windows are restarted, reclaimed and shared in turn.
            now += Duration::from_millis(u64::from(step.wrapping_mul(2_654_435_761) >> 15));
            windows.charged(step.wrapping_mul(40_503) >> 7 & 15, now).take(3);
            assert!(windows.tracked() <= 8);
            assert!(windows.begun.len() <= 8, "{}", windows.begun.len());
        }
    }
}
