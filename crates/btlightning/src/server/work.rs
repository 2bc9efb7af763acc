//! Where a handler's work is done: on the I/O thread while it is quick, else on the program's own runtime.
//!
//! Wherever that is, the handler finds the program's runtime: what it spawns, and the timers and sockets that it opens,
//! belong there.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::call::{Call, Response};
use super::habits::Habits;
use super::chunks::ChunkSender;
use super::handler::{BlockingHandler, HandlerError, StreamHandler, UnaryHandler};
use super::panics::{Panicked, catching, words};
use super::session::Session;
use crate::transport::io::{IoThread, Lane, Task};

/// How a handler that answers once has ended.
pub(super) type Ended = Result<Result<Response, HandlerError>, Panicked>;

/// Runs an asynchronous handler. Dropped, the future drops the handler's.
pub(super) async fn unary(
    session: &Session,
    habits: &Arc<Habits>,
    handler: Arc<dyn UnaryHandler>,
    call: Call,
) -> Ended {
    let Lane::Thread(thread) = &session.lane else {
        return catching(|| handler.handle(call)).await;
    };
    if handler.stays_on_io_thread() {
        return catching(|| handler.handle(call)).await;
    }
    let program = session.running.program.clone();
    let (quick, then) = (handler.clone(), program.clone());
    let begin = move |call| {
        let mut handling: Pin<Box<dyn Future<Output = Ended> + Send>> =
            Box::pin(async move { catching(|| quick.handle(call)).await });
        match handling.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => Begun::Ended(ended),
            // From its first wait on it belongs where what it waits for is.
            Poll::Pending => Begun::Goes(then.spawn(handling).into()),
        }
    };
    let task = match on(thread, habits, call, begin, &program).await {
        Begun::Ended(ended) => return ended,
        Begun::Goes(task) => task,
        Begun::Declined(call) => {
            let habits = habits.clone();
            Task::from(program.spawn(async move {
                let request_bytes = call.payload().len();
                let mut handling = pin!(catching(|| handler.handle(call)));
                let began = Instant::now();
                let first = poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await;
                habits.with(request_bytes).note(began.elapsed());
                match first {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => handling.await,
                }
            }))
        }
    };
    joined(task.await)
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
    let task = Task::from(session.running.program.spawn(handling));
    joined(task.await)
}

/// Runs a handler that may block. A handler that nobody waits for any more is not begun; one that has begun runs on and
/// keeps its thread. Waiting for a thread counts against its time.
pub(super) async fn blocking(
    session: &Session,
    habits: &Arc<Habits>,
    handler: Arc<dyn BlockingHandler>,
    call: Call,
) -> Ended {
    let program = &session.running.program;
    let call = match &session.lane {
        Lane::Current(_) => call,
        Lane::Thread(thread) => {
            let quick = handler.clone();
            let begun = on(thread, habits, call, move |call| Begun::Ended(caught(&*quick, call)), program).await;
            match begun {
                Begun::Ended(ended) => return ended,
                Begun::Goes(task) => return joined(task.await),
                Begun::Declined(call) => call,
            }
        }
    };
    let permit = match session.shared.blocking.clone().acquire_owned().await {
        Ok(permit) => permit,
        Err(error) => return Ok(Err(error.into())),
    };
    let habits = habits.clone();
    let work = Task::from(program.spawn_blocking(move || {
        let _permit = permit;
        let request_bytes = call.payload().len();
        let began = Instant::now();
        let ended = caught(&*handler, call);
        habits.with(request_bytes).note(began.elapsed());
        ended
    }));
    joined(work.await)
}

/// What came of a handler that was begun on the I/O thread.
enum Begun {
    Ended(Ended),
    Goes(Task<Ended>),
    /// It is not quick; it was not begun.
    Declined(Call),
}

/// Begins a handler on `thread` if it is quick, in the context of `program`.
async fn on(
    thread: &IoThread,
    habits: &Arc<Habits>,
    call: Call,
    begin: impl FnOnce(Call) -> Begun + Send + 'static,
    program: &Handle,
) -> Begun {
    let request_bytes = call.payload().len();
    if !habits.with(request_bytes).is_quick() {
        return Begun::Declined(call);
    }
    let (habits, overdue, program) = (habits.clone(), habits.clone(), program.clone());
    let work = move || {
        let habit = habits.with(request_bytes);
        // It may have hung since it was sent here.
        if !habit.is_quick() {
            return Begun::Declined(call);
        }
        let _context = program.enter();
        let began = Instant::now();
        let begun = begin(call);
        habit.note(began.elapsed());
        begun
    };
    thread.errand(work, move || overdue.with(request_bytes).distrust()).await
}

fn caught(handler: &dyn BlockingHandler, call: Call) -> Ended {
    catch_unwind(AssertUnwindSafe(|| handler.handle(call))).map_err(|panic| words(&*panic))
}

fn joined<T>(
    ended: Result<Result<Result<T, HandlerError>, Panicked>, JoinError>,
) -> Result<Result<T, HandlerError>, Panicked> {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => Err(words(&*error.into_panic())),
        Err(error) => Ok(Err(error.into())),
    }
}
