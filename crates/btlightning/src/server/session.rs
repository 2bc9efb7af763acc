//! One connection, from the end of its TLS handshake to its close.
//!
//! It begins as a stranger's. Once a handshake on it has proven a hotkey it is that validator's, for good, wherever its
//! packets come from: what it proved is a value in here, and no table says who sits at an address.

use std::net::IpAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use super::activity::Activity;
use super::blocking::BlockingShare;
use super::call::ConnectionId;
use super::credit::{Credit, FEW};
use super::directory::{Joined, Membership, Newcomer};
use super::intake::Intake;
use super::late::Late;
use super::places::{NoPlace, Standing};
use super::quick;
use super::shared::{PhaseWatch, Running, Shared, Stop};
use super::stream;
use super::unread::Unread;
use crate::Hotkey;
use crate::transport::close::{self, CloseReason};
use crate::transport::endpoint;
use crate::transport::frame_io::FrameSender;
use crate::transport::io::{self, Lane, poll_now};

/// The state of one connection.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) running: Arc<Running>,
    pub(super) connection: Connection,
    /// Where the connection lives.
    pub(super) lane: Lane,
    pub(super) id: ConnectionId,
    /// Where the connection was accepted from. Address validation has shown this address to be real, which it does not
    /// for one that the connection migrates to.
    ///
    /// In its canonical form.
    pub(super) source_ip: IpAddr,
    pub(super) activity: Arc<Activity>,
    pub(super) intake: Intake,
    pub(super) late: Arc<Late>,
    pub(super) unread: Arc<Unread>,
    /// One of its handshakes is verified at a time.
    pub(super) verifying: Semaphore,
    /// Handshakes that were refused and are held against the peer.
    pub(super) refusals: AtomicU32,
    proven: OnceLock<Proven>,
    seat: Mutex<Seat>,
}

/// Whose the connection is.
struct Proven {
    hotkey: Hotkey,
    blocking: BlockingShare,
}

/// Whose place the connection takes.
enum Seat {
    Stranger {
        door: io::Door,
    },
    Member(Membership<Connection>),
    /// The connection has ended; a handshake that is still being looked at comes too late.
    Gone,
}

/// Why a session could not become a validator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotJoined {
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    #[error("the connection belongs to {0} already")]
    OtherHotkey(Hotkey),
    #[error("the connection has ended")]
    Gone,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        running: Arc<Running>,
        connection: Connection,
        lane: Lane,
        source_ip: IpAddr,
        door: io::Door,
    ) -> Self {
        Self {
            id: shared.next_connection(),
            intake: Intake::new(&shared.config),
            late: Arc::new(Late::new(shared.config.max_concurrent_bidi_streams.min(FEW))),
            unread: Unread::new(&shared.config),
            shared,
            running,
            connection,
            lane,
            source_ip,
            activity: Activity::new(Instant::now()),
            verifying: Semaphore::new(1),
            refusals: AtomicU32::new(0),
            proven: OnceLock::new(),
            seat: Mutex::new(Seat::Stranger { door }),
        }
    }

    /// The validator that the connection belongs to; `None` for a stranger.
    pub(super) fn proven(&self) -> Option<&Hotkey> {
        self.proven.get().map(|proven| &proven.hotkey)
    }

    /// Where the validator's blocking handlers find a place; `None` for a stranger.
    pub(super) fn blocking(&self) -> Option<&BlockingShare> {
        self.proven.get().map(|proven| &proven.blocking)
    }

    /// Makes the connection that of `hotkey`, which has just proven itself, under the name `name`.
    pub(super) fn join(&self, hotkey: Hotkey, name: String) -> Result<(), NotJoined> {
        let mut seat = self.seat();
        match &*seat {
            Seat::Gone => Err(NotJoined::Gone),
            Seat::Member(membership) => match self.proven() {
                Some(proven) if *proven != hotkey => Err(NotJoined::OtherHotkey(*proven)),
                _ => {
                    membership.rename(name);
                    Ok(())
                }
            },
            Seat::Stranger { door } => {
                if door.is_evicted() {
                    return Err(NotJoined::Gone);
                }
                let newcomer = Newcomer {
                    id: self.id,
                    hotkey,
                    connection: self.connection.clone(),
                    source_ip: self.source_ip,
                    name,
                    activity: self.activity.clone(),
                    late: self.late.clone(),
                };
                let shared = &self.shared;
                let joined = shared.directory.join(newcomer, |hotkey| shared.knows(hotkey))?;
                if !door.pass() {
                    return Err(NotJoined::Gone);
                }
                if joined.standing > Standing::Unknown {
                    shared.strangers.note_authenticated(self.source_ip);
                }
                self.log_who_left(&joined, hotkey);
                *seat = Seat::Member(joined.membership);
                // The seat is taken once, so this is the only value that was ever set.
                let _ = self.proven.set(Proven { hotkey, blocking: shared.blocking.share(hotkey) });
                endpoint::welcome(&self.connection, self.streams_max().min(FEW));
                Ok(())
            }
        }
    }

    /// A stranger that has wasted its chance makes room for others sooner.
    pub(super) fn earn_eviction(&self) {
        if let Seat::Stranger { door } = &*self.seat() {
            door.earn_eviction();
        }
    }

    /// Streams of the connection at once, if it needs all of them.
    fn streams_max(&self) -> u32 {
        self.shared.config.max_concurrent_bidi_streams
    }

    /// Grants all of them.
    fn grant_all_streams(&self) {
        self.late.keep_answered(self.streams_max());
        endpoint::welcome(&self.connection, self.streams_max());
    }

    fn log_who_left(&self, joined: &Joined<Connection>, newcomer: Hotkey) {
        let hush = &self.shared.hush.places;
        for (left, why) in &joined.left {
            match why {
                CloseReason::Replaced if joined.standing == Standing::Permitted => {
                    warn!("closing previous connection for validator {left} (replaced by new handshake)");
                }
                CloseReason::Replaced => hush.line(|more| {
                    warn!(
                        "closing previous connection for validator {left} (replaced by new handshake){more}"
                    );
                }),
                _ => hush.line(|more| {
                    warn!("no place left: that of {left} is given to validator {newcomer}{more}");
                }),
            }
        }
    }

    /// Frees the connection's place, whoever it belongs to.
    fn leave(&self) {
        let left = std::mem::replace(&mut *self.seat(), Seat::Gone);
        drop(left);
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the connection until it ends. A stranger is closed at `deadline`.
pub(super) async fn serve(session: Arc<Session>, deadline: Instant, mut phase: PhaseWatch) {
    let _place = Place(&session);
    let mut streams =
        Streams { session: session.clone(), running: JoinSet::new(), credit: Credit::default() };
    let mut stopping = std::pin::pin!(phase.stopping());
    loop {
        tokio::select! {
            biased;
            how = &mut stopping => return Box::pin(stop(&session, streams, how)).await,
            Some(ended) = streams.running.join_next() => streams.note(ended),
            () = session.late.news() => streams.begin_late(),
            opened = session.connection.accept_bi() => match opened {
                Ok((send, receive)) => {
                    streams.begin(send, receive);
                    streams.begin_others().await;
                }
                Err(error) => return log_end(&session, &error),
            },
            () = sleep_until(deadline), if session.proven().is_none() => {
                // It may have been proven while this waited to run.
                if session.proven().is_none() {
                    return CloseReason::HandshakeTimeout.close(&session.connection);
                }
            }
        }
    }
}

/// Lets the answers in flight arrive, and closes. A stranger has none.
async fn stop(session: &Session, mut streams: Streams, how: Stop) {
    if session.proven().is_some() {
        tokio::select! {
            biased;
            // Whatever is not done by then is cut off.
            _ = timeout_at(how.until, streams.settled()) => {}
            () = turn_away(&session.connection) => {}
        }
    }
    how.reason.close(&session.connection);
}

/// Resets every stream that is opened from now on, until the connection ends: who asks sees at once that nobody will
/// answer, and can ask elsewhere.
async fn turn_away(connection: &Connection) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        drop((FrameSender::new(send), receive));
    }
}

