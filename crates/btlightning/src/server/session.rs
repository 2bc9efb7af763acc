//! One connection, from the end of its TLS handshake to its close.
//!
//! It begins as a stranger's. Once a handshake on it has proven a hotkey it is that validator's, for good, wherever its
//! packets come from: what it proved is a value in here, and no table says who sits at an address.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use quinn::{Connection, RecvStream, SendStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use super::admission::StrangerSlot;
use super::call::ConnectionId;
use super::directory::{Activity, DirectoryFull, Membership};
use super::intake::Intake;
use super::late::Late;
use super::quick;
use super::shared::{PhaseWatch, Running, Shared, Stop};
use super::stream;
use crate::Hotkey;
use crate::transport::close::{self, CloseReason};
use crate::transport::endpoint;
use crate::transport::frame_io::FrameSender;
use crate::transport::io::{Lane, poll_now};

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
    pub(super) late: Late,
    proven: OnceLock<Hotkey>,
    seat: Mutex<Seat>,
}

/// Whose place the connection takes.
enum Seat {
    Stranger {
        _slot: StrangerSlot,
    },
    Member(Membership<Connection>),
    /// The connection has ended; a handshake that is still being looked at comes too late.
    Gone,
}

/// Why a session could not become a validator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotJoined {
    #[error(transparent)]
    Full(#[from] DirectoryFull),
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
        slot: StrangerSlot,
    ) -> Self {
        Self {
            id: shared.next_connection(),
            intake: Intake::new(&shared.config),
            late: Late::new(shared.config.max_concurrent_bidi_streams),
            shared,
            running,
            connection,
            lane,
            source_ip,
            activity: Activity::new(Instant::now()),
            proven: OnceLock::new(),
            seat: Mutex::new(Seat::Stranger { _slot: slot }),
        }
    }

    /// The validator that the connection belongs to; `None` for a stranger.
    pub(super) fn proven(&self) -> Option<&Hotkey> {
        self.proven.get()
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
            Seat::Stranger { .. } => {
                let (connection, activity) = (self.connection.clone(), self.activity.clone());
                let (directory, ip) = (&self.shared.directory, self.source_ip);
                let membership = directory.join(self.id, hotkey, connection, ip, name, activity)?;
                *seat = Seat::Member(membership);
                // The seat is taken once, so this is the only value that was ever set.
                let _ = self.proven.set(hotkey);
                endpoint::welcome(&self.connection, self.shared.config.max_concurrent_bidi_streams);
                Ok(())
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
    let mut streams = Streams { session: session.clone(), running: JoinSet::new() };
    let mut stopping = std::pin::pin!(phase.stopping());
    loop {
        tokio::select! {
            biased;
            how = &mut stopping => return stop(&session, streams, how).await,
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

fn log_end(session: &Session, error: &quinn::ConnectionError) {
    let (remote, why) = (session.connection.remote_address(), close::describe(error));
    match session.proven() {
        Some(hotkey) => debug!("the connection of validator {hotkey} from {remote} ended: {why}"),
        None => debug!("a connection from {remote} ended before it had authenticated: {why}"),
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
}

/// How many streams are begun before their answers have their turn. With more, the peer would wait for all of them and
/// then have this side wait, instead of working at the same time.
const STREAMS_AT_ONCE: usize = 8;

impl Streams {
    fn begin(&mut self, send: SendStream, receive: RecvStream) {
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
