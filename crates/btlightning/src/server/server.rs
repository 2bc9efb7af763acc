//! [`LightningServer`], the miner's side.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::identity::TlsKeyPin;
use tokio::time::Instant;
use tracing::info;

use super::config::LightningServerConfig;
use super::handler::Handler;
use super::learned::LearnedSources;
use super::lifecycle::Lifecycle;
use super::published::{
    AsyncSynapseHandler, HandshakeObserver, SourceAddressResolver, StreamingSynapseHandler, SynapseHandler,
    ValidatorPermitResolver, from_async, from_streaming, from_sync,
};
use super::shared::Shared;
#[cfg(feature = "subtensor")]
use super::subnet::AxonSigner;
use crate::error::Result;
use crate::signing::{Signer, Sr25519Signer};
use crate::transport::close::printable;
use crate::transport::network::{Network, UdpNetwork};
use crate::util::unix_timestamp_secs;

/// A miner: accepts validators' connections and answers their requests.
///
/// Make one, tell it how to sign and what to answer, [`start`](Self::start) it, and [`serve`](Self::serve_forever).
/// Everything but the `set_` methods and `start` takes `&self`, so that a server in an `Arc` serves in one task and is
/// told things, and stopped, from others.
///
/// ```no_run
/// use btlightning::LightningServer;
/// use btlightning::server::{Caller, Handler};
/// # #[derive(serde::Deserialize)] struct Ask { text: String }
/// # #[derive(serde::Serialize)] struct Answer { text: String }
/// # async fn run(seed: [u8; 32]) -> btlightning::Result<()> {
/// let mut server = LightningServer::new("5F...".into(), "0.0.0.0".into(), 8443)?;
/// server.set_miner_keypair(seed);
/// server.register("echo", Handler::typed(|caller: Caller, ask: Ask| async move {
///     println!("{} asks", caller.hotkey);
///     Ok::<_, String>(Answer { text: ask.text })
/// }));
/// server.start().await?;
/// server.serve_forever().await
/// # }
/// ```
///
/// Dropped without being [stopped](Self::stop), it closes its connections at once.
pub struct LightningServer {
    pub(super) shared: Arc<Shared>,
    pub(super) lifecycle: Lifecycle,
    host: String,
    port: u16,
}

impl LightningServer {
    /// A server with the default configuration; see [`with_config`](Self::with_config).
    ///
    /// # Errors
    /// None with this configuration.
    pub fn new(miner_hotkey: String, host: String, port: u16) -> Result<Self> {
        Self::with_config(miner_hotkey, host, port, LightningServerConfig::default())
    }

    /// A server that will prove to be `miner_hotkey`, in SS58, and listen on `host`: an IPv4 or IPv6 address, or
    /// `localhost`. `::` serves IPv4 too where the system can. Port 0 picks a free one.
    ///
    /// # Errors
    /// [`Config`](crate::LightningError::Config) names the first setting that is out of its bounds. The hotkey and the
    /// host are looked at by [`start`](Self::start).
    pub fn with_config(
        miner_hotkey: String,
        host: String,
        port: u16,
        config: LightningServerConfig,
    ) -> Result<Self> {
        Self::with_network(miner_hotkey, host, port, config, Arc::new(UdpNetwork))
    }

    /// As [`with_config`](Self::with_config), on sockets that `network` makes.
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    #[doc(hidden)]
    pub fn with_network(
        miner_hotkey: String,
        host: String,
        port: u16,
        config: LightningServerConfig,
        network: Arc<dyn Network>,
    ) -> Result<Self> {
        config.validate()?;
        let shared = Arc::new(Shared::new(miner_hotkey, config, network));
        Ok(Self { shared, lifecycle: Lifecycle::default(), host, port })
    }

    /// Signs with the key pair of this 32-byte seed.
    pub fn set_miner_keypair(&mut self, keypair_bytes: [u8; 32]) {
        self.shared.signer.set(Arc::new(Sr25519Signer::from_seed(keypair_bytes)));
    }

