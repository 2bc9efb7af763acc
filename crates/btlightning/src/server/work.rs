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
use super::dispatch::Asked;
use super::habits::Habits;
use super::handler::{BlockingHandler, Handler, HandlerError, StreamHandler, UnaryHandler};
use super::panics::{Panicked, catching, words};
use super::session::Session;
use crate::transport::io::{Lane, Task, poll_now};

/// How a handler that answers once has ended.
pub(super) type Ended = Result<Result<Response, HandlerError>, Panicked>;

/// What came of a handler that was begun on the I/O thread.
pub(super) enum First {
    Ended(Ended),
    /// It has to wait, and does so on the program's runtime.
    Goes(Task<Ended>),
    /// It is not quick; it was not begun.
    Declined(Call),
}

/// Begins a handler that answers once on this thread, outside of any runtime, in the context of `program`; and times it.
pub(super) fn begin_here(handler: &Handler, habits: &Habits, call: Call, program: &Handle) -> First {
    let habit = habits.with(call.payload().len());
    let _context = program.enter();
    let began = Instant::now();
    // Dropping what is a handler's may panic, too.
    let first = catch_unwind(AssertUnwindSafe(|| match handler {
        Handler::Blocking(handler) => First::Ended(caught(&**handler, call)),
        Handler::Unary(handler) => {
            let handler = handler.clone();
            let mut handling: Pin<Box<dyn Future<Output = Ended> + Send>> =
                Box::pin(async move { catching(|| handler.handle(call)).await });
            match poll_now(handling.as_mut()) {
                Poll::Ready(ended) => First::Ended(ended),
                // From its first wait on it belongs where what it waits for is.
                Poll::Pending => First::Goes(program.spawn(handling).into()),
            }
        }
        Handler::Streaming(_) => First::Declined(call),
    }));
    let first = first.unwrap_or_else(|panic| First::Ended(Err(words(&*panic))));
    habit.note(began.elapsed());
    first
}

/// Runs a handler that answers once. Dropped, the future drops an asynchronous handler's; a blocking one that has not
/// begun is not begun, and one that has runs on.
pub(super) async fn once(session: &Session, asked: Asked) -> Ended {
    let Asked { handler, habits, call, .. } = asked;
    let call = match (&session.lane, &handler) {
        (Lane::Thread(thread), Handler::Unary(_) | Handler::Blocking(_))
            if thread.takes_errands() && habits.with(call.payload().len()).is_quick() && !stays(&handler) =>
        {
            let (program, bytes) = (session.running.program.clone(), call.payload().len());
            let (handler, noting, overdue) = (handler.clone(), habits.clone(), habits.clone());
            // It may have hung since it was sent here.
            let work = move || match noting.with(bytes).is_quick() {
                true => begin_here(&handler, &noting, call, &program),
                false => First::Declined(call),
            };
            match thread.errand(work, move || overdue.with(bytes).distrust()).await {
                First::Ended(ended) => return ended,
                First::Goes(task) => return joined(task.await),
                First::Declined(call) => call,
            }
        }
        _ => call,
    };
    match handler {
        Handler::Unary(handler) => unary_away(session, habits, handler, call).await,
        Handler::Blocking(handler) => blocking_away(session, habits, handler, call).await,
        Handler::Streaming(_) => Ok(Err("a streaming handler answers in chunks".into())),
    }
}

/// Whether a handler has asked to run on the I/O thread throughout.
pub(super) fn stays(handler: &Handler) -> bool {
    matches!(handler, Handler::Unary(handler) if handler.stays_on_io_thread())
}

async fn unary_away(
    session: &Session,
    habits: Arc<Habits>,
    handler: Arc<dyn UnaryHandler>,
    call: Call,
) -> Ended {
    if matches!(session.lane, Lane::Current(_)) || handler.stays_on_io_thread() {
        return catching(|| handler.handle(call)).await;
    }
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
    let permit = match session.shared.blocking.clone().acquire_owned().await {
        Ok(permit) => permit,
        Err(error) => return Ok(Err(error.into())),
    };
    let work = Task::from(session.running.program.spawn_blocking(move || {
        let _permit = permit;
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
