//! A peer: a child process that is told what to do and bounded in time.

use crate::protocol::{self, Line, Order, Ready, Role, Started, Usage};
use serde::de::DeserializeOwned;
use std::{
    collections::VecDeque,
    ffi::OsString,
    fmt,
    io::{BufRead, BufReader, Read, Write},
    mem,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// How to start the peers of a system.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before those of the protocol.
    pub args: Vec<OsString>,
}

impl Launch {
    /// The same peers, to which the other side is far away, on the internet.
    #[must_use]
    pub fn far(&self) -> Self {
        let mut far = self.clone();
        far.args.extend(["--distance".into(), "far".into()]);
        far
    }
}

/// Why an order was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The system cannot run here, for the reason it gives.
    #[error("cannot run here: {0}")]
    Unavailable(String),
    /// The system has no notion of what was asked.
    #[error("not done: {0}")]
    Skipped(String),
    /// It failed, in the system's words. The peer can be told to do other things.
    #[error("failed: {0}")]
    Failed(String),
    /// Nothing more can be expected of the peer: it is gone, silent, or does not speak the protocol.
    #[error("{0}")]
    Lost(String),
}

/// Time that a peer has to say that it is ready. Some systems import for seconds.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// Time that a peer has to end when it is told to; then it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Lines of its standard error that are kept for the report of a failure.
const WORDS_KEPT: usize = 12;

