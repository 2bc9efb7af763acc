//! Follows a metagraph: wants the miners that the chain names, and those that were named by hand.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btlightning_chain::chain::{Chain, ChainConfig};
use btlightning_chain::metagraph::Metagraph;
use btlightning_chain::miners::MinerFilter;
use btlightning_chain::network::{FINNEY_ENDPOINT, FINNEY_FALLBACK_ENDPOINT, Network, TESTNET_ENDPOINT};
use btlightning_chain::watch::{MetagraphWatch, Snapshot, WatchStatus};
use btlightning_proto::identity::Hotkey;
use btlightning_proto::peers::QuicAxonInfo;
use tokio::task::AbortHandle;
use tracing::info;

use super::LightningClient;
use super::dialler::Dialler;
use super::error::CallError;
use super::registry::{self, Registry};
use super::slot::Slot;
use crate::error::Result;
use crate::limits::require;

/// The published interval between two syncs.
const SYNC_INTERVAL: Duration = Duration::from_secs(600);

/// Which subnet a client follows, and how.
///
/// ```
/// use btlightning::MetagraphMonitorConfig;
/// use btlightning::metagraph::MinerFilter;
///
/// let subnet = MetagraphMonitorConfig {
///     miners: Some(MinerFilter::default().min_stake(1_000_000_000)),
///     ..MetagraphMonitorConfig::finney(2)
/// };
/// # let _ = subnet;
/// ```
#[derive(Debug, Clone)]
pub struct MetagraphMonitorConfig {
    /// The subnet.
    pub netuid: u16,
    /// The node that is asked first: a `ws://` or `wss://` URL, or `finney`, `test` or `local`.
    pub subtensor_endpoint: String,
    /// The pause between two syncs. Default: 600 s. Not zero. A sync that fails is tried again sooner.
    pub sync_interval: Duration,
    /// The nodes that are asked, in this order, while the first does not answer. They must be of the same chain. At most 15.
    /// Default: none; for mainnet's own entry point the node that the official SDK falls back to.
    pub fallback_endpoints: Vec<String>,
    /// Which neurons are miners to connect to. `None`, the default: [`MinerFilter::default`], and on a chain that runs on
    /// this machine or in a private network, other than mainnet, also those at loopback and private addresses.
    pub miners: Option<MinerFilter>,
    /// Whether a miner that has published a hash of its TLS key is only talked to if its server holds that key: see
    /// [`pin_tls_keys`](LightningClient::pin_tls_keys), whose pins count before the published ones. Default: yes.
    pub check_tls_keys: bool,
}

impl MetagraphMonitorConfig {
    /// The subnet `netuid` by the node at `subtensor_endpoint`.
    pub fn new(netuid: u16, subtensor_endpoint: impl Into<String>, sync_interval: Duration) -> Self {
        Self {
            netuid,
            subtensor_endpoint: subtensor_endpoint.into(),
            sync_interval,
            fallback_endpoints: Vec::new(),
            miners: None,
            check_tls_keys: true,
        }
    }

    /// A subnet of mainnet, read every 600 s.
    pub fn finney(netuid: u16) -> Self {
        Self::new(netuid, FINNEY_ENDPOINT, SYNC_INTERVAL)
    }

    /// A subnet of the test network, read every 600 s.
    pub fn testnet(netuid: u16) -> Self {
        Self::new(netuid, TESTNET_ENDPOINT, SYNC_INTERVAL)
    }

    /// A subnet of the network that the environment names (see [`Network::from_env`]), read every 600 s.
    ///
    /// # Errors
    /// `Config` names the variable that cannot be read.
    pub fn from_env(netuid: u16) -> Result<Self> {
        let network = Network::from_env()?;
        let mut endpoints = network.endpoints().iter().cloned();
        let first = endpoints.next().unwrap_or_default();
        Ok(Self { fallback_endpoints: endpoints.collect(), ..Self::new(netuid, first, SYNC_INTERVAL) })
    }

    /// Checks every bound, but asks nobody.
    pub(crate) fn validate(&self) -> Result<()> {
        require(self.sync_interval > Duration::ZERO, || "sync_interval must be non-zero".to_owned())?;
        self.network().map(drop)
    }

