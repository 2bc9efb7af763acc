//! One connection, from the end of its TLS handshake to its close.
//!
//! It begins as a stranger's. Once a handshake on it has proven a hotkey it is that validator's, for good, wherever its
//! packets come from: what it proved is a value in here, and no table says who sits at an address.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use quinn::Connection;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use super::admission::StrangerSlot;
use super::call::ConnectionId;
use super::directory::{Activity, DirectoryFull, Membership};
use super::intake::Intake;
use super::shared::{PhaseWatch, Running, Shared, Stop};
use super::stream;
use crate::Hotkey;
use crate::transport::close::{self, CloseReason};
use crate::transport::endpoint;
use crate::transport::frame_io::FrameSender;
use crate::transport::io::Lane;

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
    let mut streams = Streams::new(session.shared.config.max_concurrent_bidi_streams);
    let mut stopping = std::pin::pin!(phase.stopping());
    loop {
        tokio::select! {
            biased;
            how = &mut stopping => return stop(&session, streams, how).await,
            Some(ended) = streams.running.join_next() => streams.note(ended),
            opened = session.connection.accept_bi() => match opened {
                Ok((send, receive)) => {
                    streams.running.spawn(stream::serve(session.clone(), send, receive));
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
    running: JoinSet<Option<FrameSender>>,
    /// The streams whose last byte was written of late. The peer may not have it yet, and closing the connection would
    /// lose it. There is no more of these than streams that the peer may open, since it gets a new one for each whose
    /// last byte it has acknowledged.
    answered: VecDeque<FrameSender>,
    answered_max: usize,
}

/// A bound on the bound, for configurations that allow more streams than any peer uses.
const ANSWERED_MAX: usize = 1024;

impl Streams {
    fn new(streams_max: u32) -> Self {
        let answered_max = usize::try_from(streams_max).unwrap_or(usize::MAX).min(ANSWERED_MAX);
        Self { running: JoinSet::new(), answered: VecDeque::new(), answered_max }
    }

    fn note(&mut self, ended: Result<Option<FrameSender>, JoinError>) {
        match ended {
            Ok(Some(answered)) => {
                if self.answered.len() >= self.answered_max {
                    self.answered.pop_front();
                }
                self.answered.push_back(answered);
            }
            Ok(None) => {}
            // Handlers' panics are caught where they are called; what is left is the drop of one that was cut off.
            Err(error) => warn!("a stream's task failed: {error}"),
        }
    }

    /// Waits until every stream has ended, and the peer has all that was written on it or wants no more of it.
    async fn settled(&mut self) {
        while let Some(ended) = self.running.join_next().await {
            self.note(ended);
        }
        for answered in self.answered.drain(..) {
            answered.settled().await;
        }
    }
}
