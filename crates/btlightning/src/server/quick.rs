//! The short way of a small request: no task of its own, no timer, no other thread.
//!
//! A request that has arrived whole, for a handler that is quick, is handed to the I/O thread as an errand, and its answer
//! is written as soon as the errand is done. Whatever turns out otherwise goes on as a task: the handler has to wait for
//! something, it is not quick any more, it hangs, or the answer does not fit into the peer's window.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use quinn::{RecvStream, SendStream};
use tokio::time::sleep_until;

use super::dispatch::{self, Asked, Outcome, Request};
use super::habits::Habits;
use super::intake::{SMALL_BYTES, Share, Taken};
use super::session::Session;
use super::stream::{Begun, Opened, fail};
use super::unread;
use super::work::{First, Place, Work};
use crate::transport::frame_io::{FrameReader, FrameSender};
use crate::transport::io::{Errand, IoThread, Lane, poll_now};
use crate::wire::MessageType;

/// Begins to serve a stream. Hands out what is left to be done in a task.
pub(super) fn begin(session: &Arc<Session>, send: SendStream, receive: RecvStream) -> Option<Begun> {
    let (sender, mut reader) = (FrameSender::new(send), FrameReader::new(receive));
    let (Lane::Thread(_), Some(hotkey)) = (&session.lane, session.proven()) else {
        return Some(Begun::Opened(Opened { reader, sender, header: None }));
    };
    let header = match poll_now(reader.header(session.shared.config.max_frame_payload_bytes)) {
        Poll::Ready(header) => header,
        Poll::Pending => return Some(Begun::Opened(Opened { reader, sender, header: None })),
    };
    let small = match header {
        Ok(Some(header))
            if header.kind == MessageType::SynapsePacket && header.payload_bytes <= SMALL_BYTES =>
        {
            header
        }
        other => return Some(Begun::Opened(Opened { reader, sender, header: Some(other) })),
    };
    let payload = match poll_now(reader.payload(small)) {
        Poll::Ready(payload) => payload.ok()?,
        Poll::Pending => {
            return Some(Begun::Opened(Opened { reader, sender, header: Some(Ok(Some(small))) }));
        }
    };
    // Whatever follows the request is not wanted.
    drop(reader);
    match dispatch::ask(session, *hotkey, Taken { payload, share: Share::none() }) {
        Err(words) => Some(Begun::Refused(words, sender)),
        Ok(asked) => match asked.work.place(&session.lane) {
            Place::Errand(thread) if session.unread.has_room() => {
                Quick::begin(session, thread, asked, sender);
                None
            }
            Place::Errand(_) | Place::Here | Place::Away => Some(Begun::Asked(asked, sender)),
        },
    }
}

/// A request that takes the short way.
pub(super) struct Quick {
    /// Not owned: a handler that hangs must not keep the connection.
    session: Weak<Session>,
    thread: IoThread,
    habits: Arc<Habits>,
    request: Request,
    request_bytes: usize,
    stage: Mutex<Stage>,
}

enum Stage {
    Waiting(Work, FrameSender),
    Running(FrameSender),
    Ran(First, FrameSender),
    /// The answer is somebody else's business, or nobody's.
    Over,
}

impl Quick {
    fn begin(session: &Arc<Session>, thread: &IoThread, asked: Asked, sender: FrameSender) {
        session.late.begin_quick();
        let Asked { request, work } = asked;
        thread.add_errand(Arc::new(Self {
            session: Arc::downgrade(session),
            thread: thread.clone(),
            habits: work.habits.clone(),
            request,
            request_bytes: work.call.payload().len(),
            stage: Mutex::new(Stage::Waiting(work, sender)),
        }));
    }

    /// Waits, for a handler that hangs, until its time is up or the caller is gone. Ends at once if it was done meanwhile.
    /// Dropped, it lets go of the stream.
    pub(super) async fn watch(self: Arc<Self>, session: &Session) -> Option<FrameSender> {
        let _given_up = GivenUp(&self);
        let settled = match &*self.stage() {
            Stage::Running(sender) => sender.settled(),
            _ => return None,
        };
        let outcome = tokio::select! {
            biased;
            () = settled => Outcome::CallerGone,
            () = sleep_until(self.request.deadline) => Outcome::TimedOut,
        };
        let sender = self.give_up()?;
        // What the handler still does is nobody's business any more.
        session.late.end_quick(None);
        dispatch::log_failure::<()>(session, &self.request.name, &outcome);
        match outcome {
            Outcome::TimedOut => fail(session, sender, "handler timed out").await,
            _ => None,
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the stage is, which is over then.
    fn take(&self) -> Stage {
        std::mem::replace(&mut *self.stage(), Stage::Over)
    }

    /// The stream of a handler that hangs; none if it is done.
    fn give_up(&self) -> Option<FrameSender> {
        let mut stage = self.stage();
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Running(sender) => Some(sender),
            done => {
                *stage = done;
                None
            }
        }
    }
}

impl Errand for Quick {
    fn run(&self) {
        if self.session.strong_count() == 0 {
            return drop(self.take());
        }
        let Stage::Waiting(work, sender) = self.take() else { return };
        *self.stage() = Stage::Running(sender);
        let first = work.begin_here();
        let mut stage = self.stage();
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Running(sender) => *stage = Stage::Ran(first, sender),
            // It was given up. What came of it is dropped with the lock free again: it is somebody else's code.
            _ => drop(stage),
        }
    }

    fn deliver(&self) {
        let stage = self.take();
        // With the session gone nobody may keep the stream, and with it the socket.
        let Some(session) = self.session.upgrade() else { return drop(stage) };
        let rest = match stage {
            Stage::Ran(First::Ended(ended), mut sender) => {
                let outcome = Outcome::of(ended);
                dispatch::frame_of(&session, &self.request.name, outcome).and_then(|frame| {
                    if unread::counts(frame.len() as u64) {
                        return Some(Begun::Answered(frame, sender));
                    }
                    sender.put(frame);
                    match poll_now(sender.flush()) {
                        Poll::Ready(Ok(())) => {
                            sender.finish();
                            session.late.note_answered(sender);
                            None
                        }
                        Poll::Ready(Err(_)) => None,
                        Poll::Pending => Some(Begun::Answering(sender)),
                    }
                })
            }
            Stage::Ran(First::Goes(task), sender) => Some(Begun::Working(task, self.request.clone(), sender)),
            Stage::Ran(First::Declined(work), sender) => {
                Some(Begun::Asked(Asked { request: self.request.clone(), work }, sender))
            }
            // It was given up, and counted then.
            Stage::Over => return,
            Stage::Waiting(..) | Stage::Running(_) => None,
        };
        session.late.end_quick(rest);
    }

    fn overdue(self: Arc<Self>) {
        self.habits.with(self.request_bytes).distrust();
        let thread = self.thread.clone();
        thread.run(move || match self.session.upgrade() {
            Some(session) => session.late.add(Begun::Overdue(self)),
            None => drop(self.give_up()),
        });
    }
}

/// Gives a handler that hangs up when it is dropped.
struct GivenUp<'a>(&'a Quick);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        drop(self.0.give_up());
    }
}
