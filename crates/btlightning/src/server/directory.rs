//! The authenticated sessions: how many there may be, whose they are, and which of them have to go.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btlightning_proto::identity::SourcePrefix;
use tokio::time::Instant;

use super::activity::Activity;
use super::call::ConnectionId;
use super::late::Late;
use super::places::{self, Bounds, Leaving, NoPlace, Standing, Taker};
use super::regulars::{HELD_LEAST, Regulars};
use crate::Hotkey;
use crate::transport::close::CloseReason;

/// A connection as the directory needs it.
pub(super) trait Closable: Clone {
    /// Tells the peer why, and ends the connection.
    fn close(&self, reason: CloseReason);
}

impl Closable for quinn::Connection {
    fn close(&self, reason: CloseReason) {
        reason.close(self);
    }
}

/// All authenticated sessions.
#[derive(Debug)]
pub(super) struct Directory<C: Closable> {
    bounds: Bounds,
    members: Mutex<HashMap<ConnectionId, Member<C>>>,
    /// Never locked while `members` is.
    regulars: Mutex<Regulars>,
}

/// One authenticated session.
#[derive(Debug, Clone)]
pub(super) struct Member<C> {
    pub(super) hotkey: Hotkey,
    pub(super) connection: C,
    /// Where the connection was accepted from.
    pub(super) source_ip: IpAddr,
    /// What counts as one address with that.
    source: SourcePrefix,
    /// The name that the last accepted handshake gave the connection.
    name: String,
    activity: Arc<Activity>,
    late: Arc<Late>,
    joined_at: Instant,
    /// Whether the hotkey was more than unknown when it came.
    was_known: bool,
}

impl<C> Member<C> {
    pub(super) fn requests_in_flight(&self) -> usize {
        self.activity.in_flight()
    }
}

/// A session that is to be let in.
pub(super) struct Newcomer<C> {
    pub(super) id: ConnectionId,
    pub(super) hotkey: Hotkey,
    pub(super) connection: C,
    pub(super) source_ip: IpAddr,
    pub(super) name: String,
    pub(super) activity: Arc<Activity>,
    pub(super) late: Arc<Late>,
}

/// A session that was let in, and who had to leave for it.
#[derive(Debug)]
pub(super) struct Joined<C: Closable> {
    pub(super) membership: Membership<C>,
    pub(super) standing: Standing,
    pub(super) left: Vec<(Hotkey, CloseReason)>,
}

