//! The I/O threads of a process, and who shares them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::Duration;

use super::thread::IoThread;

/// How long a lock is waited for that is held while a thread is started.
const LOCK_RETRY_EVERY: Duration = Duration::from_millis(1);
const LOCK_TRIES: u32 = 100;

/// Which half of a process a thread works for. A client and a server in one process have a thread each: what one sends,
/// the other receives at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Some I/O threads. They end when the last clone of the `Arc` around them is dropped and their connections are done.
#[derive(Debug)]
pub(crate) struct Threads {
    threads: Vec<IoThread>,
    next: AtomicUsize,
}

impl Threads {
    /// Starts `count` threads.
    pub(super) fn start(side: Side, count: usize) -> io::Result<Arc<Self>> {
        let name = match side {
            Side::Client => "btlightning-client-io",
            Side::Server => "btlightning-server-io",
        };
        let mut threads = Self { threads: Vec::new(), next: AtomicUsize::new(0) };
        for _ in 0..count {
            threads.threads.push(IoThread::start(name.to_owned())?);
        }
        Ok(Arc::new(threads))
    }

    /// The one thread that all clients of this process share, or all servers. Started when nobody has it yet.
    pub(super) fn shared(side: Side) -> io::Result<Arc<Self>> {
        static CLIENT: Mutex<Option<InProcess>> = Mutex::new(None);
        static SERVER: Mutex<Option<InProcess>> = Mutex::new(None);
        let shared = match side {
            Side::Client => &CLIENT,
            Side::Server => &SERVER,
        };
        let mut tries = 0;
        let mut shared = loop {
            match shared.try_lock() {
                Ok(shared) => break shared,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_RETRY_EVERY);
                }
                // The process was forked just then, and whoever holds the lock is not in it.
                Err(TryLockError::WouldBlock) => return Self::start(side, 1),
            }
        };
        // A forked process has the memory of its parent's threads, and none of the threads.
        let process = std::process::id();
        let known = shared.as_ref().filter(|shared| shared.process == process);
        if let Some(threads) = known.and_then(|shared| shared.threads.upgrade()) {
            return Ok(threads);
        }
        let threads = Self::start(side, 1)?;
        *shared = Some(InProcess { process, threads: Arc::downgrade(&threads) });
        Ok(threads)
    }

    /// The first thread, which has the socket.
    pub(super) fn first(&self) -> &IoThread {
        &self.threads[0]
    }

    /// All of them.
    pub(super) fn all(&self) -> &[IoThread] {
        &self.threads
    }

    /// The threads in turn.
    pub(super) fn next(&self) -> &IoThread {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.threads[next % self.threads.len()]
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.end();
        }
    }
}

struct InProcess {
    process: u32,
    threads: Weak<Threads>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_of_a_process_are_shared_while_somebody_has_them() {
        let one = Threads::shared(Side::Client).unwrap();
        let two = Threads::shared(Side::Client).unwrap();
        assert!(Arc::ptr_eq(&one, &two) || Arc::strong_count(&two) == 1);
        let server = Threads::shared(Side::Server).unwrap();
        assert!(!Arc::ptr_eq(&one, &server));
    }
}
