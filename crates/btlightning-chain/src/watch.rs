//! [`MetagraphWatch`], the metagraph of a subnet kept in sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use btlightning_proto::peers::{Backoff, BackoffPolicy, Pause};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::chain::Chain;
use crate::error::ChainError;
use crate::metagraph::Metagraph;
use crate::reading::TlsKeys;

/// Keeps the metagraph of a subnet in sync, in a task of its own, until its last clone is dropped.
///
/// A sync that fails is tried again after a second, then ever more slowly, up to the interval or a minute, whichever is
/// shorter. Meanwhile the last metagraph stays, and [`status`](Self::status) says how old it is.
#[derive(Clone)]
pub struct MetagraphWatch {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    progress: watch::Receiver<Progress>,
    synced: watch::Receiver<u64>,
    task: Arc<Task>,
}

/// What all clones hold, and the task does not.
struct Task {
    chain: Chain,
    netuid: u16,
    interval: Duration,
    wanted_now: Arc<Notify>,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// A metagraph, and when it was read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// The metagraph.
    pub metagraph: Metagraph,
    /// When it was read, by the clock of the wall.
    pub synced_at: SystemTime,
    /// When it was read, by a clock that only goes forward.
    pub synced: Instant,
    /// The TLS key pins that its hotkeys have published. While they cannot be read, the last ones stay.
    pub tls_keys: HashMap<Hotkey, TlsKeyPin>,
    /// The block at which those were read; `None` if they never were.
    pub tls_keys_block: Option<u64>,
}

impl Snapshot {
    /// How long ago it was read.
    pub fn age(&self) -> Duration {
        self.synced.elapsed()
    }
}

/// How a watch is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WatchStatus {
    /// How long ago the metagraph was last read; `None` before the first time.
    pub age: Option<Duration>,
    /// The block that was read then.
    pub block: Option<u64>,
    /// How many neurons it had.
    pub neurons: usize,
    /// Syncs that failed since.
    pub failures_in_a_row: u32,
    /// Why the last sync that failed did; kept when things go well again.
    pub last_error: Option<ChainError>,
    /// The node in use.
    pub endpoint: Option<String>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Syncs begun, and the number of the last one that ended.
    begun: u64,
    ended: u64,
    failures_in_a_row: u32,
    last_error: Option<ChainError>,
    /// Whether the last sync failed.
    failed: bool,
}

/// The longest interval between syncs.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// After this long, any block will do: the chain may have been begun anew, as local ones are.
const BEHIND_MAX: Duration = Duration::from_secs(60 * 60);

impl MetagraphWatch {
    /// Begins to sync, at once and then every `interval`, on the current tokio runtime.
    ///
    /// # Errors
    /// [`ChainError::Setting`] for an interval of zero or of more than a day; [`ChainError::ShuttingDown`] outside of a
    /// runtime.
    pub fn start(chain: Chain, netuid: u16, interval: Duration) -> Result<Self, ChainError> {
        let bad = |problem| Err(ChainError::Setting { setting: "sync_interval", problem });
        if interval.is_zero() {
            return bad("is zero");
        }
        if interval > INTERVAL_MAX {
            return bad("is longer than a day");
        }
        let runtime = Handle::try_current().map_err(|_| ChainError::ShuttingDown)?;
        let (snapshot, snapshots) = watch::channel(None);
        let (report, progress) = watch::channel(Progress::default());
        let wanted_now = Arc::new(Notify::new());
        let (count, synced) = watch::channel(0);
        let sync = Sync { chain: chain.clone(), netuid, interval, snapshot, count, report };
        let handle = runtime.spawn(sync.run(Arc::clone(&wanted_now))).abort_handle();
        let task = Arc::new(Task { chain, netuid, interval, wanted_now, handle });
        Ok(Self { snapshots, progress, synced, task })
    }

