//! A thread for signature work.
//!
//! Verifying or making an sr25519 signature takes some tens of microseconds, and a [`crate::Signer`] that calls out to
//! a wallet may take far longer. Neither may hold up packets, nor wait behind handlers that fill the runtime's blocking
//! pool. So each endpoint has one thread that does nothing else, behind a bounded queue: when that is full, a flood of
//! handshakes is turned away instead of piling up.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;

use crate::error::{LightningError, Result};

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

/// Does signature work somewhere else than where packets are handled.
pub(crate) enum SignatureWorker {
    /// On a thread of its own, which ends when this handle is dropped.
    Thread(SyncSender<Job>),
    /// At once, on the caller's thread. For virtual time, which would run on while another thread works.
    Inline,
}

impl SignatureWorker {
    /// Starts the thread, named `name`.
    ///
    /// # Errors
    /// `Config` when the operating system gives no thread.
    pub(crate) fn spawn(name: &str) -> Result<Self> {
        let (sender, jobs) = sync_channel::<Job>(JOBS_MAX);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for job in jobs {
                    // A signer that panics loses its own job; the result's channel closes and tells its caller.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            })
            .map_err(|error| LightningError::Config(format!("no thread for signatures: {error}")))?;
        Ok(Self::Thread(sender))
    }

    /// Runs `job` and returns what it returned. Dropping the future before the job has begun cancels it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::result::Result<T, SignatureQueueError> {
        let Self::Thread(sender) = self else { return Ok(job()) };
        let (done, result) = oneshot::channel();
        let queued = sender.try_send(Box::new(move || {
            if !done.is_closed() {
                let _ = done.send(job());
            }
        }));
        match queued {
            Ok(()) => result.await.map_err(|_| SignatureQueueError::Failed),
            Err(TrySendError::Full(_)) => Err(SignatureQueueError::Full),
            Err(TrySendError::Disconnected(_)) => Err(SignatureQueueError::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_runs_on_another_thread_and_its_panic_stays_there() {
        let worker = SignatureWorker::spawn("test-signatures").unwrap();
        let here = thread::current().id();
        assert_ne!(worker.run(|| thread::current().id()).await.unwrap(), here);
        let panicked = worker.run(|| panic!("a signer that panics")).await;
        assert_eq!(panicked, Err::<(), _>(SignatureQueueError::Failed));
        assert_eq!(worker.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_instead_of_growing() {
        let worker = SignatureWorker::spawn("test-signatures").unwrap();
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
        let mut jobs: Vec<_> = (0..JOBS_MAX).map(|_| Box::pin(worker.run(|| ()))).collect();
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