impl<C: Closable> Directory<C> {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, members: Mutex::default(), regulars: Mutex::default() })
    }

    /// Whether a session of `hotkey` from `ip` would be let in at this moment. `is_permitted` says who holds a permit.
    pub(super) fn has_room_for(
        &self,
        hotkey: Hotkey,
        ip: IpAddr,
        is_permitted: impl Fn(&Hotkey) -> bool,
    ) -> Result<(), NoPlace> {
        let now = Instant::now();
        let was_here = self.regulars().has(&hotkey, now);
        let members = self.members();
        let standing = standing(&members, &hotkey, was_here, &is_permitted, now);
        let newcomer = Taker { id: ConnectionId(u64::MAX), hotkey, source: SourcePrefix::of(ip), standing };
        self.make_way(&members, &newcomer, ip, is_permitted, now).map(drop)
    }

    /// Lets a session in. Those that have to make way for it, as [`places`] says, are closed.
    pub(super) fn join(
        self: &Arc<Self>,
        newcomer: Newcomer<C>,
        is_permitted: impl Fn(&Hotkey) -> bool,
    ) -> Result<Joined<C>, NoPlace> {
        let Newcomer { id, hotkey, connection, source_ip, name, activity, late } = newcomer;
        let (now, source) = (Instant::now(), SourcePrefix::of(source_ip));
        let was_here = self.regulars().has(&hotkey, now);
        let mut members = self.members();
        let standing = standing(&members, &hotkey, was_here, &is_permitted, now);
        let taker = Taker { id, hotkey, source, standing };
        let leaving = self.make_way(&members, &taker, source_ip, is_permitted, now)?;
        let left: Vec<_> =
            leaving.iter().filter_map(|goes| Some((members.remove(&goes.id)?, goes.why))).collect();
        let was_known = standing > Standing::Unknown;
        let member =
            Member { hotkey, connection, source_ip, source, name, activity, late, joined_at: now, was_known };
        members.insert(id, member);
        drop(members);
        if standing == Standing::Permitted {
            self.regulars().note(hotkey, source, now);
        }
        for (member, why) in &left {
            member.connection.close(*why);
            self.note_left(member, now);
        }
        let left = left.into_iter().map(|(member, why)| (member.hotkey, why)).collect();
        Ok(Joined { membership: Membership { directory: self.clone(), id }, standing, left })
    }

    /// Whether `hotkey` was here before, with a permit or for long.
    pub(super) fn was_here(&self, hotkey: &Hotkey) -> bool {
        self.regulars().has(hotkey, Instant::now())
    }

    /// Whether `hotkey` was here from the source of `ip` before, with a permit or for long.
    pub(super) fn was_here_from(&self, hotkey: &Hotkey, ip: IpAddr) -> bool {
        self.regulars().has_from(hotkey, SourcePrefix::of(ip), Instant::now())
    }

    fn make_way(
        &self,
        members: &HashMap<ConnectionId, Member<C>>,
        newcomer: &Taker,
        ip: IpAddr,
        is_permitted: impl Fn(&Hotkey) -> bool,
        now: Instant,
    ) -> Result<Vec<Leaving>, NoPlace> {
        let bounds = self.bounds.for_source(ip);
        let mut own = 0;
        let mut neighbours = 0;
        for member in members.values() {
            own += usize::from(member.hotkey == newcomer.hotkey);
            neighbours += usize::from(member.source == newcomer.source);
        }
        // The usual case, without a look at what is known of each.
        if members.len() < bounds.in_all && own < bounds.per_hotkey && neighbours < bounds.per_source {
            return Ok(Vec::new());
        }
        let holders = members.iter().map(|(id, member)| Taker {
            id: *id,
            hotkey: member.hotkey,
            source: member.source,
            standing: match is_permitted(&member.hotkey) {
                true => Standing::Permitted,
                false if member.is_known(now) => Standing::Returning,
                false => Standing::Unknown,
            },
        });
        places::make_way(newcomer, holders.collect(), bounds)
    }

    /// Closes the sessions of which `is_out` holds, and says whose they were.
    pub(super) fn close_where(
        &self,
        reason: CloseReason,
        is_out: impl Fn(&Member<C>) -> bool,
    ) -> Vec<Hotkey> {
        let out: Vec<_> = self.members().extract_if(|_, member| is_out(member)).collect();
        let now = Instant::now();
        for (_, member) in &out {
            member.connection.close(reason);
            self.note_left(member, now);
        }
        out.into_iter().map(|(_, member)| member.hotkey).collect()
    }

    /// Closes the sessions that were idle for longer than `idle_max`, and says whose they were.
    pub(super) fn close_idle(&self, idle_max: Duration, now: Instant) -> Vec<Hotkey> {
        self.close_where(CloseReason::Cleanup, |member| {
            member.activity.idle_for(now).is_some_and(|idle| idle > idle_max)
        })
    }

    /// Has every session let go of answers that its peer does not acknowledge.
    pub(super) fn sweep(&self) {
        for late in self.each(|member| member.late.clone()) {
            late.sweep();
        }
    }

    /// What `look` makes of each session, in no order.
    pub(super) fn each<T>(&self, look: impl Fn(&Member<C>) -> T) -> Vec<T> {
        self.members().values().map(look).collect()
    }

    /// Whose sessions there are, each with its connection's name, in no order.
    pub(super) fn names(&self) -> Vec<(Hotkey, String)> {
        let members = self.members();
        // Of several of one hotkey the newest comes last.
        let mut ids: Vec<_> = members.keys().copied().collect();
        ids.sort_unstable();
        ids.iter()
            .filter_map(|id| members.get(id))
            .map(|member| (member.hotkey, member.name.clone()))
            .collect()
    }

    /// Remembers who was here for long.
    fn note_left(&self, member: &Member<C>, now: Instant) {
        if member.is_known(now) {
            self.regulars().note(member.hotkey, member.source, now);
        }
    }

    fn regulars(&self) -> MutexGuard<'_, Regulars> {
        self.regulars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> MutexGuard<'_, HashMap<ConnectionId, Member<C>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Member<C> {
    /// Whether its hotkey is more than unknown, permits aside.
    fn is_known(&self, now: Instant) -> bool {
        self.was_known || now.saturating_duration_since(self.joined_at) >= HELD_LEAST
    }
}

