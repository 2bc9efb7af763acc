//! Where a handler's work is done: on the I/O thread while it is quick, else on the program's own runtime.
//!
//! Wherever that is, the handler finds the program's runtime: what it spawns, and the timers and sockets that it opens,
//! belong there.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::call::{Call, Response};
use super::chunks::ChunkSender;
use super::habits::Habits;
use super::handler::{BlockingHandler, Handler, HandlerError, StreamHandler, UnaryHandler};
use super::panics::{Panicked, catching, words};
use super::session::Session;
use crate::transport::io::{IoThread, Lane, Task, poll_now};

/// How a handler that answers once has ended.
pub(super) type Ended = Result<Result<Response, HandlerError>, Panicked>;

/// A handler, and the request that it is to answer.
pub(super) struct Work {
    pub(super) handler: Handler,
    pub(super) habits: Arc<Habits>,
    pub(super) call: Call,
    /// The program's runtime.
    pub(super) program: Handle,
}

/// Where a handler does its work.
pub(super) enum Place<'a> {
    /// On this I/O thread, outside its runtime: it is likely to be done at once.
    Errand(&'a IoThread),
    /// In the task that waits for it.
    Here,
    /// On the program's runtime.
    Away,
}

/// What came of work that was begun on the I/O thread.
pub(super) enum First {
    Ended(Ended),
    /// It has to wait, and does so on the program's runtime.
    Goes(Task<Ended>),
    /// It is not quick any more; it was not begun.
    Declined(Work),
}

impl Work {
    /// Where the work of a request belongs whose connection lives on `lane`.
    pub(super) fn place<'a>(&self, lane: &'a Lane) -> Place<'a> {
        match (&self.handler, lane) {
            (Handler::Unary(_), Lane::Current(_)) => Place::Here,
            (Handler::Unary(handler), _) if handler.stays_on_io_thread() => Place::Here,
            (Handler::Unary(_) | Handler::Blocking(_), Lane::Thread(thread))
                if thread.takes_errands() && self.is_quick() =>
            {
                Place::Errand(thread)
            }
            _ => Place::Away,
        }
    }

    fn is_quick(&self) -> bool {
        self.habits.with(self.call.payload().len()).is_quick()
    }

    /// Begins it on this thread, outside of any runtime, in the context of the program's; and times it.
    pub(super) fn begin_here(self) -> First {
        // The handler may have hung since this was sent here.
        if !self.is_quick() {
            return First::Declined(self);
        }
        let Self { handler, habits, call, program } = self;
        let habit = habits.with(call.payload().len());
        let _context = program.enter();
        let began = Instant::now();
        // Dropping what is a handler's may panic, too.
        let first = catch_unwind(AssertUnwindSafe(|| match handler {
            Handler::Blocking(handler) => First::Ended(caught(&*handler, call)),
            Handler::Unary(handler) => {
                let mut handling: Pin<Box<dyn Future<Output = Ended> + Send>> =
                    Box::pin(async move { catching(|| handler.handle(call)).await });
                match poll_now(handling.as_mut()) {
                    Poll::Ready(ended) => First::Ended(ended),
                    // From its first wait on it belongs where what it waits for is.
                    Poll::Pending => First::Goes(program.spawn(handling).into()),
                }
            }
            Handler::Streaming(_) => First::Ended(not_once()),
        }));
        let first = first.unwrap_or_else(|panic| First::Ended(Err(words(&*panic))));
        habit.note(began.elapsed());
        first
    }
}

/// Runs a handler that answers once. Dropped, the future drops an asynchronous handler's; a blocking one that has not
/// begun is not begun, and one that has runs on.
pub(super) async fn once(session: &Session, work: Work) -> Ended {
    let place = work.place(&session.lane);
    let work = match place {
        Place::Errand(thread) => {
            let (habits, request_bytes) = (work.habits.clone(), work.call.payload().len());
            let overdue = move || habits.with(request_bytes).distrust();
            match thread.errand(|| work.begin_here(), overdue).await {
                First::Ended(ended) => return ended,
                First::Goes(task) => return joined(task.await),
                First::Declined(work) => work,
            }
        }
        Place::Here | Place::Away => work,
    };
    let Work { handler, habits, call, .. } = work;
    match handler {
        Handler::Unary(handler) if matches!(place, Place::Here) => catching(|| handler.handle(call)).await,
        Handler::Unary(handler) => unary_away(session, habits, handler, call).await,
        Handler::Blocking(handler) => blocking_away(session, habits, handler, call).await,
        Handler::Streaming(_) => not_once(),
    }
}

fn not_once() -> Ended {
    Ok(Err("a streaming handler answers in chunks".into()))
}

async fn unary_away(
    session: &Session,
    habits: Arc<Habits>,
    handler: Arc<dyn UnaryHandler>,
    call: Call,
) -> Ended {
    let task = Task::from(session.running.program.spawn(async move {
        let request_bytes = call.payload().len();
        let mut handling = pin!(catching(|| handler.handle(call)));
        let began = Instant::now();
        let first = poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await;
        habits.with(request_bytes).note(began.elapsed());
        match first {
            Poll::Ready(ended) => ended,
            Poll::Pending => handling.await,
        }
    }));
    joined(task.await)
}

/// Waiting for a thread counts against the handler's time.
async fn blocking_away(
    session: &Session,
    habits: Arc<Habits>,
    handler: Arc<dyn BlockingHandler>,
    call: Call,
) -> Ended {
    let Some(share) = session.blocking() else { return Ok(Err("nobody has authenticated".into())) };
    let place = match share.place().await {
        Ok(place) => place,
        Err(error) => return Ok(Err(error.into())),
    };
    let work = Task::from(session.running.program.spawn_blocking(move || {
        let _place = place;
        let request_bytes = call.payload().len();
        let began = Instant::now();
        let ended = caught(&*handler, call);
        habits.with(request_bytes).note(began.elapsed());
        ended
    }));
    joined(work.await)
}

/// Runs a handler that answers in chunks. Dropped, the future drops the handler's.
pub(super) async fn streaming(
    session: &Session,
    handler: Arc<dyn StreamHandler>,
    call: Call,
    chunks: ChunkSender,
) -> Result<Result<(), HandlerError>, Panicked> {
    if let Lane::Current(_) = &session.lane {
        return catching(|| handler.handle(call, chunks)).await;
    }
    let handling = async move { catching(|| handler.handle(call, chunks)).await };
    joined(Task::from(session.running.program.spawn(handling)).await)
}

fn caught(handler: &dyn BlockingHandler, call: Call) -> Ended {
    catch_unwind(AssertUnwindSafe(|| handler.handle(call))).map_err(|panic| words(&*panic))
}

/// How the task of a handler has ended.
pub(super) fn joined<T>(
    ended: Result<Result<Result<T, HandlerError>, Panicked>, JoinError>,
) -> Result<Result<T, HandlerError>, Panicked> {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => Err(words(&*error.into_panic())),
        Err(error) => Ok(Err(error.into())),
    }
}
