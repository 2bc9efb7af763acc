//! What a miner wants of the chain: who may validate, and to be found.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use btlightning_chain::chain::Chain;
use btlightning_chain::miners::permitted_hotkeys;
use btlightning_chain::publish::{Axon, HotkeySigner, PublishError, Published, Publisher};
use btlightning_chain::watch::{MetagraphWatch, Snapshot};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::learned::PermittedStakes;
use super::published::ValidatorPermitResolver;
use super::server::LightningServer;
use crate::Hotkey;
use crate::error::{LightningError, Result};
use crate::signing::Signer;

/// Stakes that were read longer ago than this, and than two intervals of the watch, are not told as if they were today's.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

/// The validator permits of a subnet, as the chain has them. Both a [`ValidatorPermitResolver`] and the
/// [`PermittedStakes`] that [`LearnedSources`](super::LearnedSources) ask for; a server that has it looks again after every
/// sync, and closes the connections of those who have lost their permit.
///
/// ```no_run
/// # async fn example(hotkey: String) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use btlightning::metagraph::{Chain, ChainConfig, MetagraphWatch, Network, SubnetPermits};
/// use btlightning::{LearnedSources, LightningServer, LightningServerConfig};
///
/// let config = LightningServerConfig::builder()
///     .require_validator_permit(true)
///     .enforce_source_allowlist(true)
///     .build()?;
/// let mut server = LightningServer::with_config(hotkey, "0.0.0.0".into(), 8443, config)?;
/// let chain = Chain::new(ChainConfig::new(&Network::from_env()?))?;
/// let subnet = MetagraphWatch::start(chain, 2, Duration::from_secs(600))?;
/// let permits = SubnetPermits::of(&subnet).min_stake(1_000_000_000_000);
/// server.set_validator_permit_resolver(Box::new(permits.clone()));
/// server.learn_sources(LearnedSources::builder(permits).build()?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SubnetPermits {
    watch: MetagraphWatch,
    stake_min: u64,
}

impl SubnetPermits {
    /// Everybody who holds a permit in the subnet that `watch` keeps in sync.
    pub fn of(watch: &MetagraphWatch) -> Self {
        Self { watch: watch.clone(), stake_min: 0 }
    }

    /// Only those with at least so much stake, in rao of the subnet's alpha. Default: 0.
    #[must_use]
    pub fn min_stake(mut self, rao: u64) -> Self {
        self.stake_min = rao;
        self
    }

    fn holders(&self, snapshot: &Snapshot) -> Vec<(Hotkey, u64)> {
        permitted_hotkeys(&snapshot.metagraph, self.stake_min)
    }

    /// The last metagraph; where there is none yet, what comes of the first attempt to read one.
    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.watch.latest() {
            return Ok(snapshot);
        }
        let runtime = Handle::try_current()
            .map_err(|_| LightningError::Config("the metagraph has not been read yet".to_owned()))?;
        Ok(runtime.block_on(self.watch.first_attempt())?)
    }
}

impl ValidatorPermitResolver for SubnetPermits {
    /// The last metagraph's holders, however old it is; before there is one, waits for the first attempt to read it. To be
    /// called where blocking is allowed, as the server does.
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        let snapshot = self.snapshot()?;
        Ok(self.holders(&snapshot).into_iter().map(|(hotkey, _)| hotkey.to_string()).collect())
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        Some(self.watch.syncs())
    }
}

impl PermittedStakes for SubnetPermits {
    /// The holders with their stake, in rao of the subnet's alpha; `None` before the first sync, and once the last one is
    /// older than an hour and than two intervals.
    fn permitted_stakes(&self) -> Option<Arc<[(Hotkey, u64)]>> {
        let snapshot = self.watch.latest()?;
        let fresh = STALE_AFTER.max(self.watch.interval().saturating_mul(2));
        (snapshot.age() <= fresh).then(|| self.holders(&snapshot).into())
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        Some(self.watch.syncs())
    }
}

impl fmt::Debug for SubnetPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubnetPermits")
            .field("netuid", &self.watch.netuid())
            .field("stake_min", &self.stake_min)
            .finish_non_exhaustive()
    }
}

impl LightningServer {
    /// Says on the chain that this miner is at `axon`: the address and port that validators dial, which need not be those
    /// that the server is bound to. With a [TLS key file](Self::set_tls_key_file) and once started, the pin of its key is
    /// published, too; without such a file, a pin that the chain has is taken back. Nothing is submitted if the chain has
    /// all that already.
    ///
    /// Takes as long as [`Publisher::publish`] may; [`publisher`](Self::publisher) has its knobs, and resets an axon.
    ///
    /// # Errors
    /// As [`Publisher::publish`]; [`PublishError::Signer`] without a signer.
    ///
    /// # Cancel safety
    /// As [`Publisher::publish`].
    pub async fn publish_axon(
        &self,
        chain: &Chain,
        netuid: u16,
        axon: Axon,
    ) -> std::result::Result<Published, PublishError> {
        let publisher = self.publisher(chain, netuid)?;
        match self.tls_key_pin() {
            Some(pin) => publisher.publish_with_tls_key(axon, pin).await,
            // The key is known once the server has started; until then what the chain has of it stays.
            None if self.keeps_tls_key() => publisher.publish(axon).await,
            // A pin of a key that this server will never show would keep every validator away.
            None => publisher.publish_without_tls_key(axon).await,
        }
    }

    /// Publishes for this server's hotkey, signed by its signer. All publishers of a server ask that one call at a time.
    ///
    /// # Errors
    /// [`PublishError::Signer`] if there is no signer yet, or if the server's own hotkey is not valid.
    pub fn publisher(&self, chain: &Chain, netuid: u16) -> std::result::Result<Publisher, PublishError> {
        let failed = |reason: String| PublishError::Signer { reason };
        let hotkey = self.hotkey().map_err(|error| failed(format!("the server's own hotkey: {error}")))?;
        let signer = self.axon_signer().current(hotkey, || self.signer());
        let signer = signer.ok_or_else(|| failed("no miner signer configured".to_owned()))?;
        Ok(Publisher::new(chain, netuid, signer))
    }
}

/// The server's signer as publishers ask it: the same for all of them, so that they take turns.
#[derive(Default)]
pub(super) struct AxonSigner(Mutex<Option<(Arc<dyn Signer>, HotkeySigner)>>);

impl AxonSigner {
    /// That of the signer which `set` says the server has now.
    fn current(&self, hotkey: Hotkey, set: impl FnOnce() -> Option<Arc<dyn Signer>>) -> Option<HotkeySigner> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let signer = set()?;
        if let Some((asked, turns)) = &*kept
            && Arc::ptr_eq(asked, &signer)
        {
            return Some(turns.clone());
        }
        let asked = signer.clone();
        let turns =
            HotkeySigner::new(hotkey, move |payload| asked.sign(payload).map_err(|error| error.to_string()));
        let before = kept.replace((signer, turns.clone()));
        // Dropped with the lock free again: it is somebody else's code.
        drop(kept);
        drop(before);
        Some(turns)
    }
}
