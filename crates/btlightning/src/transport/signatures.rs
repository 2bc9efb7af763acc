//! Threads for signature work.
//!
//! Verifying or making an sr25519 signature takes some tens of microseconds, and a [`crate::Signer`] that calls out to
//! a wallet may take far longer. Neither may hold up packets, nor wait behind handlers that fill the runtime's blocking
//! pool. So each endpoint has threads that do nothing else, behind a bounded queue: when that is full, a flood of handshakes
//! is turned away instead of piling up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, oneshot};
use tracing::error;

use crate::error::Result;
use crate::signing::Signer;

type Job = Box<dyn FnOnce() + Send>;

/// How many signature jobs may wait. At 60 microseconds each, the last of them waits for about 30 ms.
const JOBS_MAX: usize = 512;

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
        let (sender, jobs) = sync_channel::<Job>(JOBS_MAX);
        let crew = Crew {
            name: name.to_owned(),
            threads_max,
            jobs: sender,
            waiting: Arc::new(Mutex::new(jobs)),
            busy: Arc::new(AtomicUsize::new(0)),
            threads: AtomicUsize::new(0),
        };
        Self::Threads { crew, places: Semaphore::new(JOBS_MAX) }
    }

    /// Runs `job` and returns what it returned, unless the queue is full. Dropping the future before the job has begun
    /// cancels it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::result::Result<T, SignatureQueueError> {
        let Self::Threads { crew, places } = self else { return Ok(job()) };
        let _place = places.try_acquire().map_err(|_| SignatureQueueError::Full)?;
        crew.do_job(job).await
    }

    /// The same for those who may wait for a place in the queue. The caller bounds how long.
    pub(crate) async fn run_in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::result::Result<T, SignatureQueueError> {
        let Self::Threads { crew, places } = self else { return Ok(job()) };
        let _place = places.acquire().await.map_err(|_| SignatureQueueError::Failed)?;
        crew.do_job(job).await
    }
}

/// The threads, and the jobs that wait for them. They end when it is dropped.
pub(crate) struct Crew {
    name: String,
    threads_max: usize,
    jobs: SyncSender<Job>,
    waiting: Arc<Mutex<Receiver<Job>>>,
    /// Jobs that wait or are being done.
    busy: Arc<AtomicUsize>,
    threads: AtomicUsize,
}

impl Crew {
    /// Adds a thread, if there may be another one.
    fn grow(&self) -> std::io::Result<()> {
        let more = |threads| (threads < self.threads_max).then_some(threads + 1);
        if self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Ok(());
        }
        let (waiting, busy) = (self.waiting.clone(), self.busy.clone());
        let spawned =
            thread::Builder::new().name(self.name.clone()).spawn(move || while work(&waiting, &busy) {});
        spawned.map(drop).inspect_err(|_| {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Hands over `job`, for which there is a place, and waits for what it returns.
    async fn do_job<T: Send + 'static>(
        &self,
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
        let sent = self.jobs.try_send(Box::new(job));
        if sent.is_err() {
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
        match sent {
            Ok(()) => result.await.map_err(|_| SignatureQueueError::Failed),
            // Jobs whose caller went away still stand in the queue, without a place.
            Err(TrySendError::Full(_)) => Err(SignatureQueueError::Full),
            Err(TrySendError::Disconnected(_)) => Err(SignatureQueueError::Failed),
        }
    }
}

/// Does the next job; `false` when there will be none.
fn work(jobs: &Mutex<Receiver<Job>>, busy: &AtomicUsize) -> bool {
    // The lock is held while this thread waits for a job, and the others wait for the lock: one is as good as another.
    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let Ok(job) = next else { return false };
    // A signer that panics loses its own job; the result's channel closes and tells its caller.
    let _ = catch_unwind(AssertUnwindSafe(job));
    busy.fetch_sub(1, Ordering::Relaxed);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_runs_on_another_thread_and_its_panic_stays_there() {
        let worker = SignatureWorker::threads("test-signatures", 1);
        let here = thread::current().id();
        assert_ne!(worker.run(|| thread::current().id()).await.unwrap(), here);
        let panicked = worker.run(|| panic!("a signer that panics")).await;
        assert_eq!(panicked, Err::<(), _>(SignatureQueueError::Failed));
        assert_eq!(worker.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_instead_of_growing() {
        let worker = SignatureWorker::threads("test-signatures", 1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let mut waiting = tokio::task::JoinSet::new();
        let worker = std::sync::Arc::new(worker);
        let (begun, begins) = oneshot::channel();
        let first = worker.clone();
        waiting.spawn(async move {
            first
                .run(move || {
                    let _ = begun.send(());
                    let _ = wait.recv();
                })
                .await
        });
        begins.await.unwrap();
        let mut jobs: Vec<_> = (1..JOBS_MAX).map(|_| Box::pin(worker.run(|| ()))).collect();
        for job in &mut jobs {
            // Polled once, each takes its place in the queue.
            assert!(futures_poll_once(job.as_mut()).await.is_none());
        }
        assert_eq!(worker.run(|| ()).await, Err(SignatureQueueError::Full));
        go.send(()).unwrap();
        for job in jobs {
            job.await.unwrap();
        }
    }

    async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
