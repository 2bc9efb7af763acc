//! The connections that have not authenticated, counted in all and by source.
//!
//! Who owns many addresses must not keep the others out. So nobody is refused for want of a place while one source has
//! two more than it: the oldest of the most crowded source goes. And a quarter of the places is for sources that somebody
//! has authenticated from before; who has as many addresses as there are places can take only the others.
//!
//! A source that has all of its own places gives the one that has had most of its chance to a newcomer; the shorter that
//! was here, the less likely. Chance decides, because who knows when a place is to be had takes it before others do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btlightning_proto::identity::SourcePrefix;
use tokio::time::Instant;

use crate::transport::io::{Eviction, Tenure};

/// What part of the places is for sources that are coming back.
const RETURNING_SHARE: usize = 4;

/// How many such sources are remembered. The one that was seen least recently is forgotten for a new one.
const RETURNING_MAX: usize = 4096;

/// When a stranger makes room for a newcomer from its source for certain: several times what TLS and a handshake take on a
/// long path. Earlier it does with the chance that it has had of that time.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The same for one that was refused, or has ended. Not at once: each newcomer costs a TLS handshake.
const REFUSED_SETTLED_AFTER: Duration = Duration::from_millis(125);

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    /// `max_unauthenticated_connections`.
    InAll,
    /// `max_unauthenticated_connections_per_ip`.
    FromThisSource,
}

/// All strangers.
#[derive(Debug)]
pub(super) struct Strangers {
    in_all_max: usize,
    per_source_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// From sources that nobody has authenticated from.
    unknown: Group,
    returning: Group,
    /// When each source that is coming back was seen last, as a number that rises.
    seen: HashMap<SourcePrefix, u64>,
    next: u64,
    /// Who was ever let in.
    admitted: u64,
    dice: RandomState,
}

/// The strangers of some sources.
#[derive(Debug, Default)]
struct Group {
    in_all: usize,
    /// The oldest first.
    by_source: HashMap<SourcePrefix, VecDeque<Stranger>>,
    /// How many sources hold so many.
    crowds: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct Stranger {
    number: u64,
    since: Instant,
    eviction: Eviction,
}

impl Strangers {
    pub(super) fn new(in_all_max: usize, per_source_max: usize) -> Arc<Self> {
        Arc::new(Self { in_all_max, per_source_max, held: Mutex::default() })
    }

    /// Takes a place, which the tenure holds; if need be, another stranger's.
    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Tenure, Crowd> {
        let source = SourcePrefix::of(ip);
        let mut held = self.held();
        let is_returning = held.seen.contains_key(&source);
        let (own, now, number) = (held.group(is_returning).count(&source), Instant::now(), held.number());
        let evicted = if own >= self.per_source_max {
            let dice = held.dice.hash_one(number);
            held.group(is_returning).pop_of(source, now, dice).map(Some).ok_or(Crowd::FromThisSource)?
        } else {
            self.make_room(&mut held, is_returning, own)?
        };
        let tenure = Tenure::new();
        let stranger = Stranger { number, since: now, eviction: tenure.eviction() };
        held.group(is_returning).push(source, stranger);
        held.admitted += 1;
        drop(held);
        if let Some(evicted) = evicted {
            evicted.evict();
        }
        tenure.hold(Slot { strangers: self.clone(), source, number });
        Ok(tenure)
    }

    /// Takes somebody off the list if there is no place for one more of a source that holds `own`.
    fn make_room(&self, held: &mut Held, is_returning: bool, own: usize) -> Result<Option<Eviction>, Crowd> {
        let unknown_max = self.in_all_max - self.in_all_max / RETURNING_SHARE;
        let group = if !is_returning && held.unknown.in_all >= unknown_max {
            &mut held.unknown
        } else if held.unknown.in_all + held.returning.in_all >= self.in_all_max {
            if held.unknown.crowd() >= held.returning.crowd() {
                &mut held.unknown
            } else {
                &mut held.returning
            }
        } else {
            return Ok(None);
        };
        if group.crowd() <= own + 1 {
            return Err(Crowd::InAll);
        }
        Ok(group.pop_of_largest())
    }