/// What is known of `hotkey`; `was_here` is what the regulars say.
fn standing<C>(
    members: &HashMap<ConnectionId, Member<C>>,
    hotkey: &Hotkey,
    was_here: bool,
    is_permitted: impl Fn(&Hotkey) -> bool,
    now: Instant,
) -> Standing {
    let is_here = || members.values().any(|member| member.hotkey == *hotkey && member.is_known(now));
    match is_permitted(hotkey) {
        true => Standing::Permitted,
        false if was_here || is_here() => Standing::Returning,
        false => Standing::Unknown,
    }
}

/// The place of one session; free again when dropped, if it was not given to another before.
#[derive(Debug)]
pub(super) struct Membership<C: Closable> {
    directory: Arc<Directory<C>>,
    id: ConnectionId,
}

impl<C: Closable> Membership<C> {
    /// Notes the name that another handshake on the same connection gave it. Nothing happens if the session was closed
    /// meanwhile.
    pub(super) fn rename(&self, name: String) {
        if let Some(member) = self.directory.members().get_mut(&self.id) {
            member.name = name;
        }
    }
}

impl<C: Closable> Drop for Membership<C> {
    fn drop(&mut self) {
        // Dropped outside the lock: the last handle of a connection closes it.
        let left = self.directory.members().remove(&self.id);
        if let Some(left) = left {
            self.directory.note_left(&left, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Line(Arc<Mutex<Vec<&'static str>>>);

    impl Closable for Line {
        fn close(&self, reason: CloseReason) {
            self.0.lock().unwrap().push(reason.as_str());
        }
    }

    impl Line {
        fn closed(&self) -> Vec<&'static str> {
            self.0.lock().unwrap().clone()
        }
    }

    struct Room {
        directory: Arc<Directory<Line>>,
        permitted: Vec<Hotkey>,
        next: u64,
    }

    type Guest = (Membership<Line>, Line, Arc<Activity>);

    impl Room {
        fn new(in_all: usize, per_hotkey: usize) -> Self {
            let bounds = Bounds { in_all, per_hotkey, per_source: usize::MAX };
            Self { directory: Directory::new(bounds), permitted: Vec::new(), next: 0 }
        }

        fn join(&mut self, key: u8) -> Result<Guest, NoPlace> {
            self.join_from(key, 1)
        }

        fn join_from(&mut self, key: u8, source: u8) -> Result<Guest, NoPlace> {
            let (line, activity) = (Line::default(), Activity::new(Instant::now()));
            let id = ConnectionId(self.next);
            self.next += 1;
            let newcomer = Newcomer {
                id,
                hotkey: hotkey(key),
                connection: line.clone(),
                source_ip: Ipv4Addr::new(10, 0, 0, source).into(),
                name: format!("conn_{id}"),
                activity: activity.clone(),
                late: Arc::new(Late::new(1)),
            };
            let joined = self.directory.join(newcomer, |hotkey| self.permitted.contains(hotkey))?;
            Ok((joined.membership, line, activity))
        }

        fn has_room_for(&self, key: u8) -> bool {
            let ip = Ipv4Addr::new(10, 0, 0, 1).into();
            let is_permitted = |hotkey: &Hotkey| self.permitted.contains(hotkey);
            self.directory.has_room_for(hotkey(key), ip, is_permitted).is_ok()
        }

        fn count(&self) -> usize {
            self.directory.names().len()
        }
    }

    fn hotkey(key: u8) -> Hotkey {
        Hotkey::from_public_key([key; 32]).unwrap()
    }

    #[test]
    fn a_hotkey_over_its_share_loses_its_oldest_session() {
        let mut room = Room::new(9, 2);
        let (first, first_line, _) = room.join(1).unwrap();
        let (_second, second_line, _) = room.join(1).unwrap();
        let (_other, other_line, _) = room.join(2).unwrap();
        let (_third, third_line, _) = room.join(1).unwrap();
        assert_eq!(first_line.closed(), ["replaced"]);
        assert!(
            second_line.closed().is_empty()
                && third_line.closed().is_empty()
                && other_line.closed().is_empty()
        );
        assert_eq!(room.count(), 3);
        drop(first);
        assert_eq!(room.count(), 3, "a place that was given away is not freed twice");
    }

    #[test]
    fn a_full_directory_has_room_for_those_who_are_in_it_and_for_permits() {
        let mut room = Room::new(2, 2);
        room.permitted.push(hotkey(4));
        let (_one, one_line, _) = room.join(1).unwrap();
        let (two, two_line, _) = room.join(2).unwrap();
        assert!(!room.has_room_for(3) && room.has_room_for(1) && room.has_room_for(4));
        assert_eq!(room.join(3).unwrap_err(), NoPlace::InAll(2));
        let (_again, again_line, _) = room.join(1).unwrap();
        assert_eq!(one_line.closed(), ["replaced"]);
        let (_permitted, permitted_line, _) = room.join(4).unwrap();
        assert_eq!((again_line.closed(), two_line.closed()), (vec!["displaced"], vec![]), "the youngest");
        drop(two);
        room.join(3).unwrap();
        assert!(permitted_line.closed().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_here_for_long_comes_back_to_a_full_directory() {
        let mut room = Room::new(2, 2);
        let (long, _, _) = room.join(1).unwrap();
        tokio::time::advance(HELD_LEAST).await;
        let (short, _, _) = room.join(2).unwrap();
        drop((long, short));
        let (_three, _, _) = room.join(3).unwrap();
        let (_four, four_line, _) = room.join(4).unwrap();
        assert!(!room.has_room_for(2));
        let (_back, back_line, _) = room.join(1).unwrap();
        assert_eq!(four_line.closed(), ["displaced"]);
        assert!(room.directory.was_here_from(&hotkey(1), Ipv4Addr::new(10, 0, 0, 1).into()));
        assert!(!room.directory.was_here_from(&hotkey(1), Ipv4Addr::new(10, 0, 0, 2).into()));
        // A second process of it has another's place, not the first one's.
        let (_second, _, _) = room.join(1).unwrap();
        assert!(back_line.closed().is_empty());
        assert_eq!(room.join(5).unwrap_err(), NoPlace::InAll(2));
    }

    #[test]
    fn a_place_is_free_once_its_membership_is_dropped() {
        let mut room = Room::new(1, 1);
        drop(room.join(1).unwrap());
        assert_eq!(room.count(), 0);
        let (member, _, _) = room.join(2).unwrap();
        member.rename("again".to_owned());
        assert_eq!(room.directory.names(), [(hotkey(2), "again".to_owned())]);
    }

    #[test]
    fn sessions_are_closed_by_predicate_once() {
        let mut room = Room::new(9, 9);
        let (_one, one_line, _) = room.join(1).unwrap();
        let (two, two_line, _) = room.join(2).unwrap();
        let out = |member: &Member<Line>| member.hotkey == hotkey(1);
        assert_eq!(room.directory.close_where(CloseReason::PermitRevoked, out), [hotkey(1)]);
        assert!(room.directory.close_where(CloseReason::PermitRevoked, out).is_empty());
        assert_eq!(one_line.closed(), ["permit_revoked"]);
        assert!(two_line.closed().is_empty());
        drop(two);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_is_who_has_nothing_in_flight_and_had_nothing_for_long() {
        let mut room = Room::new(9, 9);
        let (_idle, idle_line, _) = room.join(1).unwrap();
        let (_busy, busy_line, busy) = room.join(2).unwrap();
        let (_recent, recent_line, recent) = room.join(3).unwrap();
        let in_flight = busy.begin();
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(recent.begin());
        tokio::time::advance(Duration::from_secs(30)).await;
        let closed = room.directory.close_idle(Duration::from_secs(60), Instant::now());
        assert_eq!(closed, [hotkey(1)]);
        assert_eq!(idle_line.closed(), ["cleanup"]);
        assert!(busy_line.closed().is_empty() && recent_line.closed().is_empty());
        drop(in_flight);
    }
}