    /// The last metagraph, however old; `None` before the first sync has succeeded.
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.snapshots.borrow().clone()
    }

    /// The last metagraph, or the first one as soon as there is one.
    ///
    /// # Errors
    /// When there is none after `within`: why the last sync failed, or [`ChainError::OutOfTime`] if none has ended.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn first(&self, within: Duration) -> Result<Arc<Snapshot>, ChainError> {
        let mut snapshots = self.snapshots.clone();
        match timeout(within, snapshots.wait_for(Option::is_some)).await {
            Ok(Ok(snapshot)) => snapshot.clone().ok_or(ChainError::ShuttingDown),
            Ok(Err(_)) => Err(ChainError::ShuttingDown),
            Err(_) => Err(self.last_error().unwrap_or(ChainError::OutOfTime { after: within })),
        }
    }

    /// The last metagraph, or what comes of the first attempt to read one, which takes at most the connect timeout and the
    /// [`operation_timeout`](crate::chain::ChainConfig) of the chain for every endpoint.
    ///
    /// # Errors
    /// Why that attempt failed. The watch goes on trying.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn first_attempt(&self) -> Result<Arc<Snapshot>, ChainError> {
        let mut progress = self.progress.clone();
        progress.wait_for(|progress| progress.ended > 0).await.map_err(|_| ChainError::ShuttingDown)?;
        self.latest().ok_or_else(|| self.last_error().unwrap_or(ChainError::ShuttingDown))
    }

    /// How many syncs have succeeded, to wait for the next one.
    pub fn syncs(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    /// The pause between two syncs.
    pub fn interval(&self) -> Duration {
        self.task.interval
    }

    /// The subnet.
    pub fn netuid(&self) -> u16 {
        self.task.netuid
    }

    /// Syncs now, and gives the metagraph of a sync that began after this call.
    ///
    /// # Errors
    /// Why that sync failed, or [`ChainError::OutOfTime`] when it has not ended after `within`.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; the sync goes on.
    pub async fn refreshed(&self, within: Duration) -> Result<Arc<Snapshot>, ChainError> {
        let mut progress = self.progress.clone();
        let begun = progress.borrow().begun;
        self.refresh_now();
        let error = match timeout(within, progress.wait_for(|progress| progress.ended > begun)).await {
            Ok(Ok(progress)) => progress.last_error.clone().filter(|_| progress.failed),
            Ok(Err(_)) => Some(ChainError::ShuttingDown),
            Err(_) => Some(ChainError::OutOfTime { after: within }),
        };
        error.map_or_else(|| self.latest().ok_or(ChainError::ShuttingDown), Err)
    }

    /// Has a sync begin now, or as soon as the present one has ended. Waits for nothing.
    pub fn refresh_now(&self) {
        self.task.wanted_now.notify_one();
    }

    /// The next metagraph that this clone has not been told of. Those that come while nobody waits are skipped, but for
    /// the last.
    ///
    /// # Errors
    /// [`ChainError::ShuttingDown`] when the runtime on which it syncs is gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the same metagraph is told of the next time.
    pub async fn changed(&mut self) -> Result<Arc<Snapshot>, ChainError> {
        loop {
            self.snapshots.changed().await.map_err(|_| ChainError::ShuttingDown)?;
            if let Some(snapshot) = self.snapshots.borrow_and_update().clone() {
                return Ok(snapshot);
            }
        }
    }

    /// How it is doing. Costs nothing and waits for nothing.
    pub fn status(&self) -> WatchStatus {
        let latest = self.latest();
        let progress = self.progress.borrow();
        WatchStatus {
            age: latest.as_ref().map(|snapshot| snapshot.age()),
            block: latest.as_ref().map(|snapshot| snapshot.metagraph.block),
            neurons: latest.as_ref().map_or(0, |snapshot| snapshot.metagraph.neurons.len()),
            failures_in_a_row: progress.failures_in_a_row,
            last_error: progress.last_error.clone(),
            endpoint: self.task.chain.status().endpoint,
        }
    }

    /// The chain that it asks.
    pub fn chain(&self) -> &Chain {
        &self.task.chain
    }

    fn last_error(&self) -> Option<ChainError> {
        self.progress.borrow().last_error.clone()
    }
}

/// The task of a watch.
struct Sync {
    chain: Chain,
    netuid: u16,
    interval: Duration,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    count: watch::Sender<u64>,
    report: watch::Sender<Progress>,
}

impl Sync {
    async fn run(self, wanted_now: Arc<Notify>) {
        let mut backoff = Backoff::new(BackoffPolicy {
            initial: RETRY_FIRST.min(self.interval),
            max: RETRY_MAX.min(self.interval),
            retries_max: u32::MAX,
            slow_probe: None,
        });
        loop {
            self.report.send_modify(|progress| progress.begun += 1);
            let synced = self.sync().await;
            let pause = match &synced {
                Ok(_) => {
                    backoff.reset();
                    self.interval
                }
                Err(error) => {
                    let pause = pause_after_failure(&mut backoff);
                    tracing::warn!(netuid = self.netuid, %error, retry_in = ?pause, "metagraph not synced");
                    pause
                }
            };
            self.tell(synced);
            tokio::select! {
                () = sleep(pause) => {}
                () = wanted_now.notified() => {}
            }
        }
    }

    async fn sync(&self) -> Result<Snapshot, ChainError> {
        let last = self.snapshot.borrow().clone();
        let seen =
            last.as_ref().filter(|last| last.age() < BEHIND_MAX).map_or(0, |last| last.metagraph.block);
        let read = self.chain.read_from(self.netuid, seen, TlsKeys::Read).await?;
        let (tls_keys, tls_keys_block) = match (read.tls_keys, last) {
            (Some(tls_keys), _) => (tls_keys, Some(read.metagraph.block)),
            (None, Some(last)) => (last.tls_keys.clone(), last.tls_keys_block),
            (None, None) => (HashMap::new(), None),
        };
        let (synced_at, synced) = (SystemTime::now(), Instant::now());
        Ok(Snapshot { metagraph: read.metagraph, synced_at, synced, tls_keys, tls_keys_block })
    }

    fn tell(&self, synced: Result<Snapshot, ChainError>) {
        let error = match synced {
            Ok(snapshot) => {
                let Metagraph { netuid, block, n, .. } = snapshot.metagraph;
                tracing::debug!(netuid, block, neurons = n, "metagraph synced");
                self.snapshot.send_replace(Some(Arc::new(snapshot)));
                self.count.send_modify(|count| *count += 1);
                None
            }
            Err(error) => Some(error),
        };
        self.report.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.failed = error.is_some();
            progress.failures_in_a_row =
                if progress.failed { progress.failures_in_a_row.saturating_add(1) } else { 0 };
            progress.last_error = error.or(progress.last_error.take());
        });
    }
}

fn pause_after_failure(backoff: &mut Backoff) -> Duration {
    // Without randomness every pause is the longest of its kind, which only costs that retries are not spread out.
    let entropy = getrandom::u64().unwrap_or(u64::MAX);
    match backoff.next_pause(entropy) {
        Pause::Retry(pause) | Pause::Probe(pause) => pause,
        Pause::GiveUp => RETRY_MAX,
    }
}
