//! The published calls, on top of the newer ones: dynamic payloads, and errors with a class and a sentence.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::identity::Hotkey;
use btlightning_proto::peers::QuicAxonInfo;
use btlightning_proto::wire::{QuicRequest, QuicResponse};
use tokio::time::Instant;
use tracing::info;

use super::call::{self, CallOptions};
use super::error::CallError;
use super::request::RawRequest;
use super::slot::SlotState;
use super::stream::{self, StreamingResponse};
use super::{LightningClient, LightningClientConfig, registry, udp};
use crate::error::{LightningError, Result};
use crate::signing::Signer;

/// How long an orderly close waits until the peers have heard of it.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

impl LightningClient {
    /// A client with the default configuration for the validator with this hotkey (SS58).
    ///
    /// # Panics
    /// When the operating system gives no thread for signature work; [`with_config`](Self::with_config) reports that
    /// as an error.
    pub fn new(wallet_hotkey: String) -> Self {
        match Self::with_config(wallet_hotkey, LightningClientConfig::default()) {
            Ok(client) => client,
            Err(error) => panic!("a client with the default configuration: {error}"),
        }
    }

    /// A client with a configuration.
    ///
    /// # Errors
    /// `Config` when a setting is out of its bounds. A hotkey that is not valid is reported by the first dial.
    pub fn with_config(wallet_hotkey: String, config: LightningClientConfig) -> Result<Self> {
        Self::with_network(wallet_hotkey, config, udp())
    }

    /// Who signs for the validator's hotkey. Without one every dial fails.
    pub fn set_signer(&mut self, signer: Box<dyn Signer>) {
        self.sign_with(Arc::from(signer));
    }

    /// Signs with a hotkey from wallet files: `wallet_path/wallet_name/hotkeys/hotkey_name`.
    ///
    /// # Errors
    /// `Signing` when the file is not there, or is encrypted and the environment has no password for it.
    #[cfg(feature = "btwallet")]
    pub fn set_wallet(&mut self, wallet_name: &str, wallet_path: &str, hotkey_name: &str) -> Result<()> {
        let signer = crate::signing::BtWalletSigner::from_wallet(wallet_name, wallet_path, hotkey_name)?;
        self.set_signer(Box::new(signer));
        Ok(())
    }

    /// Binds the UDP sockets, IPv4 and IPv6, on the current tokio runtime. Does nothing the second time.
    ///
    /// # Errors
    /// `Connection` when there is no socket of either family; `Config` when the idle timeout is too long for QUIC.
    pub async fn create_endpoint(&mut self) -> Result<()> {
        self.open()
    }

    /// Wants `miners` besides those that are wanted already, and dials them all at once. Returns when every dial has
    /// come to an end, after at most `connect_timeout`; dials that failed go on in the background.
    ///
    /// Entries that cannot be dialled and those beyond `max_connections` are logged and left out. Cancel-safe: the dials
    /// go on.
    ///
    /// With a `metagraph` in the configuration (feature `subtensor`) the first call also follows that subnet: see
    /// `start_metagraph_monitor`, whose time and errors are then this call's, too.
    ///
    /// # Errors
    /// `Signing` without a signer; otherwise as [`create_endpoint`](Self::create_endpoint). A miner that cannot be
    /// reached is no error: see [`peers`](Self::peers).
    pub async fn initialize_connections(&mut self, miners: Vec<QuicAxonInfo>) -> Result<()> {
        self.connect(miners).await
    }

    /// Wants exactly `miners` from now on: dials the new ones, closes those that are gone, moves those whose address has
    /// changed, and dials at once those whose connection is down. Returns as
    /// [`initialize_connections`](Self::initialize_connections) does.
    ///
    /// # Errors
    /// `Connection` before there is an endpoint.
    pub async fn update_miner_registry(&self, miners: Vec<QuicAxonInfo>) -> Result<()> {
        if self.dialler.endpoints().is_none() {
            return Err(CallError::NotStarted.into());
        }
        #[cfg(feature = "subtensor")]
        self.monitor.keep_named(&miners);
        registry::settled(self.registry.replace(miners), self.dials_take()).await;
        Ok(())
    }

    /// Asks a miner and waits for the whole answer, for at most `query_timeout`. A miner that is not in the registry is
    /// dialled. Cancel-safe as [`call`](Self::call).
    ///
    /// A miner's failure is an `Ok` with `success: false`; see [`QuicResponse::into_result`].
    ///
    /// # Errors
    /// `Connection` and `Handshake` when there is no proven connection, `Transport` when the exchange failed or the time
    /// was up, `Serialization` when request or answer cannot be encoded or decoded.
    pub async fn query_axon(&self, axon_info: QuicAxonInfo, request: QuicRequest) -> Result<QuicResponse> {
        self.query(axon_info, request, CallOptions::new()).await
    }

    /// [`query_axon`](Self::query_axon) that takes at most `timeout`, the wait for a connection included.
    ///
    /// # Errors
    /// As [`query_axon`](Self::query_axon).
    pub async fn query_axon_with_timeout(
        &self,
        axon_info: QuicAxonInfo,
        request: QuicRequest,
        timeout: Duration,
    ) -> Result<QuicResponse> {
        self.query(axon_info, request, CallOptions::new().timeout(timeout)).await
    }