    /// Signs with `signer`, which may take its time: it is called on a thread of its own, one call after another. Where it
    /// says that it [is immediate](Signer::is_immediate), it is called on the threads that move packets.
    pub fn set_miner_signer(&mut self, signer: Box<dyn Signer>) {
        self.sign_with(signer.into());
    }

    /// Signs with the hotkey in a Bittensor wallet's files; see [`BtWalletSigner::from_wallet`].
    ///
    /// # Errors
    /// `Signing` when there is no such hotkey, or it cannot be read.
    ///
    /// [`BtWalletSigner::from_wallet`]: crate::signing::BtWalletSigner::from_wallet
    #[cfg(feature = "btwallet")]
    pub fn set_miner_wallet(
        &mut self,
        wallet_name: &str,
        wallet_path: &str,
        hotkey_name: &str,
    ) -> Result<()> {
        let signer = crate::signing::BtWalletSigner::from_wallet(wallet_name, wallet_path, hotkey_name)?;
        self.set_miner_signer(Box::new(signer));
        Ok(())
    }

    /// Asks `resolver` who holds a permit. Without `require_validator_permit` the answer only counts in
    /// [`get_permitted_validator_count`](Self::get_permitted_validator_count) and for the handshake limiter.
    pub fn set_validator_permit_resolver(&mut self, resolver: Box<dyn ValidatorPermitResolver>) {
        self.resolve_permits_with(resolver.into());
    }

    /// Asks `resolver` which addresses may connect. Without `enforce_source_allowlist` the answer is only counted.
    pub fn set_source_address_resolver(&mut self, resolver: Box<dyn SourceAddressResolver>) {
        self.resolve_sources_with(resolver.into());
    }

    /// Finds out by itself which addresses may connect; see [`LearnedSources`]. Without `enforce_source_allowlist` it is a
    /// rehearsal. Not together with a resolver of addresses.
    pub fn set_learned_sources(&mut self, sources: LearnedSources) {
        self.learn_sources(sources);
    }

    /// Tells `observer` of each accepted handshake.
    pub fn set_handshake_observer(&mut self, observer: Arc<dyn HandshakeObserver>) {
        self.tell_handshakes_to(observer);
    }

    /// Keeps the TLS key in the file at `path`, so that clients can [know it in advance](Self::tls_key_pin). Read at each
    /// [`start`](Self::start); by default each start has a new key.
    ///
    /// The file is an ECDSA key on P-256 as PKCS#8 in PEM. If it is not there, the start makes it, with mode 0600 and all
    /// at once; its directory must exist. A file that others may read is warned of.
    pub fn set_tls_key_file(&mut self, path: impl Into<PathBuf>) {
        self.keep_tls_key_in(path);
    }

    /// [`set_tls_key_file`](Self::set_tls_key_file) for a server that is shared.
    pub fn keep_tls_key_in(&self, path: impl Into<PathBuf>) {
        self.shared.tls_key_file.set(path.into().into());
    }

    /// [`set_miner_signer`](Self::set_miner_signer) for a server that is shared.
    pub fn sign_with(&self, signer: Arc<dyn Signer>) {
        self.shared.signer.set(signer);
    }

    /// [`set_validator_permit_resolver`](Self::set_validator_permit_resolver) for a server that is shared.
    pub fn resolve_permits_with(&self, resolver: Arc<dyn ValidatorPermitResolver>) {
        self.shared.permit_resolver.set(resolver);
    }

    /// [`set_source_address_resolver`](Self::set_source_address_resolver) for a server that is shared.
    pub fn resolve_sources_with(&self, resolver: Arc<dyn SourceAddressResolver>) {
        self.shared.source_resolver.set(resolver);
    }

    /// [`set_learned_sources`](Self::set_learned_sources) for a server that is shared. Set before
    /// [`serve_forever`](Self::serve_forever) is called.
    pub fn learn_sources(&self, sources: LearnedSources) {
        self.shared.learned.set(sources.0);
    }

