//! A validator of the demo.

use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning::metagraph::{MetagraphMonitorConfig, MetagraphStatus};
use btlightning::{Hotkey, LightningClient, LightningClientConfig, Peer, PeerState, Sr25519Signer};
use tokio::time::{sleep, timeout};

use super::report::Outcome;
use super::subnet::{NETUID, SYNC_INTERVAL};

/// How long something may take that takes milliseconds on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that follows the subnet.
pub(super) struct Validator {
    pub(super) hotkey: Hotkey,
    pub(super) client: Arc<LightningClient>,
}

impl Validator {
    /// Connects to every miner that the chain names.
    pub(super) async fn start(seed: [u8; 32], chain_url: String) -> Outcome<Self> {
        let signer = Sr25519Signer::from_seed(seed);
        let hotkey = signer.hotkey();
        let config = LightningClientConfig {
            query_timeout: Duration::from_secs(20),
            metagraph: Some(MetagraphMonitorConfig::new(NETUID, chain_url, SYNC_INTERVAL)),
            ..Default::default()
        };
        let mut client = LightningClient::with_config(hotkey.to_string(), config)?;
        client.set_signer(Box::new(signer));
        client.initialize_connections(vec![]).await?;
        Ok(Self { hotkey, client: Arc::new(client) })
    }

    pub(super) fn status(&self) -> Outcome<MetagraphStatus> {
        self.client.metagraph_status().ok_or_else(|| "the validator follows no metagraph".into())
    }

    pub(super) fn path_to(&self, miner: &Hotkey) -> Outcome<Duration> {
        match self.client.peer_state(miner) {
            Some(PeerState::Connected { path_rtt, .. }) => Ok(path_rtt),
            other => Err(format!("{miner} is not connected: {other:?}").into()),
        }
    }

    /// Waits until the state of the peers is as it should be; how long that took.
    pub(super) async fn until_peers(
        &self,
        what: &str,
        are_so: impl Fn(&[Peer]) -> bool + Send,
    ) -> Outcome<Duration> {
        let mut changes = self.client.peer_changes();
        let began = Instant::now();
        let waiting = async {
            // Whoever lags has missed changes, but looks at all peers again anyway.
            while !are_so(&self.client.peers()) && changes.next().await.is_some() {}
        };
        match timeout(PATIENCE, waiting).await {
            Ok(()) => Ok(began.elapsed()),
            Err(_) => Err(format!("this does not hold after {PATIENCE:?}: {what}").into()),
        }
    }

    /// Waits until the metagraph's status is as it should be. The client tells no change of it, so this looks often.
    pub(super) async fn until_status(
        &self,
        what: &str,
        is_so: impl Fn(&MetagraphStatus) -> bool + Send,
    ) -> Outcome<MetagraphStatus> {
        let began = Instant::now();
        loop {
            let status = self.status()?;
            if is_so(&status) {
                return Ok(status);
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("this does not hold after {PATIENCE:?}: {what}: {status:?}").into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