/// Hotkeys without a permit cost nothing, nor does having none.
fn log_end(session: &Session, error: &quinn::ConnectionError) {
    let (remote, why) = (session.connection.remote_address(), close::describe(error));
    let hush = &session.shared.hush;
    match session.proven() {
        Some(hotkey) if session.shared.knows(hotkey) => {
            debug!("the connection of validator {hotkey} from {remote} ended: {why}");
        }
        Some(hotkey) => hush.ended.line(|more| {
            debug!("the connection of validator {hotkey} from {remote} ended: {why}{more}");
        }),
        None => hush.left.line(|more| {
            debug!("a connection from {remote} ended before it had authenticated: {why}{more}");
        }),
    }
}

/// Frees a session's place however its task ends.
struct Place<'a>(&'a Session);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The streams of one connection. Dropping it drops whatever runs on them.
struct Streams {
    session: Arc<Session>,
    running: JoinSet<Option<FrameSender>>,
    credit: Credit,
}

/// How many streams are begun before their answers have their turn. With more, the peer would wait for all of them and
/// then have this side wait, instead of working at the same time.
const STREAMS_AT_ONCE: usize = 8;

impl Streams {
    fn begin(&mut self, send: SendStream, receive: RecvStream) {
        // A stranger has fewer, whatever it does.
        if self.session.proven().is_some()
            && self.credit.note(self.running.len(), || self.session.connection.rtt())
        {
            self.session.grant_all_streams();
        }
        if let Some(rest) = quick::begin(&self.session, send, receive) {
            self.running.spawn(stream::serve(self.session.clone(), rest));
        }
    }

    /// Begins streams that are there already. Cancel-safe.
    async fn begin_others(&mut self) {
        for _ in 1..STREAMS_AT_ONCE {
            match poll_now(self.session.connection.accept_bi()) {
                Poll::Ready(Ok((send, receive))) => self.begin(send, receive),
                // An error is found by the next one who waits.
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
        tokio::task::yield_now().await;
    }

    fn begin_late(&mut self) {
        for begun in self.session.late.take() {
            self.running.spawn(stream::serve(self.session.clone(), begun));
        }
    }

    fn note(&mut self, ended: Result<Option<FrameSender>, JoinError>) {
        match ended {
            Ok(Some(answered)) => self.session.late.note_answered(answered),
            Ok(None) => {}
            // Handlers' panics are caught where they are called; what is left is the drop of one that was cut off.
            Err(error) => warn!("a stream's task failed: {error}"),
        }
    }

    /// Waits until every stream has ended, and the peer has all that was written on it or wants no more of it.
    async fn settled(&mut self) {
        self.session.late.stop();
        loop {
            // Looked at first: what leaves the short way is among the late ones by then.
            let has_quick = self.session.late.has_quick();
            self.begin_late();
            if !has_quick && self.running.is_empty() {
                break;
            }
            tokio::select! {
                Some(ended) = self.running.join_next() => self.note(ended),
                () = self.session.late.news() => {}
            }
        }
        for answered in self.session.late.take_answered() {
            answered.settled().await;
        }
    }
}