    /// [`set_handshake_observer`](Self::set_handshake_observer) for a server that is shared.
    pub fn tell_handshakes_to(&self, observer: Arc<dyn HandshakeObserver>) {
        self.shared.observer.set(observer);
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The miner, if the hotkey that it was made with is one.
    #[cfg(feature = "subtensor")]
    pub(super) fn hotkey(
        &self,
    ) -> std::result::Result<crate::Hotkey, btlightning_proto::identity::HotkeyError> {
        self.shared.miner
    }

    #[cfg(feature = "subtensor")]
    pub(super) fn keeps_tls_key(&self) -> bool {
        self.shared.tls_key_file.get().is_some()
    }

    #[cfg(feature = "subtensor")]
    pub(super) fn signer(&self) -> Option<Arc<dyn Signer>> {
        self.shared.signer.get()
    }

    #[cfg(feature = "subtensor")]
    pub(super) fn axon_signer(&self) -> &AxonSigner {
        &self.shared.axon_signer
    }

    /// Answers requests named `name` with `handler`, from now on. Hands out the handler that the name had before,
    /// whatever its kind; calls that it has begun end as they would have.
    pub fn register(&self, name: impl Into<String>, handler: Handler) -> Option<Handler> {
        self.shared.handlers.register(name.into(), handler)
    }

    /// Answers no more requests named `name`: their callers read `unrecognized synapse type`.
    pub fn unregister(&self, name: &str) -> Option<Handler> {
        self.shared.handlers.unregister(name)
    }

    /// Registers a handler that may block, in place of whatever had the name.
    ///
    /// # Errors
    /// None.
    pub async fn register_synapse_handler(
        &self,
        synapse_type: String,
        handler: Arc<dyn SynapseHandler>,
    ) -> Result<()> {
        info!("Registered synapse handler for: {}", printable(synapse_type.as_bytes()));
        self.register(synapse_type, from_sync(handler));
        Ok(())
    }

    /// Registers an asynchronous handler, in place of whatever had the name.
    ///
    /// # Errors
    /// None.
    pub async fn register_async_synapse_handler(
        &self,
        synapse_type: String,
        handler: Arc<dyn AsyncSynapseHandler>,
    ) -> Result<()> {
        info!("Registered async synapse handler for: {}", printable(synapse_type.as_bytes()));
        self.register(synapse_type, from_async(handler));
        Ok(())
    }

    /// Registers a handler that answers in chunks, in place of whatever had the name.
    ///
    /// # Errors
    /// None.
    pub async fn register_streaming_handler(
        &self,
        synapse_type: String,
        handler: Arc<dyn StreamingSynapseHandler>,
    ) -> Result<()> {
        info!("Registered streaming handler for: {}", printable(synapse_type.as_bytes()));
        self.register(synapse_type, from_streaming(handler));
        Ok(())
    }

    /// Makes a certificate and binds the socket; connections are accepted once
    /// [`serve_forever`](Self::serve_forever) is called. Started again, the server gets a new certificate and socket,
    /// and what it served before is cut off.
    ///
    /// A port that this server has just been stopped on is waited for, up to 2 s. Dropping the future starts nothing.
    ///
    /// # Errors
    /// [`Config`](crate::LightningError::Config) when the host is no address, the address cannot be bound, QUIC cannot be
    /// set up, or the [TLS key file](Self::set_tls_key_file) can be neither read nor made.
    pub async fn start(&mut self) -> Result<()> {
        self.listen().await
    }

    /// [`start`](Self::start) for a server that is shared.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn listen(&self) -> Result<()> {
        info!("Starting Lightning QUIC server on {}:{}", printable(self.host.as_bytes()), self.port);
        let local_addr = self.lifecycle.start(&self.shared, &self.host, self.port).await?;
        info!("QUIC endpoint created, listening on {local_addr}");
        Ok(())
    }