/// A child process that speaks for a system. Dropped, it is killed if it does not end by itself.
pub struct Peer {
    /// As messages name it.
    name: String,
    process: Arc<Mutex<Child>>,
    orders: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    words: Arc<Mutex<VecDeque<String>>>,
    /// Closed when there are no more of them.
    words_end: Receiver<()>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Peer {
    /// Starts a peer; [`ready`](Self::ready) waits for it.
    ///
    /// # Errors
    /// [`PeerError::Lost`] if the program cannot be started.
    pub fn start(launch: &Launch, system: &str, role: Role) -> Result<Self, PeerError> {
        let mut command = Command::new(&launch.program);
        command.args(&launch.args).args(role.args(system));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: what a peer starts is killed with it, and an interrupt at the terminal is the driver's.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let cannot =
            |error| PeerError::Lost(format!("{system}: cannot start {}: {error}", launch.program.display()));
        // Held until it is in the list, so that who kills all does not miss one that has just been started.
        let mut live = lock(&LIVE);
        let mut child = command.spawn().map_err(cannot)?;
        let name = match role {
            Role::Server { .. } => format!("{system} (server)"),
            Role::Client => format!("{system} (client)"),
            Role::Both => system.to_owned(),
        };
        let orders = child.stdin.take();
        let lines = child.stdout.take().map_or_else(|| mpsc::channel().1, stamped_lines);
        let words = Arc::default();
        let words_end =
            child.stderr.take().map_or_else(|| mpsc::channel().1, |stderr| keep_last_lines(stderr, &words));
        let process = Arc::new(Mutex::new(child));
        live.push(Arc::clone(&process));
        Ok(Self { name, process, orders, lines, words, words_end })
    }

    /// Waits until the peer can be given orders.
    ///
    /// # Errors
    /// [`PeerError::Unavailable`] or [`PeerError::Lost`].
    pub fn ready(&mut self) -> Result<Ready, PeerError> {
        self.receive::<Started>(READY_WITHIN).map(|(_, started)| started.ready)
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// Any but [`PeerError::Unavailable`].
    pub fn ask<T: DeserializeOwned>(&mut self, order: &Order<'_>, within: Duration) -> Result<T, PeerError> {
        self.send(order)?;
        self.receive(within).map(|(_, answer)| answer)
    }

    /// What the process has used so far.
    ///
    /// # Errors
    /// Any but [`PeerError::Unavailable`].
    pub fn usage(&mut self) -> Result<Usage, PeerError> {
        self.ask(&Order::Usage, Duration::from_secs(10))
    }

    /// Gives an order without waiting for the answer.
    ///
    /// # Errors
    /// [`PeerError::Lost`] if the peer does not read it.
    pub fn send(&mut self, order: &Order<'_>) -> Result<(), PeerError> {
        let mut line = serde_json::to_vec(order).map_err(|error| PeerError::Lost(error.to_string()))?;
        line.push(b'\n');
        let sent = match &mut self.orders {
            Some(orders) => orders.write_all(&line).and_then(|()| orders.flush()),
            None => return Err(PeerError::Lost(format!("{} has no input", self.name))),
        };
        sent.map_err(|_| self.gone())
    }

    /// The next answer, and when it came.
    ///
    /// # Errors
    /// As the answer says, or [`PeerError::Lost`] if there is none in time.
    pub fn receive<T: DeserializeOwned>(&mut self, within: Duration) -> Result<(Instant, T), PeerError> {
        match self.receive_if_any(within)? {
            Some(answer) => Ok(answer),
            None => Err(self.lost(&format!("did not answer within {} s", within.as_secs_f64()))),
        }
    }

    /// The next answer, and when it came, if there is one in time.
    ///
    /// # Errors
    /// As the answer says, or [`PeerError::Lost`] if there will be none.
    pub fn receive_if_any<T: DeserializeOwned>(
        &mut self,
        within: Duration,
    ) -> Result<Option<(Instant, T)>, PeerError> {
        let (at, line) = match self.lines.recv_timeout(within) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
        };
        match Line::read(&line) {
            Ok(Line::Answer(value)) => match protocol::answer(value) {
                Ok(answer) => Ok(Some((at, answer))),
                Err(wrong) => Err(self.lost(&wrong)),
            },
            Ok(Line::Failed(why)) => Err(PeerError::Failed(why)),
            Ok(Line::Skipped(why)) => Err(PeerError::Skipped(why)),
            Ok(Line::Unavailable(why)) => Err(PeerError::Unavailable(why)),
            Err(wrong) => Err(self.lost(&wrong)),
        }
    }

    /// What is said of a peer that does not listen or speak any more.
    fn gone(&self) -> PeerError {
        let how = self.wait(STOP_WITHIN).unwrap_or_else(|| "closed its input or output".into());
        // Its last words may still be on their way.
        let _ = self.words_end.recv_timeout(STOP_WITHIN);
        self.lost(&how)
    }

    /// What is said when nothing more can be expected, with the last that the peer itself said.
    fn lost(&self, how: &str) -> PeerError {
        let words: Vec<String> = lock(&self.words).iter().cloned().collect();
        let said = if words.is_empty() { String::new() } else { format!("; it said: {}", words.join(" | ")) };
        PeerError::Lost(format!("{} {how}{said}", self.name))
    }

    /// How the process ended, if it does in time.
    fn wait(&self, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        loop {
            if let Ok(Some(status)) = lock(&self.process).try_wait() {
                return Some(format!("ended ({status})"));
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Told in both ways; whether it reads them does not matter.
        let _ = self.send(&Order::Stop);
        self.orders = None;
        self.wait(STOP_WITHIN);
        kill(&self.process);
        lock(&LIVE).retain(|other| !Arc::ptr_eq(other, &self.process));
    }
}

/// Every peer that has been started and not dropped.
static LIVE: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Kills every peer, for an end of the driver that drops nothing. None can be started any more, or dropped.
pub fn kill_all() {
    let mut live = lock(&LIVE);
    for process in live.drain(..) {
        kill(&process);
    }
    mem::forget(live);
}

fn kill(process: &Mutex<Child>) {
    let mut child = lock(process);
    // What it started, too. Nobody is left in most groups, and then there is nothing to kill.
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    // Fails only for a process that has ended.
    let _ = child.kill();
    let _ = child.wait();
}

/// The lines of a peer's output, each with the time when it was read.
fn stamped_lines(output: impl Read + Send + 'static) -> Receiver<(Instant, String)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Keeps the last lines of a peer's standard error. What it gives is closed at their end.
fn keep_last_lines(output: impl Read + Send + 'static, kept: &Arc<Mutex<VecDeque<String>>>) -> Receiver<()> {
    let kept = Arc::clone(kept);
    let (open, end) = mpsc::channel();
    thread::spawn(move || {
        let _open: mpsc::Sender<()> = open;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut kept = lock(&kept);
            if kept.len() == WORDS_KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
    end
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