    fn network(&self) -> Result<Network> {
        let first = Network::parse(&self.subtensor_endpoint)?;
        let mut endpoints = first.endpoints().to_vec();
        endpoints.extend(self.fallback_endpoints.iter().cloned());
        if endpoints == [FINNEY_ENDPOINT] {
            endpoints.push(FINNEY_FALLBACK_ENDPOINT.to_owned());
        }
        Ok(Network::from_endpoints(endpoints)?)
    }

    fn filter_for(&self, chain: &Chain, network: &Network) -> MinerFilter {
        match &self.miners {
            Some(filter) => filter.clone(),
            // A node of mainnet on one's own machine is no reason to dial loopback addresses that strangers announce.
            None if network.is_local() && !chain.is_mainnet() => MinerFilter::for_local_network(),
            None => MinerFilter::default(),
        }
    }
}

/// How things stand with the metagraph that a client follows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MetagraphStatus {
    /// The subnet.
    pub netuid: u16,
    /// How many of its neurons are miners to connect to.
    pub miners: usize,
    /// How old the metagraph is, at which block it was read, and why there is no newer one.
    pub sync: WatchStatus,
}

/// What a client follows, if anything.
#[derive(Default)]
pub(super) struct Monitor {
    running: Mutex<Option<Running>>,
}

struct Running {
    watch: MetagraphWatch,
    follower: Arc<Follower>,
    task: AbortHandle,
}

/// What is stopped wants nobody any more, not even in the middle of what it was doing.
impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        *self.follower.named.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Monitor {
    pub(super) fn stop(&self) -> bool {
        self.running().take().is_some()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("is_running", &self.running().is_some()).finish()
    }
}

/// Turns a snapshot into wishes.
struct Follower {
    registry: Arc<Registry>,
    dialler: Arc<Dialler>,
    filter: MinerFilter,
    check_tls_keys: bool,
    /// The validator's own axon is not a miner of its own.
    own: Option<Hotkey>,
    /// Miners that were named by hand, which are wanted whatever the chain says. `None` once this is stopped.
    named: Mutex<Option<Vec<QuicAxonInfo>>>,
}

impl Follower {
    /// Wants whom the snapshot names. Returns the slots whose dials are under way.
    fn follow(&self, snapshot: &Snapshot) -> Vec<Arc<Slot>> {
        // Held until the wishes are with the registry, so that whoever stops this has the last word there.
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(named) = named.as_ref() else { return Vec::new() };
        let by_hand: HashSet<&str> = named.iter().map(|axon| axon.hotkey.as_str()).collect();
        let mut axons = self.miners(&snapshot.metagraph);
        axons.retain(|axon| !by_hand.contains(axon.hotkey.as_str()));
        axons.extend(named.iter().cloned());
        let pins = if self.check_tls_keys { snapshot.tls_keys.clone() } else { HashMap::new() };
        let before = self.dialler.pins.replace_published(pins);
        self.registry.redial_repinned(&before);
        self.registry.follow(axons)
    }

    /// Wants `miners` besides those that were named before. A hotkey is where it was said to be last.
    fn also(&self, miners: &[QuicAxonInfo]) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(named) = named.as_mut() else { return };
        let anew: HashSet<&str> = miners.iter().map(|axon| axon.hotkey.as_str()).collect();
        named.retain(|axon| !anew.contains(axon.hotkey.as_str()));
        named.extend(miners.iter().cloned());
    }

    fn named(&self) -> Vec<QuicAxonInfo> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    fn miners(&self, metagraph: &Metagraph) -> Vec<QuicAxonInfo> {
        let own = self.own.map(|hotkey| hotkey.to_string());
        let mut miners = metagraph.miners(&self.filter);
        miners.retain(|axon| Some(&axon.hotkey) != own.as_ref());
        miners
    }
}

