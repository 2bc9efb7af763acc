//! Follows a metagraph: wants the miners that the chain names, and those that were named by hand.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btlightning_chain::chain::{Chain, ChainConfig};
use btlightning_chain::metagraph::Metagraph;
use btlightning_chain::miners::MinerFilter;
use btlightning_chain::network::{FINNEY_ENDPOINT, FINNEY_FALLBACK_ENDPOINT, Network, TESTNET_ENDPOINT};
use btlightning_chain::watch::{MetagraphWatch, Snapshot, WatchStatus};
use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use btlightning_proto::peers::QuicAxonInfo;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::info;

use super::LightningClient;
use super::dialler::Dialler;
use super::error::CallError;
use super::registry::{self, Registry};
use super::slot::Slot;
use crate::error::{LightningError, Result};
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
    /// [`pin_tls_keys`](LightningClient::pin_tls_keys), whose pins count before the published ones. While they could not be
    /// read even once, nobody is pinned by them; [`Snapshot::tls_keys_block`] says so. Default: yes.
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

/// What a client follows, and whom it wants besides.
pub(super) struct Monitor {
    registry: Arc<Registry>,
    dialler: Arc<Dialler>,
    wishes: Mutex<Wishes>,
    /// Held while one starts, so that they start one after the other.
    starting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Wishes {
    /// Changes whenever something else is followed, or nothing any more. Whoever follows by an older one is not heard.
    generation: u64,
    /// Miners that were named by hand, which are wanted whatever the chain says.
    named: Vec<QuicAxonInfo>,
    running: Option<Running>,
}

struct Running {
    watch: MetagraphWatch,
    choice: Choice,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which neurons are wanted.
#[derive(Clone)]
struct Choice {
    filter: MinerFilter,
    check_tls_keys: bool,
    /// The validator's own axon is not a miner of its own.
    own: Option<Hotkey>,
}

impl Choice {
    /// Runs the user's predicate, and therefore never under a lock.
    fn miners(&self, metagraph: &Metagraph) -> Vec<QuicAxonInfo> {
        let own = self.own.map(|hotkey| hotkey.to_string());
        let mut miners = metagraph.miners(&self.filter);
        miners.retain(|axon| Some(&axon.hotkey) != own.as_ref());
        miners
    }
}

impl Monitor {
    pub(super) fn new(registry: Arc<Registry>, dialler: Arc<Dialler>) -> Self {
        Self { registry, dialler, wishes: Mutex::default(), starting: tokio::sync::Mutex::default() }
    }

    /// Keeps `miners` beside those of whatever metagraph is followed. A hotkey is where it was said to be last.
    pub(super) fn name(&self, miners: &[QuicAxonInfo]) {
        let anew: HashSet<&str> = miners.iter().map(|axon| axon.hotkey.as_str()).collect();
        let mut wishes = self.wishes();
        wishes.named.retain(|axon| !anew.contains(axon.hotkey.as_str()));
        // Who cannot be dialled must not hide where the chain says that the miner is.
        wishes.named.extend(miners.iter().filter(|axon| axon.addr_key().canonical().is_ok()).cloned());
    }

    /// Of those that were named by hand, only these go on being wanted.
    pub(super) fn keep_named(&self, miners: &[QuicAxonInfo]) {
        let kept: HashSet<&str> = miners.iter().map(|axon| axon.hotkey.as_str()).collect();
        self.wishes().named.retain(|axon| kept.contains(axon.hotkey.as_str()));
    }

    /// Follows nothing any more; says whether anything was followed. A start that is under way comes to nothing.
    pub(super) fn stop(&self) -> bool {
        let running = {
            let mut wishes = self.wishes();
            wishes.generation += 1;
            wishes.running.take()
        };
        let was_running = running.is_some();
        drop(running);
        if was_running {
            self.use_pins(HashMap::new());
        }
        was_running
    }

    /// As [`stop`](Self::stop), and forgets who was named.
    pub(super) fn forget(&self) {
        self.stop();
        self.wishes().named.clear();
    }

    fn is_running(&self) -> bool {
        self.wishes().running.is_some()
    }

    fn generation(&self) -> u64 {
        self.wishes().generation
    }

    /// Follows `watch` from `first` on instead of what was followed, unless something has changed since `generation`.
    /// Returns the slots whose dials are under way.
    fn begin(
        self: &Arc<Self>,
        generation: u64,
        runtime: &Handle,
        watch: MetagraphWatch,
        choice: Choice,
        first: &Snapshot,
    ) -> Option<Vec<Arc<Slot>>> {
        let miners = choice.miners(&first.metagraph);
        let before;
        let dialling = {
            let mut wishes = self.wishes();
            if wishes.generation != generation {
                return None;
            }
            wishes.generation += 1;
            let follower = follow_on(self.clone(), wishes.generation, watch.clone(), choice.clone());
            let task = runtime.spawn(follower).abort_handle();
            let dialling = self.want(&wishes, miners, &choice, first);
            before = wishes.running.replace(Running { watch, choice, task });
            dialling
        };
        drop(before);
        Some(dialling)
    }

    /// Wants whom a newer snapshot names; `None` if that is not what is followed any more.
    fn follow(&self, generation: u64, choice: &Choice, snapshot: &Snapshot) -> Option<Vec<Arc<Slot>>> {
        let miners = choice.miners(&snapshot.metagraph);
        let wishes = self.wishes();
        (wishes.generation == generation).then(|| self.want(&wishes, miners, choice, snapshot))
    }

