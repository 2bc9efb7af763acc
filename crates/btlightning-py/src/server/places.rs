//! Where Python handlers run, and the core's handlers that have them run there.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use btlightning::HandshakeObserver;
use btlightning::server::{Call, ChunkSender, Handler, HandlerError, Response, StreamHandler, UnaryHandler};
use tokio::sync::oneshot;

use super::entry::Entry;
use super::job::{Given, Job, Reply};
use super::{tasks, threads};

/// The places of one server, while it runs.
#[derive(Default)]
pub(super) struct Places {
    open: RwLock<Open>,
}

#[derive(Default)]
struct Open {
    threads: Option<Arc<threads::Queue>>,
    tasks: Option<Arc<tasks::Queue>>,
}

impl Places {
    /// Plain functions run here from now on.
    pub(super) fn open_threads(&self, threads: Arc<threads::Queue>) {
        let before = self.open.write().unwrap_or_else(PoisonError::into_inner).threads.replace(threads);
        if let Some(before) = before {
            before.close();
        }
    }

    /// Coroutines run here from now on.
    pub(super) fn open_tasks(&self, tasks: Arc<tasks::Queue>) {
        let before = self.open.write().unwrap_or_else(PoisonError::into_inner).tasks.replace(tasks);
        if let Some(before) = before {
            before.close();
        }
    }

    /// Nothing more begins.
    pub(super) fn close(&self) {
        let Open { threads, tasks } =
            std::mem::take(&mut *self.open.write().unwrap_or_else(PoisonError::into_inner));
        if let Some(threads) = threads {
            threads.close();
        }
        if let Some(tasks) = tasks {
            tasks.close();
        }
    }

    /// Has Python do a job.
    ///
    /// # Errors
    /// When there is no room, or the server is being stopped.
    pub(super) fn put(&self, place: Place, job: Job) -> Result<Ticket, HandlerError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let queue = match place {
            Place::Threads => open.threads.clone().map(Queue::Threads),
            Place::Tasks => open.tasks.clone().map(Queue::Tasks),
        };
        drop(open);
        let queue = queue.ok_or("the server is stopped")?;
        let number = match &queue {
            Queue::Threads(queue) => queue.push(job)?,
            Queue::Tasks(queue) => queue.push(job)?,
        };
        Ok(Ticket { queue, number, is_done: false })
    }
}

/// Where a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Threads,
    Tasks,
}

enum Queue {
    Threads(Arc<threads::Queue>),
    Tasks(Arc<tasks::Queue>),
}

/// A job in a queue. Dropped before it is done, it takes the job back, or has it cancelled where that is possible.
pub(super) struct Ticket {
    queue: Queue,
    number: u64,
    is_done: bool,
}

impl Ticket {
    /// Waits for the outcome.
    async fn outcome<T>(self, outcome: oneshot::Receiver<T>) -> Option<T> {
        let outcome = outcome.await;
        self.done();
        outcome.ok()
    }

    pub(super) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        match &self.queue {
            Queue::Threads(queue) => queue.withdraw(self.number),
            Queue::Tasks(queue) => queue.withdraw(self.number),
        }
    }
}

/// A Python handler.
struct InPython {
    entry: Arc<Entry>,
    places: Arc<Places>,
    place: Place,
}

/// What the core's server calls for an entry.
pub(super) fn handler(entry: Arc<Entry>, places: Arc<Places>, place: Place, streams: bool) -> Handler {
    let handler = InPython { entry, places, place };
    match streams {
        true => Handler::Streaming(Arc::new(handler)),
        false => Handler::Unary(Arc::new(handler)),
    }
}

/// The same for one that is told of handshakes.
pub(super) fn observer(entry: Arc<Entry>, places: Arc<Places>, place: Place) -> Arc<dyn HandshakeObserver> {
    Arc::new(InPython { entry, places, place })
}

const NO_OUTCOME: &str = "the handler ended without an answer";

impl InPython {
    fn put(&self, given: Given, reply: Reply) -> Result<Ticket, HandlerError> {
        self.places.put(self.place, Job { entry: self.entry.clone(), given, reply })
    }
}

#[async_trait]
impl UnaryHandler for InPython {
    async fn handle(&self, call: Call) -> Result<Response, HandlerError> {
        let (reply, answer) = oneshot::channel();
        let ticket = self.put(Given::Request(call), Reply::Once(reply))?;
        ticket.outcome(answer).await.ok_or(NO_OUTCOME)?
    }

    /// Its work is done by threads of Python's; here it is only waited for.
    fn stays_on_io_thread(&self) -> bool {
        true
    }
}

#[async_trait]
impl StreamHandler for InPython {
    async fn handle(&self, call: Call, chunks: ChunkSender) -> Result<(), HandlerError> {
        let (end, ended) = oneshot::channel();
        let ticket = self.put(Given::Request(call), Reply::Chunks { chunks, end })?;
        ticket.outcome(ended).await.ok_or(NO_OUTCOME)?
    }
}

#[async_trait]
impl HandshakeObserver for InPython {
    async fn observe_successful_handshake(&self, validator_hotkey: &str, source_ip: IpAddr) {
        let (reply, over) = oneshot::channel();
        let given = Given::Handshake { hotkey: validator_hotkey.to_owned(), ip: source_ip.to_canonical() };
        // Where there is no room, a handshake goes unobserved.
        if let Ok(ticket) = self.put(given, Reply::Over(reply)) {
            ticket.outcome(over).await;
        }
    }
}
