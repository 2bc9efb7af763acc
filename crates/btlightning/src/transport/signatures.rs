//! Threads for signature work.
//!
//! Verifying or making an sr25519 signature takes some tens of microseconds, and a [`crate::Signer`] that calls out to
//! a wallet may take far longer. Neither may hold up packets, nor wait behind handlers that fill the runtime's blocking
//! pool. So each endpoint has threads that do nothing else, behind bounded queues: when they are full, a flood of handshakes
//! is turned away instead of piling up. Who is likely to be worth it comes first, and has room kept for it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, oneshot};
use tracing::error;

use crate::error::Result;
use crate::signing::Signer;

type Job = Box<dyn FnOnce() + Send>;

/// How many signature jobs may wait. At 60 microseconds each, the last of them waits for about 30 ms.
const JOBS_MAX: usize = 512;

/// When a job has its turn, and how many may wait for it to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Before the others. For peers that have proven themselves before.
    First,
    Ordinary,
    /// When nothing else waits. For peers that cost more than they should.
    Last,
}

impl Turn {
    /// How many may wait before one more with this turn is turned away.
    pub(crate) const fn waiting_max(self) -> usize {
        match self {
            Self::First => JOBS_MAX,
            Self::Ordinary => JOBS_MAX / 4 * 3,
            Self::Last => 8,
        }
    }
}

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureQueueError {
    /// The queue is full.
    #[error("too many signatures are waiting to be made or checked")]
    Full,
    /// The job panicked (a signer did), or the thread is gone.
    #[error("the signature job failed")]
    Failed,
}

/// Has a signer sign that does so at once, here.
pub(crate) fn immediately(
    signer: &dyn Signer,
    text: &str,
) -> std::result::Result<Result<Vec<u8>>, SignatureQueueError> {
    catch_unwind(AssertUnwindSafe(|| signer.sign(text.as_bytes()))).map_err(|_| SignatureQueueError::Failed)
}

/// Does signature work somewhere else than where packets are handled.
pub(crate) enum SignatureWorker {
    /// On threads of its own, which end when this handle is dropped.
    Threads {
        crew: Crew,
        /// A place in the queue for each job that waits for one.
        places: Semaphore,
    },
    /// At once, on the caller's thread. For virtual time, which would run on while another thread works.
    Inline,
}

impl SignatureWorker {
    /// Threads named `name`, at most `threads_max`. Each is started when a job finds all others at work.
    pub(crate) fn threads(name: &str, threads_max: usize) -> Self {
        let crew = Crew {
            name: name.to_owned(),
            threads_max,
            jobs: Arc::default(),
            busy: Arc::new(AtomicUsize::new(0)),
            threads: AtomicUsize::new(0),
        };
        Self::Threads { crew, places: Semaphore::new(JOBS_MAX) }
    }

    /// Runs `job` and returns what it returned, unless there are too many for such a turn. Dropping the future before the
    /// job has begun cancels it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::result::Result<T, SignatureQueueError> {
        let Self::Threads { crew, .. } = self else { return Ok(job()) };
        crew.do_job(turn, job).await
    }

    /// How many jobs wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        match self {
            Self::Threads { crew, .. } => crew.jobs.waiting().len(),
            Self::Inline => 0,
        }
    }

    /// The same for those who may wait for a place in the queue. The caller bounds how long.
    pub(crate) async fn run_in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::result::Result<T, SignatureQueueError> {
        let Self::Threads { crew, places } = self else { return Ok(job()) };
        let _place = places.acquire().await.map_err(|_| SignatureQueueError::Failed)?;
        crew.do_job(Turn::First, job).await
    }
}

/// The threads, and the jobs that wait for them. They end when it is dropped.
pub(crate) struct Crew {
    name: String,
    threads_max: usize,
    jobs: Arc<Jobs>,
    /// Jobs that wait or are being done.
    busy: Arc<AtomicUsize>,
    threads: AtomicUsize,
}

/// The jobs that wait. Those whose caller has gone away stand among them until it is their turn, which they pass.
#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// By turn.
    lines: [VecDeque<Job>; 3],
    is_closed: bool,
}

impl Waiting {
    fn len(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }
}