    /// Notes that somebody of whom the server knows more than a hotkey has authenticated from `ip`: one that anybody can
    /// make up would make every address a known one.
    pub(super) fn note_authenticated(&self, ip: IpAddr) {
        let source = SourcePrefix::of(ip);
        let mut held = self.held();
        let now = held.number();
        let is_new = held.seen.insert(source, now).is_none();
        if !is_new {
            return;
        }
        let Held { unknown, returning, seen, .. } = &mut *held;
        if seen.len() > RETURNING_MAX
            && let Some(oldest) = seen.iter().min_by_key(|(_, seen)| **seen).map(|(source, _)| *source)
        {
            seen.remove(&oldest);
            unknown.take_over(oldest, returning);
        }
        returning.take_over(source, unknown);
    }

    fn leave(&self, source: &SourcePrefix, number: u64) {
        let mut held = self.held();
        if !held.unknown.remove(source, number) {
            held.returning.remove(source, number);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, from how many sources, and how many have ever been let in.
    pub(super) fn count(&self) -> (usize, usize, u64) {
        let held = self.held();
        let sources = held.unknown.by_source.len() + held.returning.by_source.len();
        (held.unknown.in_all + held.returning.in_all, sources, held.admitted)
    }
}

impl Held {
    fn group(&mut self, is_returning: bool) -> &mut Group {
        if is_returning { &mut self.returning } else { &mut self.unknown }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Group {
    fn count(&self, source: &SourcePrefix) -> usize {
        self.by_source.get(source).map_or(0, VecDeque::len)
    }

    /// How many the source holds that holds most.
    fn crowd(&self) -> usize {
        self.crowds.last_key_value().map_or(0, |(count, _)| *count)
    }

    fn push(&mut self, source: SourcePrefix, stranger: Stranger) {
        self.change(source, |strangers| strangers.push_back(stranger));
    }

    /// Takes out the stranger of `source` that has had most of its chance, if `dice` will have it: the oldest when it has
    /// settled, or else the oldest that was refused, or else the oldest.
    fn pop_of(&mut self, source: SourcePrefix, now: Instant, dice: u64) -> Option<Eviction> {
        let strangers = self.by_source.get(&source)?;
        let age = |at: usize| strangers.get(at).map(|stranger| now.saturating_duration_since(stranger.since));
        let is_settled = age(0)? >= SETTLED_AFTER;
        let refused = strangers.iter().position(|stranger| stranger.eviction.is_earned());
        let (at, settled_after) = match refused {
            Some(at) if !is_settled => (at, REFUSED_SETTLED_AFTER),
            _ => (0, SETTLED_AFTER),
        };
        if u128::from(dice) % settled_after.as_nanos() >= age(at)?.as_nanos() {
            return None;
        }
        self.change(source, |strangers| strangers.remove(at)).map(|goes| goes.eviction)
    }

    /// Takes out the oldest of a source that holds most.
    fn pop_of_largest(&mut self) -> Option<Eviction> {
        let crowd = self.crowd();
        let largest = self.by_source.iter().filter(|(_, strangers)| strangers.len() == crowd);
        let largest = largest.min_by_key(|(_, strangers)| strangers.front().map(|oldest| oldest.number));
        let source = *largest?.0;
        self.change(source, VecDeque::pop_front).map(|oldest| oldest.eviction)
    }

    /// False if it is not here.
    fn remove(&mut self, source: &SourcePrefix, number: u64) -> bool {
        let is_it = |stranger: &Stranger| stranger.number == number;
        let Some(at) = self.by_source.get(source).and_then(|strangers| strangers.iter().position(is_it))
        else {
            return false;
        };
        self.change(*source, |strangers| strangers.remove(at)).is_some()
    }

    /// Takes the strangers of `source` from `other`.
    fn take_over(&mut self, source: SourcePrefix, other: &mut Self) {
        let moved = other.change(source, std::mem::take);
        self.change(source, |strangers| strangers.extend(moved));
    }

    fn change<T>(&mut self, source: SourcePrefix, change: impl FnOnce(&mut VecDeque<Stranger>) -> T) -> T {
        let strangers = self.by_source.entry(source).or_default();
        let before = strangers.len();
        let changed = change(strangers);
        let after = strangers.len();
        if after == 0 {
            self.by_source.remove(&source);
        }
        self.in_all = self.in_all - before + after;
        if before > 0
            && let Some(sources) = self.crowds.get_mut(&before)
        {
            *sources -= 1;
            if *sources == 0 {
                self.crowds.remove(&before);
            }
        }
        if after > 0 {
            *self.crowds.entry(after).or_default() += 1;
        }
        changed
    }
}

/// The place of one stranger; free again when dropped.
#[derive(Debug)]
struct Slot {
    strangers: Arc<Strangers>,
    source: SourcePrefix,
    number: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.strangers.leave(&self.source, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn enter(strangers: &Arc<Strangers>, text: &str) -> Result<Tenure, Crowd> {
        strangers.enter(ip(text))
    }

    /// The n-th of many sources.
    fn nth(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_are_bounded_by_source_and_in_all() {
        let strangers = Strangers::new(3, 2);
        let first = enter(&strangers, "10.0.0.1").unwrap();
        let _second = enter(&strangers, "::ffff:10.0.0.1").unwrap();
        assert_eq!(enter(&strangers, "10.0.0.1").unwrap_err(), Crowd::FromThisSource);
        let _other = enter(&strangers, "10.0.0.2").unwrap();
        assert_eq!(enter(&strangers, "10.0.0.3").map(drop), Ok(()), "in the place of the first");
        assert!(first.is_evicted());
    }

    #[tokio::test(start_paused = true)]
    async fn who_idles_makes_room_for_a_neighbour_after_a_while() {
        let strangers = Strangers::new(9, 2);
        let held: Vec<_> = (0..2).map(|_| enter(&strangers, "10.0.0.1").unwrap()).collect();
        assert_eq!(enter(&strangers, "10.0.0.1").unwrap_err(), Crowd::FromThisSource);
        tokio::time::advance(SETTLED_AFTER).await;
        let third = enter(&strangers, "10.0.0.1").unwrap();
        assert!(held[0].is_evicted() && !held[1].is_evicted() && strangers.count().0 == 2);
        let fourth = enter(&strangers, "10.0.0.1").unwrap();
        assert!(held[1].is_evicted());
        assert_eq!(enter(&strangers, "10.0.0.1").unwrap_err(), Crowd::FromThisSource);
        assert!(!third.is_evicted() && !fourth.is_evicted());
    }

    /// Every 10 ms somebody comes from a source, who earns its eviction `earned_after` so many others, if at all, and stays.
    /// Of 400 neighbours in between, how many find a place and have it for 100 ms.
    async fn neighbours_amid_a_flood(earned_after: Option<usize>) -> usize {
        let strangers = Strangers::new(256, 16);
        let (mut flood, mut neighbour, mut in_time) = (VecDeque::new(), None::<Tenure>, 0);
        for n in 0..4400 {
            flood.extend(enter(&strangers, "10.0.0.1"));
            flood.retain(|tenure: &Tenure| !tenure.is_evicted());
            let earns = earned_after.and_then(|earned_after| flood.iter().rev().nth(earned_after));
            earns.inspect(|tenure| tenure.door().earn_eviction());
            // Just after one of the flood, so that one that knows when a place is free has taken it.
            tokio::time::advance(Duration::from_millis(1)).await;
            if n >= 400 && n % 10 == 0 {
                in_time += usize::from(neighbour.as_ref().is_some_and(|tenure| !tenure.is_evicted()));
                neighbour = enter(&strangers, "10.0.0.1").ok();
            }
            tokio::time::advance(Duration::from_millis(9)).await;
        }
        assert_eq!(strangers.count().0, 16);
        in_time
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_that_is_refused_makes_room_for_a_neighbour() {
        let in_time = neighbours_amid_a_flood(Some(1)).await;
        assert!(in_time > 350, "{in_time} of 400");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_that_idles_leaves_chances_to_a_neighbour() {
        // The root of 8 in 110 of them: 108, give or take 9.
        let in_time = neighbours_amid_a_flood(None).await;
        assert!((60..180).contains(&in_time), "{in_time} of 400");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_ended_makes_room_sooner() {
        let strangers = Strangers::new(9, 1);
        let first = enter(&strangers, "10.0.0.1").unwrap();
        // The driver of the connection would have it for longer.
        let _driver = first.door();
        drop(first);
        tokio::time::advance(REFUSED_SETTLED_AFTER).await;
        enter(&strangers, "10.0.0.1").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn ipv6_counts_by_its_64() {
        let strangers = Strangers::new(9, 1);
        let _held = enter(&strangers, "2001:db8:1:2::1").unwrap();
        assert_eq!(enter(&strangers, "2001:db8:1:2:ffff::9").unwrap_err(), Crowd::FromThisSource);
        enter(&strangers, "2001:db8:1:3::1").unwrap();
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let strangers = Strangers::new(2, 2);
        drop((enter(&strangers, "10.0.0.1").unwrap(), enter(&strangers, "10.0.0.1").unwrap()));
        let held = strangers.held();
        assert_eq!((held.unknown.in_all, held.unknown.by_source.len(), held.unknown.crowds.len()), (0, 0, 0));
    }

    #[test]
    fn a_few_sources_do_not_keep_others_out() {
        let strangers = Strangers::new(256, 16);
        let mut held: Vec<_> = (0..16)
            .flat_map(|n| (0..16).map(move |_| nth(n)))
            .filter_map(|ip| strangers.enter(ip).ok())
            .collect();
        held.retain(|tenure| !tenure.is_evicted());
        assert_eq!(strangers.count().0, 192);
        let newcomers: Vec<_> = (100..130).map(|n| strangers.enter(nth(n)).unwrap()).collect();
        assert_eq!(strangers.count().0, 192);
        assert_eq!(held.iter().filter(|tenure| tenure.is_evicted()).count(), 30);
        assert!(newcomers.iter().all(|tenure| !tenure.is_evicted()));
        // Whoever is evicted cannot evict in turn, and leaves once.
        held.retain(|tenure| !tenure.is_evicted());
        assert_eq!((strangers.count().0, held.len()), (192, 162));
        let again: usize = (0..16).filter(|n| strangers.enter(nth(*n)).is_ok()).count();
        assert!(again <= 16 && newcomers.iter().all(|tenure| !tenure.is_evicted()));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_sources_as_there_are_places_leave_a_quarter_to_those_who_come_back() {
        let strangers = Strangers::new(16, 4);
        strangers.note_authenticated(nth(1000));
        let held: Vec<_> = (0..100).filter_map(|n| strangers.enter(nth(n)).ok()).collect();
        assert_eq!(held.len(), 12);
        assert_eq!(strangers.enter(nth(100)).unwrap_err(), Crowd::InAll);
        let back: Vec<_> = (0..4).map(|_| strangers.enter(nth(1000)).unwrap()).collect();
        assert_eq!(strangers.enter(nth(1000)).unwrap_err(), Crowd::FromThisSource);
        assert!(held.iter().chain(&back).all(|tenure| !tenure.is_evicted()));
        // Others who come back share what is theirs.
        strangers.note_authenticated(nth(1001));
        let _other = strangers.enter(nth(1001)).unwrap();
        assert!(back[0].is_evicted());
    }

    #[test]
    fn who_authenticates_is_moved_with_its_strangers() {
        let strangers = Strangers::new(4, 4);
        let held: Vec<_> = (0..3).map(|_| strangers.enter(nth(1)).unwrap()).collect();
        strangers.note_authenticated(nth(1));
        let counted = strangers.held();
        assert_eq!((counted.unknown.in_all, counted.returning.in_all), (0, 3));
        drop(counted);
        drop(held);
        assert_eq!(strangers.count().0, 0);
    }

    #[test]
    fn those_who_were_seen_least_recently_are_forgotten_first() {
        let strangers = Strangers::new(1, 1);
        let most = u32::try_from(RETURNING_MAX).unwrap();
        for n in 0..most {
            strangers.note_authenticated(nth(n));
        }
        strangers.note_authenticated(nth(0));
        strangers.note_authenticated(nth(most));
        let held = strangers.held();
        assert_eq!(held.seen.len(), RETURNING_MAX);
        assert!(held.seen.contains_key(&SourcePrefix::of(nth(0))));
        assert!(!held.seen.contains_key(&SourcePrefix::of(nth(1))));
    }
}