    /// Asks a miner for an answer in chunks. Returns when the request has gone out, after at most `query_timeout`. What the
    /// miner says to it is told by [`StreamingResponse::next_chunk`].
    ///
    /// # Errors
    /// As [`query_axon`](Self::query_axon).
    pub async fn query_axon_stream(
        &self,
        axon_info: QuicAxonInfo,
        request: QuicRequest,
    ) -> Result<StreamingResponse> {
        let asked = Instant::now();
        let request = self.encode_dynamic(request)?;
        let route = self.registry.route(&axon_info)?;
        let options = CallOptions::new();
        Ok(StreamingResponse::new(stream::open(&self.config, &route, &request, options, asked).await?))
    }

    /// The hotkeys in the registry that have proven to be at their address. One stays listed while its connection is
    /// being made again.
    pub async fn authenticated_hotkeys(&self) -> HashSet<String> {
        self.authenticated().iter().map(Hotkey::to_string).collect()
    }

    /// Figures as text: `total_connections` (live ones), `active_miners` (as many as
    /// [`authenticated_hotkeys`](Self::authenticated_hotkeys)), and for each address `connection_{ip:port}`: `active`,
    /// `connecting` or `closed(why)`. Programs read [`peers`](Self::peers) instead.
    ///
    /// # Errors
    /// None.
    pub async fn get_connection_stats(&self) -> Result<HashMap<String, String>> {
        let slots = self.registry.slots();
        let live = slots.iter().filter(|slot| matches!(slot.state(), SlotState::Connected(_))).count();
        let mut stats = HashMap::from([
            ("total_connections".to_owned(), live.to_string()),
            ("active_miners".to_owned(), self.authenticated().len().to_string()),
        ]);
        for slot in slots {
            let words = match slot.state() {
                SlotState::Connected(_) => "active".to_owned(),
                SlotState::Connecting { .. } => "connecting".to_owned(),
                SlotState::Waiting { reason, .. } => format!("closed({reason})"),
                SlotState::Closed => "closed".to_owned(),
            };
            stats.insert(format!("connection_{}", slot.addr), words);
        }
        Ok(stats)
    }

    /// Closes every connection (`client_shutdown`), forgets all miners, and follows no metagraph any more. Waits up to a second until the peers have
    /// heard of it. Queries that are out fail; the client can be used again.
    ///
    /// # Errors
    /// None.
    pub async fn close_all_connections(&self) -> Result<()> {
        self.forget_everyone();
        // The supervisors close their links when they run next; what they have closed by then is waited for.
        tokio::task::yield_now().await;
        if let Some(endpoints) = self.dialler.endpoints() {
            let _ = tokio::time::timeout(CLOSE_GRACE, endpoints.drained()).await;
        }
        info!("all connections are closed");
        Ok(())
    }

    async fn query(
        &self,
        axon_info: QuicAxonInfo,
        request: QuicRequest,
        options: CallOptions,
    ) -> Result<QuicResponse> {
        let asked = Instant::now();
        let request = self.encode_dynamic(request)?;
        let route = self.registry.route(&axon_info)?;
        let bounds = options.bounds(&self.config, asked);
        let reply = call::unary(&route, &request, &bounds, asked).await?;
        let latency_ms = reply.timings.last_byte.as_secs_f64() * 1000.0;
        Ok(QuicResponse::from_envelope(reply.envelope, latency_ms)?)
    }

    /// [`set_signer`](Self::set_signer) for a client that is shared.
    pub fn sign_with(&self, signer: Arc<dyn Signer>) {
        self.dialler.set_signer(signer);
    }

    /// [`create_endpoint`](Self::create_endpoint) for a client that is shared. To be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`create_endpoint`](Self::create_endpoint).
    pub fn open(&self) -> Result<()> {
        self.dialler.open()
    }

    /// [`initialize_connections`](Self::initialize_connections) for a client that is shared.
    ///
    /// # Errors
    /// As [`initialize_connections`](Self::initialize_connections).
    pub async fn connect(&self, miners: Vec<QuicAxonInfo>) -> Result<()> {
        self.open()?;
        if self.dialler.signer().is_none() {
            return Err(LightningError::Signing("No signer configured".to_owned()));
        }
        #[cfg(feature = "subtensor")]
        self.monitor.name(&miners);
        let dialling = self.registry.add(miners);
        #[cfg(feature = "subtensor")]
        if self.follow_configured().await? {
            // That has waited for these dials, too.
            return Ok(());
        }
        registry::settled(dialling, self.dials_take()).await;
        Ok(())
    }

    /// Wants exactly `miners` from now on, as [`update_miner_registry`](Self::update_miner_registry) does, but waits for no
    /// dial, and leaves those that are down to their back-off. For lists that are read again and again, such as a
    /// metagraph: a miner that never answers is then probed ever more slowly, however often it is named.
    ///
    /// # Errors
    /// `Connection` before there is an endpoint.
    pub fn follow_miners(&self, miners: Vec<QuicAxonInfo>) -> Result<()> {
        if self.dialler.endpoints().is_none() {
            return Err(CallError::NotStarted.into());
        }
        #[cfg(feature = "subtensor")]
        self.monitor.keep_named(&miners);
        self.registry.follow(miners);
        Ok(())
    }

    /// How long dials that began now may take at most, and a moment for their supervisors to say so.
    pub(super) fn dials_take(&self) -> Duration {
        self.config.connect_timeout.saturating_add(Duration::from_millis(250))
    }

    fn encode_dynamic(&self, request: QuicRequest) -> std::result::Result<RawRequest, CallError> {
        let QuicRequest { synapse_type, data } = request;
        let max = self.config.max_frame_payload_bytes;
        Ok(RawRequest::encode(&synapse_type, max, |out| out.map(data))?)
    }

    fn authenticated(&self) -> HashSet<Hotkey> {
        self.registry.slots().into_iter().filter_map(|slot| slot.authenticated()).collect()
    }
}
