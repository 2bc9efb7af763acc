//! The threads that a system's program has: tokio runtimes that are driven from outside of them.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// How long a runtime may take to end when the process does.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// What kind of runtime a side runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// tokio's multi-thread runtime with its defaults. Server and client share it when both ask for it.
    Multi,
    /// A current-thread runtime on a thread of its own.
    Own,
}

/// The runtimes of both sides.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// What the server runs on.
    pub server: Threads,
    /// What the client's program runs on.
    pub client: Threads,
}

/// A runtime. Work is spawned on it, so that none runs on the thread that reads the orders.
#[derive(Clone)]
pub struct Place {
    handle: Handle,
    _kept: Arc<Kept>,
}

enum Kept {
    Multi(Option<Runtime>),
    Own { end: Option<oneshot::Sender<()>>, thread: Option<JoinHandle<()>> },
}

impl Place {
    /// A new runtime.
    pub fn new(threads: Threads) -> Result<Self> {
        let (handle, kept) = match threads {
            Threads::Multi => {
                let runtime = Builder::new_multi_thread().enable_all().build()?;
                (runtime.handle().clone(), Kept::Multi(Some(runtime)))
            }
            Threads::Own => {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let handle = runtime.handle().clone();
                let (end, ended) = oneshot::channel::<()>();
                let thread = thread::Builder::new().name("own-runtime".to_owned()).spawn(move || {
                    let _ = runtime.block_on(ended);
                    runtime.shutdown_timeout(SHUTDOWN_MAX);
                })?;
                (handle, Kept::Own { end: Some(end), thread: Some(thread) })
            }
        };
        Ok(Self { handle, _kept: Arc::new(kept) })
    }

    /// Runs `work` as a task and waits for it on this thread, which must not be one of a runtime.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = mpsc::channel();
        self.handle.spawn(async move {
            let _ = tell.send(work.await);
        });
        told.recv().context("the work panicked, see above")?
    }

    /// The runtime, to spawn on.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        match self {
            Self::Multi(runtime) => {
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_timeout(SHUTDOWN_MAX);
                }
            }
            Self::Own { end, thread } => {
                drop(end.take());
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
        }
    }
}