impl Jobs {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, turn: Turn, job: Job) -> std::result::Result<(), SignatureQueueError> {
        let mut waiting = self.waiting();
        if waiting.len() >= turn.waiting_max() {
            return Err(SignatureQueueError::Full);
        }
        waiting.lines[turn as usize].push_back(job);
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Waits for a job; there are none any more once the crew is gone.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting();
        loop {
            if let Some(job) = waiting.lines.iter_mut().find_map(VecDeque::pop_front) {
                return Some(job);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.jobs.waiting().is_closed = true;
        self.jobs.news.notify_all();
    }
}

impl Crew {
    /// Adds a thread, if there may be another one.
    fn grow(&self) -> std::io::Result<()> {
        let more = |threads| (threads < self.threads_max).then_some(threads + 1);
        if self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Ok(());
        }
        let (jobs, busy) = (self.jobs.clone(), self.busy.clone());
        let spawned = thread::Builder::new().name(self.name.clone()).spawn(move || {
            while let Some(job) = jobs.next() {
                // A signer that panics loses its own job; the result's channel closes and tells its caller.
                let _ = catch_unwind(AssertUnwindSafe(job));
                busy.fetch_sub(1, Ordering::Relaxed);
            }
        });
        spawned.map(drop).inspect_err(|_| {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Hands over `job`, if there is a place for it, and waits for what it returns.
    async fn do_job<T: Send + 'static>(
        &self,
        turn: Turn,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::result::Result<T, SignatureQueueError> {
        let (done, result) = oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                let _ = done.send(job());
            }
        };
        if self.busy.fetch_add(1, Ordering::Relaxed) >= self.threads.load(Ordering::Relaxed) {
            let grown = self.grow();
            // Without another thread the job waits a little longer; without any it would wait for ever.
            if let Err(error) = grown
                && self.threads.load(Ordering::Relaxed) == 0
            {
                self.busy.fetch_sub(1, Ordering::Relaxed);
                error!("no thread for signatures: {error}");
                return Err(SignatureQueueError::Failed);
            }
        }
        let added = self.jobs.add(turn, Box::new(job)).inspect_err(|_| {
            self.busy.fetch_sub(1, Ordering::Relaxed);
        });
        added?;
        result.await.map_err(|_| SignatureQueueError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_runs_on_another_thread_and_its_panic_stays_there() {
        let worker = SignatureWorker::threads("test-signatures", 1);
        let here = thread::current().id();
        assert_ne!(worker.run(Turn::Ordinary, || thread::current().id()).await.unwrap(), here);
        let panicked = worker.run(Turn::Ordinary, || panic!("a signer that panics")).await;
        assert_eq!(panicked, Err::<(), _>(SignatureQueueError::Failed));
        assert_eq!(worker.run(Turn::Ordinary, || 7).await, Ok(7));
    }

    /// A worker of one thread that is busy until something is sent.
    async fn held() -> (Arc<SignatureWorker>, std::sync::mpsc::Sender<()>) {
        let worker = Arc::new(SignatureWorker::threads("test-signatures", 1));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let first = worker.clone();
        tokio::spawn(async move {
            let held = move || {
                let _ = begun.send(());
                let _ = wait.recv();
            };
            first.run(Turn::Ordinary, held).await
        });
        begins.await.unwrap();
        (worker, go)
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_instead_of_growing_and_has_room_for_those_who_are_known() {
        let (worker, go) = held().await;
        let mut jobs = Vec::new();
        for turn in [Turn::Last, Turn::Ordinary, Turn::First] {
            for _ in jobs.len()..turn.waiting_max() {
                // Polled once, each takes its place in the queue.
                let mut job = Box::pin(worker.run(turn, || ()));
                assert!(futures_poll_once(job.as_mut()).await.is_none());
                jobs.push(job);
            }
            assert_eq!(worker.run(turn, || ()).await, Err(SignatureQueueError::Full), "{turn:?}");
        }
        assert_eq!(jobs.len(), JOBS_MAX);
        go.send(()).unwrap();
        for job in jobs {
            job.await.unwrap();
        }
    }

    #[tokio::test]
    async fn each_turn_comes_before_the_next_whoever_waits_for_longest() {
        let (worker, go) = held().await;
        let done = Arc::new(Mutex::new(Vec::new()));
        let mut jobs = Vec::new();
        for turn in [Turn::Last, Turn::Ordinary, Turn::First, Turn::Ordinary, Turn::First] {
            let done = done.clone();
            let mut job = Box::pin(worker.run(turn, move || done.lock().unwrap().push(turn)));
            assert!(futures_poll_once(job.as_mut()).await.is_none());
            jobs.push(job);
        }
        go.send(()).unwrap();
        for job in jobs {
            job.await.unwrap();
        }
        let order = [Turn::First, Turn::First, Turn::Ordinary, Turn::Ordinary, Turn::Last];
        assert_eq!(*done.lock().unwrap(), order);
    }

    async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
