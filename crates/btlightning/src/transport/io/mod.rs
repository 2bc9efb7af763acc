//! Which threads move packets.
//!
//! A wake-up across processors takes longer than all else that a small request needs. So an exchange stays where it is. A
//! server's connections live on an [`IoThread`] of this package's own, with packets, streams, frames, and handlers that are
//! quick; a client's live on the [runtime of the program](program) that it is opened on.

mod allowance;
mod apart;
mod errands;
mod inbox;
mod polling;
mod pool;
mod program;
mod quiet;
mod receive;
mod runtime;
mod socket;
mod task;
mod tenure;
mod thread;
mod turn;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use quinn::AsyncUdpSocket;
use tokio::runtime::Handle;

pub(crate) use self::errands::Errand;
pub(crate) use self::inbox::Job;
pub(crate) use self::pool::Side;
use self::pool::Threads;
use self::program::{Expected, Program};
pub(crate) use self::quiet::Quiet;
use self::runtime::IoRuntime;
use self::socket::{NotedSocket, Notes};
pub(crate) use self::task::Task;
pub(crate) use self::tenure::{Door, Eviction, Tenure};
pub(crate) use self::thread::IoThread;
use super::network::{Bound, Network};
use crate::error::{LightningError, Result};
use crate::limits::require;

/// The most threads of one's own.
const OWN_THREADS_MAX: usize = 64;

/// Which threads move the packets of a client or a server.
///
/// A thread that has run a [handler](crate::server::Handler) has another one beside it from then on, which sleeps, but for
/// a look every 5 ms while handlers run, and takes over if one of them hangs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoThreads {
    /// A client uses [`Current`](Self::Current), a server [`Shared`](Self::Shared). The default.
    #[default]
    Auto,
    /// A thread that all clients of the process share, and another one that all servers share. They are started when
    /// they are first needed, and end when nobody has them any more. Enough for some hundred thousand small requests a
    /// second.
    Shared,
    /// As many threads of its own, from 1 to 64. The socket is read by the first, which wakes the others for their packets;
    /// connections are spread over all.
    Own(usize),
    /// The tokio runtime that the client is opened on, or the server started on. For a client no thread has to be woken but
    /// the runtime's own; for a server it is slower than a thread apart. Packets wait for tasks of the program that keep
    /// the runtime's threads busy, with many calls under way for up to 61 turns of others: a program that computes on
    /// them is better off with one of the other choices. A client ends with its runtime.
    Current,
}

impl IoThreads {
    pub(crate) fn validate(self) -> Result<()> {
        let count = if let Self::Own(count) = self { count } else { 1 };
        require((1..=OWN_THREADS_MAX).contains(&count), || {
            format!("io_threads ({count}) must be from 1 to {OWN_THREADS_MAX}")
        })
    }

    /// Finds or starts the threads. Called within a tokio runtime.
    ///
    /// # Errors
    /// `Config` when the operating system gives no thread.
    pub(crate) fn open(self, side: Side, network: &dyn Network) -> Result<Io> {
        let current = Handle::current();
        let threads = match self {
            // Virtual time belongs to the runtime of whoever has stopped the clock.
            _ if network.is_simulated() => return Ok(Io::Current(Program::new(current, side))),
            Self::Current => return Ok(Io::Current(Program::new(current, side))),
            Self::Auto if side == Side::Client => return Ok(Io::Current(Program::new(current, side))),
            Self::Auto | Self::Shared => Threads::shared(side),
            Self::Own(count) => Threads::start(side, count),
        };
        let threads = threads.map_err(|error| LightningError::Config(format!("no I/O thread: {error}")))?;
        Ok(Io::Threads(threads))
    }
}

/// Where the connections of a client or a server live.
#[derive(Debug, Clone)]
pub(crate) enum Io {
    /// On a runtime of the program's.
    Current(Program),
    /// On threads apart from it.
    Threads(Arc<Threads>),
}

/// Where one connection lives.
#[derive(Debug, Clone)]
pub(crate) enum Lane {
    Current(Program),
    Thread(IoThread),
}

impl Io {
    /// The runtime that reads the socket.
    pub(crate) fn handle(&self) -> &Handle {
        match self {
            Self::Current(program) => program.handle(),
            Self::Threads(threads) => threads.first().handle(),
        }
    }

    /// How many tasks are alive on its runtimes: on the program's own, all that the program has there.
    pub(crate) fn tasks(&self) -> usize {
        let tasks = |handle: &Handle| handle.metrics().num_alive_tasks();
        match self {
            Self::Current(program) => tasks(program.handle()),
            Self::Threads(threads) => threads.all().iter().map(|thread| tasks(thread.handle())).sum(),
        }
    }

    /// Where the next connection is to live.
    pub(crate) fn next_lane(&self) -> Lane {
        match self {
            Self::Current(program) => Lane::Current(program.clone()),
            Self::Threads(threads) => Lane::Thread(threads.next().clone()),
        }
    }

    /// Binds a socket that is read where [`handle`](Self::handle) says.
    pub(crate) fn bind(&self, network: &dyn Network, addr: SocketAddr) -> io::Result<Opened> {
        let _context = self.handle().enter();
        match self {
            Self::Threads(threads) => {
                let Bound { socket, receive_buffer_bytes, .. } = network.open(addr)?;
                let socket = NotedSocket::new(socket, Notes::Thread(threads.first().clone()));
                Ok(Opened::plain(Arc::new(socket), receive_buffer_bytes))
            }
            Self::Current(program) => program.bind(network, addr),
        }
    }
}

/// A socket, and what drives its connections.
pub(crate) struct Opened {
    pub(crate) socket: Arc<dyn AsyncUdpSocket>,
    pub(crate) runtime: Arc<dyn quinn::Runtime>,
    /// What bounds quinn's lines, which it writes when it is called, too.
    pub(crate) quiet: Arc<Quiet>,
    /// See [`Bound::receive_buffer_bytes`].
    pub(crate) receive_buffer_bytes: Option<usize>,
}

impl Opened {
    /// One whose connections neither gather nor linger.
    fn plain(socket: Arc<dyn AsyncUdpSocket>, receive_buffer_bytes: Option<usize>) -> Self {
        let quiet = Arc::<Quiet>::default();
        Self { socket, runtime: Arc::new(IoRuntime::new(quiet.clone())), quiet, receive_buffer_bytes }
    }
}

impl Lane {
    /// The I/O thread that the connection lives on, unless that is where this is called.
    pub(crate) fn elsewhere(&self) -> Option<&IoThread> {
        match self {
            Self::Thread(thread) if !thread.is_here() => Some(thread),
            _ => None,
        }
    }

    /// Notes that a call waits for an answer, until the guard is dropped.
    pub(crate) fn expect(&self) -> Option<Expected<'_>> {
        match self {
            Self::Current(program) => Some(program.expect()),
            Self::Thread(_) => None,
        }
    }

    /// Begins a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Current(program) => drop(program.handle().spawn(task)),
            Self::Thread(thread) => thread.run(move || drop(tokio::spawn(task))),
        }
    }
}

/// Polls once. Nobody is woken for what is not ready: the future is dropped then, or polled again later.
pub(crate) fn poll_now<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// How many processors this process may use.
pub(crate) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Locks, after a panic as well: it leaves nothing half done behind the locks of these modules.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