    /// Accepts connections until the server is [stopped](Self::stop); at once after a stop. Where a permit or an
    /// allowed address is required, nobody is accepted before the resolver has answered for the first time.
    ///
    /// Several calls at once share the work. Dropping the future stops accepting; connections that were accepted are
    /// served on, until [`stop`](Self::stop) or the drop of the server.
    ///
    /// # Errors
    /// [`Config`](crate::LightningError::Config) before [`start`](Self::start), and when something is required of a
    /// resolver that is not set, or addresses are both resolved and learned.
    pub async fn serve_forever(&self) -> Result<()> {
        self.lifecycle.serve(&self.shared).await
    }

    /// Stops: nothing new is accepted, answers in flight may finish and arrive within `shutdown_grace_secs`, then every
    /// connection is closed (`server_shutdown`). Returns when that is done, at most 2 s after the grace; at once if the
    /// server does not run, or is being stopped by another call.
    ///
    /// If the future is dropped, no new connection is accepted all the same, and those that are open close themselves
    /// when their answers are done or the grace is over.
    ///
    /// # Errors
    /// None.
    pub async fn stop(&self) -> Result<()> {
        self.lifecycle.stop(&self.shared).await;
        info!("Lightning QUIC server stopped, all connections closed");
        Ok(())
    }

    /// The address that the server listens on, with the real port; after a stop, the one it listened on.
    ///
    /// # Errors
    /// [`Config`](crate::LightningError::Config) before [`start`](Self::start).
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.lifecycle.local_addr()
    }

    /// What clients can know this server's TLS key by, before they send anything: see
    /// [`pin_tls_keys`](crate::LightningClient::pin_tls_keys). `None` before the first start, and without a
    /// [key file](Self::set_tls_key_file), for the next start would have another key. After a stop, as before it.
    pub fn tls_key_pin(&self) -> Option<TlsKeyPin> {
        self.lifecycle.tls_key_pin()
    }

    /// `total_connections` and `verified_connections`, both the number of authenticated connections, and for each
    /// validator `connection_{hotkey}`, the name of its newest connection.
    ///
    /// # Errors
    /// None.
    pub async fn get_connection_stats(&self) -> Result<HashMap<String, String>> {
        let names = self.shared.directory.names();
        let count = names.len().to_string();
        let mut stats = HashMap::from([
            ("total_connections".to_owned(), count.clone()),
            ("verified_connections".to_owned(), count),
        ]);
        stats.extend(names.into_iter().map(|(hotkey, name)| (format!("connection_{hotkey}"), name)));
        Ok(stats)
    }

    /// Closes authenticated connections (`cleanup`) on which no request was in flight for longer than
    /// `max_idle_seconds`.
    ///
    /// # Errors
    /// None.
    pub async fn cleanup_stale_connections(&self, max_idle_seconds: u64) -> Result<()> {
        let idle_max = Duration::from_secs(max_idle_seconds);
        for hotkey in self.shared.directory.close_idle(idle_max, Instant::now()) {
            info!("Cleaned up stale connection from validator: {hotkey}");
        }
        Ok(())
    }

    /// How many spent nonces are remembered.
    pub async fn get_active_nonce_count(&self) -> usize {
        self.shared.replay().len()
    }

    /// How many validators hold a permit, as the resolver last said.
    pub async fn get_permitted_validator_count(&self) -> usize {
        self.shared.permits.current().len()
    }

    /// How many addresses the resolver last named, or are enforced as [learned](LearnedSources); zero for a bypass.
    pub async fn get_allowed_source_count(&self) -> usize {
        self.shared.allowed().len()
    }

    /// Whether the resolver of addresses last said that everybody may connect, or sources are still being
    /// [learned](LearnedSources).
    pub async fn is_source_enforcement_bypassed(&self) -> bool {
        self.shared.allowed().is_bypass()
    }

    /// Forgets spent nonces that can no longer be replayed. The server does so by itself every
    /// `nonce_cleanup_interval_secs`.
    pub async fn cleanup_expired_nonces(&self) {
        self.shared.replay().expire(unix_timestamp_secs());
    }
}

impl Drop for LightningServer {
    fn drop(&mut self) {
        self.lifecycle.abandon();
    }
}