    /// With the wishes held, so that whoever stops this has the last word with the registry.
    fn want(
        &self,
        wishes: &Wishes,
        mut miners: Vec<QuicAxonInfo>,
        choice: &Choice,
        snapshot: &Snapshot,
    ) -> Vec<Arc<Slot>> {
        let by_hand: HashSet<&str> = wishes.named.iter().map(|axon| axon.hotkey.as_str()).collect();
        miners.retain(|axon| !by_hand.contains(axon.hotkey.as_str()));
        miners.extend(wishes.named.iter().cloned());
        self.use_pins(if choice.check_tls_keys { snapshot.tls_keys.clone() } else { HashMap::new() });
        self.registry.follow(miners)
    }

    fn use_pins(&self, published: HashMap<Hotkey, TlsKeyPin>) {
        let before = self.dialler.pins.replace_published(published);
        self.registry.redial_repinned(&before);
    }

    /// The watch and the choice of what is followed.
    fn followed(&self) -> Option<(MetagraphWatch, Choice)> {
        let wishes = self.wishes();
        let running = wishes.running.as_ref()?;
        Some((running.watch.clone(), running.choice.clone()))
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows every newer snapshot, for as long as that is what is followed.
async fn follow_on(monitor: Arc<Monitor>, generation: u64, mut watch: MetagraphWatch, choice: Choice) {
    while let Ok(snapshot) = watch.changed().await {
        if monitor.follow(generation, &choice, &snapshot).is_none() {
            return;
        }
    }
}

impl LightningClient {
    /// Follows the metagraph of a subnet: connects to its miners, and from then on, after every sync, to those that are new,
    /// leaves those that are gone, and moves with those that move. Returns when the first sync is done and every dial it
    /// led to has come to an end.
    ///
    /// Miners that [`initialize_connections`](Self::initialize_connections) has been given are kept beside those of the
    /// metagraph. While no node answers, the last metagraph stays in use; see [`metagraph_status`](Self::metagraph_status).
    /// A monitor that runs already is replaced once the new one has synced; of several that are started at once, the last
    /// one to sync stays. One that is stopped, or whose client is closed, while it starts does not start.
    ///
    /// The first sync takes at most the time to connect to a node (10 s) and to read from it (120 s) for every endpoint, the
    /// dials then at most `connect_timeout`. Miners beyond `max_connections` are left out: those that are wanted already
    /// come first, then those with the lowest uid. While a metagraph is followed, what
    /// [`update_miner_registry`](Self::update_miner_registry) says holds until the next sync. Cancel-safe: before the first
    /// sync nothing has begun; after it the monitor runs.
    ///
    /// # Errors
    /// `Connection` before there is an endpoint, when no node answers, or when it was stopped; `Config` for what cannot be
    /// an endpoint and for a subnet that does not exist. No monitor is started then; one that ran before goes on.
    pub async fn start_metagraph_monitor(&self, config: MetagraphMonitorConfig) -> Result<()> {
        config.validate()?;
        let _turn = self.monitor.starting.lock().await;
        self.follow_metagraph(&config).await
    }

    /// Stops following a metagraph. Its miners stay connected; the TLS keys that they have published count no longer.
    pub async fn stop_metagraph_monitor(&self) {
        if self.monitor.stop() {
            info!("the metagraph is no longer followed");
        }
    }

    /// The metagraph as last read; `None` while none is followed.
    pub fn metagraph(&self) -> Option<Arc<Snapshot>> {
        self.monitor.followed()?.0.latest()
    }

    /// How old the metagraph is and why; `None` while none is followed. Asks the filter of miners about every neuron.
    pub fn metagraph_status(&self) -> Option<MetagraphStatus> {
        let (watch, choice) = self.monitor.followed()?;
        let miners = watch.latest().map_or(0, |snapshot| choice.miners(&snapshot.metagraph).len());
        Some(MetagraphStatus { netuid: watch.netuid(), miners, sync: watch.status() })
    }

    /// Has the metagraph read again now instead of when the interval is over. Does nothing while none is followed.
    pub fn refresh_metagraph(&self) {
        if let Some((watch, _)) = self.monitor.followed() {
            watch.refresh_now();
        }
    }

    /// [`start_metagraph_monitor`](Self::start_metagraph_monitor) with the configured subnet, if there is one and none is
    /// followed yet. Says whether it has.
    pub(super) async fn follow_configured(&self) -> Result<bool> {
        let Some(config) = &self.config.metagraph else { return Ok(false) };
        let _turn = self.monitor.starting.lock().await;
        if self.monitor.is_running() {
            return Ok(false);
        }
        self.follow_metagraph(config).await?;
        Ok(true)
    }

    async fn follow_metagraph(&self, config: &MetagraphMonitorConfig) -> Result<()> {
        let Some(endpoints) = self.dialler.endpoints() else { return Err(CallError::NotStarted.into()) };
        let generation = self.monitor.generation();
        let network = config.network()?;
        let chain = Chain::new(ChainConfig::new(&network))?;
        let watch = {
            let _context = endpoints.runtime.enter();
            MetagraphWatch::start(chain.clone(), config.netuid, config.sync_interval)?
        };
        let first = watch.first_attempt().await?;
        let choice = Choice {
            filter: config.filter_for(&chain, &network),
            check_tls_keys: config.check_tls_keys,
            own: self.dialler.validator(),
        };
        let Some(dialling) = self.monitor.begin(generation, &endpoints.runtime, watch, choice, &first) else {
            return Err(LightningError::Connection("stopped before the first sync was done".to_owned()));
        };
        info!("following subnet {} from block {}", config.netuid, first.metagraph.block);
        registry::settled(dialling, self.dials_take()).await;
        Ok(())
    }
}