impl LightningClient {
    /// Follows the metagraph of a subnet: connects to its miners, and from then on, after every sync, to those that are new,
    /// leaves those that are gone, and moves with those that move. Returns when the first sync is done and every dial it
    /// led to has come to an end.
    ///
    /// Miners that [`initialize_connections`](Self::initialize_connections) has been given are kept beside those of the
    /// metagraph. While no node answers, the last metagraph stays in use; see [`metagraph_status`](Self::metagraph_status).
    /// A monitor that runs already is replaced once the new one has synced.
    ///
    /// The first sync takes at most the time to connect to a node (10 s) and to read from it (120 s) for every endpoint, the
    /// dials then at most `connect_timeout`. Miners beyond `max_connections` are left out: those that are wanted
    /// already come first, then those with the lowest uid. While a metagraph is followed, what
    /// [`update_miner_registry`](Self::update_miner_registry) says holds until the next sync. Cancel-safe: before the first sync nothing has begun; after it the monitor runs.
    ///
    /// # Errors
    /// `Connection` before there is an endpoint, or when no node answers; `Config` for what cannot be an endpoint and for
    /// a subnet that does not exist. No monitor is started then.
    pub async fn start_metagraph_monitor(&self, config: MetagraphMonitorConfig) -> Result<()> {
        self.follow_metagraph(config, Vec::new()).await
    }

    /// Stops following a metagraph. Its miners stay connected.
    pub async fn stop_metagraph_monitor(&self) {
        if self.monitor.stop() {
            info!("the metagraph is no longer followed");
        }
    }

    /// The metagraph as last read; `None` while none is followed.
    pub fn metagraph(&self) -> Option<Arc<Snapshot>> {
        self.monitor.running().as_ref()?.watch.latest()
    }

    /// How old the metagraph is and why; `None` while none is followed.
    pub fn metagraph_status(&self) -> Option<MetagraphStatus> {
        let (watch, follower) = {
            let running = self.monitor.running();
            let running = running.as_ref()?;
            (running.watch.clone(), running.follower.clone())
        };
        let latest = watch.latest();
        let miners = latest.as_ref().map_or(0, |snapshot| follower.miners(&snapshot.metagraph).len());
        Some(MetagraphStatus { netuid: watch.netuid(), miners, sync: watch.status() })
    }

    /// Has the metagraph read again now instead of when the interval is over. Does nothing while none is followed.
    pub fn refresh_metagraph(&self) {
        if let Some(running) = self.monitor.running().as_ref() {
            running.watch.refresh_now();
        }
    }

    pub(super) async fn follow_metagraph(
        &self,
        config: MetagraphMonitorConfig,
        named: Vec<QuicAxonInfo>,
    ) -> Result<()> {
        config.validate()?;
        let Some(endpoints) = self.dialler.endpoints() else { return Err(CallError::NotStarted.into()) };
        let network = config.network()?;
        let chain = Chain::new(ChainConfig::new(&network))?;
        let watch = {
            let _context = endpoints.runtime.enter();
            MetagraphWatch::start(chain.clone(), config.netuid, config.sync_interval)?
        };
        let first = watch.first_attempt().await?;

        let follower = Arc::new(Follower {
            registry: self.registry.clone(),
            dialler: self.dialler.clone(),
            check_tls_keys: config.check_tls_keys,
            filter: config.filter_for(&chain, &network),
            own: self.dialler.validator(),
            named: Mutex::new(Some(named)),
        });
        // Whoever was followed until now is silent before this one speaks. What was named by hand goes on being wanted.
        if let Some(before) = self.monitor.running().take() {
            follower.also(&before.follower.named());
        }
        let dialling = follower.follow(&first);
        let task = endpoints.runtime.spawn(follow_on(watch.clone(), follower.clone())).abort_handle();
        let miners = follower.miners(&first.metagraph).len();
        info!("following subnet {} from block {}: {miners} miners", config.netuid, first.metagraph.block);
        *self.monitor.running() = Some(Running { watch, follower, task });
        registry::settled(dialling, self.dials_take()).await;
        Ok(())
    }

    /// Keeps `miners` beside those of the metagraph that is followed; says whether there is one.
    pub(super) fn also_named(&self, miners: &[QuicAxonInfo]) -> bool {
        let running = self.monitor.running();
        let Some(running) = running.as_ref() else { return false };
        running.follower.also(miners);
        true
    }
}

/// Follows every newer snapshot, until it is aborted.
async fn follow_on(mut watch: MetagraphWatch, follower: Arc<Follower>) {
    loop {
        let Ok(snapshot) = watch.changed().await else { return };
        follower.follow(&snapshot);
    }
}
