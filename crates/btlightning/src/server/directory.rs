//! The authenticated sessions: how many there may be, whose they are, and which of them have to go.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::call::ConnectionId;
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
    in_all_max: usize,
    per_hotkey_max: usize,
    members: Mutex<HashMap<ConnectionId, Member<C>>>,
}

/// One authenticated session.
#[derive(Debug, Clone)]
pub(super) struct Member<C> {
    pub(super) hotkey: Hotkey,
    pub(super) connection: C,
    /// Where the connection was accepted from.
    pub(super) source_ip: IpAddr,
    /// The name that the last accepted handshake gave the connection.
    name: String,
    activity: Arc<Activity>,
}

/// `max_connections` is reached, and the hotkey holds none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Connection limit reached ({in_all_max}/{in_all_max})")]
pub(super) struct DirectoryFull {
    in_all_max: usize,
}

impl<C: Closable> Directory<C> {
    pub(super) fn new(in_all_max: usize, per_hotkey_max: usize) -> Arc<Self> {
        Arc::new(Self { in_all_max, per_hotkey_max, members: Mutex::default() })
    }

    /// Whether a session of `hotkey` would be let in at this moment.
    pub(super) fn has_room_for(&self, hotkey: &Hotkey) -> Result<(), DirectoryFull> {
        let members = self.members();
        if members.len() < self.in_all_max || members.values().any(|member| member.hotkey == *hotkey) {
            Ok(())
        } else {
            Err(DirectoryFull { in_all_max: self.in_all_max })
        }
    }

    /// Lets a session in. The oldest sessions of the same hotkey are closed where it has its share already, or where
    /// there is no room otherwise: nobody has to wait for his own dead connections to be noticed.
    pub(super) fn join(
        self: &Arc<Self>,
        id: ConnectionId,
        hotkey: Hotkey,
        connection: C,
        source_ip: IpAddr,
        name: String,
        activity: Arc<Activity>,
    ) -> Result<Membership<C>, DirectoryFull> {
        let mut members = self.members();
        // Numbers are given in the order of arrival, so the lowest is the oldest.
        let mut own: Vec<_> =
            members.iter().filter(|(_, member)| member.hotkey == hotkey).map(|(id, _)| *id).collect();
        if members.len() >= self.in_all_max && own.is_empty() {
            return Err(DirectoryFull { in_all_max: self.in_all_max });
        }
        own.sort_unstable();
        let over_share = (own.len() + 1).saturating_sub(self.per_hotkey_max);
        let over_all = (members.len() + 1).saturating_sub(self.in_all_max);
        let replaced: Vec<_> =
            own.iter().take(over_share.max(over_all)).filter_map(|id| members.remove(id)).collect();
        members.insert(id, Member { hotkey, connection, source_ip, name, activity });
        drop(members);
        for member in replaced {
            warn!("closing previous connection for validator {hotkey} (replaced by new handshake)");
            member.connection.close(CloseReason::Replaced);
        }
        Ok(Membership { directory: self.clone(), id })
    }

    /// Closes the sessions of which `is_out` holds, and says whose they were.
    pub(super) fn close_where(
        &self,
        reason: CloseReason,
        is_out: impl Fn(&Member<C>) -> bool,
    ) -> Vec<Hotkey> {
        let out: Vec<_> = self.members().extract_if(|_, member| is_out(member)).collect();
        for (_, member) in &out {
            member.connection.close(reason);
        }
        out.into_iter().map(|(_, member)| member.hotkey).collect()
    }

    /// Closes the sessions that were idle for longer than `idle_max`, and says whose they were.
    pub(super) fn close_idle(&self, idle_max: Duration, now: Instant) -> Vec<Hotkey> {
        self.close_where(CloseReason::Cleanup, |member| {
            member.activity.idle_for(now).is_some_and(|idle| idle > idle_max)
        })
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

    fn members(&self) -> MutexGuard<'_, HashMap<ConnectionId, Member<C>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
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
        drop(left);
    }
}

/// When a session last did something, and what it is doing.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    last_millis: AtomicU64,
    in_flight: AtomicUsize,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self { began: now, last_millis: AtomicU64::new(0), in_flight: AtomicUsize::new(0) })
    }

    /// Notes that a request has begun; it ends when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// How long nothing has happened. `None` while a request is in flight.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let last = self.began + Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        Some(now.saturating_duration_since(last))
    }

    fn touch(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.began).as_millis();
        self.last_millis.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch(Instant::now());
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
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
        now: Instant,
        next: u64,
    }

    type Joined = (Membership<Line>, Line, Arc<Activity>);

    impl Room {
        fn new(in_all_max: usize, per_hotkey_max: usize) -> Self {
            Self { directory: Directory::new(in_all_max, per_hotkey_max), now: Instant::now(), next: 0 }
        }

        fn join(&mut self, key: u8) -> Result<Joined, DirectoryFull> {
            let line = Line::default();
            let activity = Activity::new(self.now);
            let id = ConnectionId(self.next);
            self.next += 1;
            let name = format!("conn_{id}");
            let ip = Ipv4Addr::LOCALHOST.into();
            let member = self.directory.join(id, hotkey(key), line.clone(), ip, name, activity.clone())?;
            Ok((member, line, activity))
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
    fn a_full_directory_has_room_only_for_those_who_are_in_it() {
        let mut room = Room::new(2, 2);
        let (_one, one_line, _) = room.join(1).unwrap();
        let (two, _, _) = room.join(2).unwrap();
        assert!(room.directory.has_room_for(&hotkey(3)).is_err());
        assert_eq!(room.join(3).unwrap_err(), DirectoryFull { in_all_max: 2 });
        room.directory.has_room_for(&hotkey(1)).unwrap();
        let (_again, _, _) = room.join(1).unwrap();
        assert_eq!(one_line.closed(), ["replaced"]);
        assert_eq!(room.count(), 2);
        drop(two);
        room.join(3).unwrap();
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
