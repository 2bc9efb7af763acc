//! The validator's side: connections to many miners, kept up by supervisors, and the calls made over them.
//!
//! [`LightningClient`] is the door. Behind it every address has a `slot` with a `supervisor`, which alone has the `dialler`
//! dial it; a call finds its `route`, waits on the slot where that makes sense, and makes one `exchange`.

mod ask;
mod call;
mod config;
mod deadline;
mod dial_error;
mod dialler;
mod endpoints;
mod ends;
mod error;
mod exchange;
mod fan_out;
mod knock;
mod known;
mod link;
#[cfg(feature = "subtensor")]
mod monitor;
mod names;
mod peers;
mod pins;
mod published;
mod raw;
mod registry;
mod reply;
mod request;
mod route;
mod slot;
mod stream;
mod supervisor;

use std::collections::HashMap;
use std::sync::Arc;

use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub use self::call::CallOptions;
pub use self::config::{LightningClientConfig, LightningClientConfigBuilder};
pub use self::dial_error::DialError;
use self::dialler::Dialler;
pub use self::error::{CallError, PeerError, Phase};
pub use self::fan_out::{Answered, FanOut};
#[cfg(feature = "subtensor")]
pub use self::monitor::{MetagraphMonitorConfig, MetagraphStatus};
pub use self::names::NamesMiner;
use self::peers::PeerFeed;
pub use self::peers::{PEER_CHANGES_MAX, Peer, PeerChanges, PeerChangesLagged, PeerState};
pub use self::pins::TLS_KEY_PINS_MAX;
use self::registry::Registry;
pub use self::reply::{RawReply, Reply, Timings};
pub use self::request::RawRequest;
pub use self::stream::{ChunkStream, StreamingResponse};
use self::supervisor::Supervision;
use crate::error::Result;
use crate::limits::require;
use crate::transport::close::CloseReason;
use crate::transport::network::{Network, UdpNetwork};

/// A validator's connections to its miners.
///
/// Set a signer, name the miners, ask them:
///
/// ```no_run
/// # async fn example(seed: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
/// use btlightning::{LightningClient, QuicAxonInfo, Sr25519Signer};
///
/// #[derive(serde::Serialize)]
/// struct Question { prompt: String }
/// #[derive(serde::Deserialize)]
/// struct Answer { text: String }
///
/// let hotkey = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
/// let miner = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty";
/// let mut client = LightningClient::new(hotkey.into());
/// client.set_signer(Box::new(Sr25519Signer::from_seed(seed)));
/// client.initialize_connections(vec![QuicAxonInfo::new(miner.into(), "192.0.2.7".into(), 8443, 4)]).await?;
///
/// let reply = client.call::<_, Answer>(miner, "Ask", &Question { prompt: "why?".into() }).await?;
/// println!("{} after {:?}", reply.value.text, reply.timings.last_byte);
/// client.close_all_connections().await?;
/// # Ok(()) }
/// ```
///
/// Dropping the client closes its connections, without waiting until the peers have heard of it.
pub struct LightningClient {
    config: LightningClientConfig,
    dialler: Arc<Dialler>,
    supervision: Arc<Supervision>,
    registry: Arc<Registry>,
    #[cfg(feature = "subtensor")]
    monitor: Arc<monitor::Monitor>,
}

impl LightningClient {
    /// A client over the operating system's UDP, or over `network` in tests.
    ///
    /// # Errors
    /// `Config` when a setting is out of its bounds.
    #[doc(hidden)]
    pub fn with_network(
        wallet_hotkey: String,
        config: LightningClientConfig,
        network: Arc<dyn Network>,
    ) -> Result<Self> {
        config.validate()?;
        let dialler = Arc::new(Dialler::new(&wallet_hotkey, &config, network)?);
        let supervision = Arc::new(Supervision {
            dialler: dialler.clone(),
            feed: PeerFeed::new(),
            policy: config.backoff(),
        });
        let registry = Arc::new(Registry::new(config.max_connections, supervision.clone()));
        #[cfg(feature = "subtensor")]
        let monitor = Arc::new(monitor::Monitor::new(registry.clone(), dialler.clone()));
        Ok(Self {
            config,
            dialler,
            supervision,
            registry,
            #[cfg(feature = "subtensor")]
            monitor,
        })
    }

    /// Asks `miner` and decodes its answer straight from the frame.
    ///
    /// Takes at most the client's `query_timeout`, the wait for a connection included. Cancel-safe: dropping the future
    /// stops the query on the wire; whether the miner has done the work by then is not known.
    ///
    /// # Errors
    /// [`CallError`] says what went wrong and whether the same call [may succeed later](CallError::is_retryable).
    pub async fn call<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        miner: impl NamesMiner,
        synapse_type: &str,
        request: &Q,
    ) -> std::result::Result<Reply<A>, CallError> {
        self.call_with(miner, synapse_type, request, CallOptions::new()).await
    }

    /// [`call`](Self::call) with bounds of its own.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_with<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        miner: impl NamesMiner,
        synapse_type: &str,
        request: &Q,
        options: CallOptions,
    ) -> std::result::Result<Reply<A>, CallError> {
        let asked = Instant::now();
        let request = self.encode(synapse_type, request)?;
        let route = self.registry.route(&miner)?;
        let reply = call::unary(&route, &request, &options.bounds(&self.config, asked), asked).await?;
        call::decoded(reply)
    }

    /// Asks `miner` for an answer in chunks. Returns when the request has gone out.
    ///
    /// The wait until then is bounded by the `timeout` of `options`, each chunk by `stream_chunk_timeout`, and the whole by
    /// `stream_timeout`. Cancel-safe as [`call`](Self::call).
    ///
    /// # Errors
    /// As [`call`](Self::call). What the miner says is told by [`ChunkStream::next`].
    pub async fn call_stream<Q: Serialize + ?Sized>(
        &self,
        miner: impl NamesMiner,
        synapse_type: &str,
        request: &Q,
        options: CallOptions,
    ) -> std::result::Result<ChunkStream, CallError> {
        let asked = Instant::now();
        let request = self.encode(synapse_type, request)?;
        let route = self.registry.route(&miner)?;
        stream::open(&self.config, &route, &request, options, asked).await
    }

    /// Asks many miners at once, under one deadline. The request is encoded once. The answers come as they arrive; every
    /// miner has exactly one, be it an error.
    ///
    /// ```no_run
    /// # async fn example(client: btlightning::LightningClient, miners: Vec<String>) -> Result<(), btlightning::CallError> {
    /// use std::time::Duration;
    /// use btlightning::CallOptions;
    /// # #[derive(serde::Serialize)] struct Question { prompt: String }
    /// # #[derive(serde::Deserialize)] struct Answer { text: String }
    ///
    /// let question = Question { prompt: "why?".into() };
    /// let options = CallOptions::new().timeout(Duration::from_secs(5));
    /// let mut answers = client.fan_out::<_, Answer>(&miners, "Ask", &question, options)?;
    /// while let Some((miner, answer)) = answers.next().await {
    ///     match answer {
    ///         Ok(reply) => println!("{miner}: {} in {:?}", reply.value.text, reply.timings.last_byte),
    ///         Err(error) => println!("{miner}: {} ({error})", error.reason()),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CallError::Encode`] when the request cannot be encoded; everything else is an answer in the list.
    pub fn fan_out<Q: Serialize + ?Sized, A: DeserializeOwned + Send + 'static>(
        &self,
        miners: impl IntoIterator<Item = impl NamesMiner>,
        synapse_type: &str,
        request: &Q,
        options: CallOptions,
    ) -> std::result::Result<FanOut<A>, CallError> {
        let request = self.encode(synapse_type, request)?;
        Ok(self.fan_out_encoded(miners, &request, options, call::decoded))
    }

    /// How things stand with every miner, now.
    pub fn peers(&self) -> Vec<Peer> {
        self.registry.peers()
    }

    /// How things stand with one miner, now; `None` if it is not in the registry.
    pub fn peer_state(&self, hotkey: &Hotkey) -> Option<PeerState> {
        self.registry.find(hotkey).map(|route| route.slot.peer(route.hotkey).state)
    }

    /// Every change of any miner's state from now on.
    pub fn peer_changes(&self) -> PeerChanges {
        self.supervision.feed.subscribe()
    }

    /// Connects to each of these miners only if its server holds the TLS key with this pin: a miner tells
    /// [its own](crate::LightningServer::tls_key_pin), by whatever way the client trusts. These are all pins from now on;
    /// miners that are not in `pins` are dialled as if there were none.
    ///
    /// Where every hotkey that is wanted at an address has a pin, a server with another key is turned away before the
    /// handshake, and hears nothing of who asks. Where one has none, the handshake is made, and then the pin of whoever
    /// it proves must fit. Either way the peer is [`Refused`](PeerState::Refused), with [`DialError::WrongTlsKey`], and
    /// dialled again as other refused peers are; or at once, when its pin is changed. Pins are looked at when a connection
    /// is made: those that are up stay up.
    ///
    /// # Errors
    /// `Config` for more than [`TLS_KEY_PINS_MAX`] pins; those before stay in use.
    pub fn pin_tls_keys(&self, pins: HashMap<Hotkey, TlsKeyPin>) -> Result<()> {
        let count = pins.len();
        require(count <= TLS_KEY_PINS_MAX, || {
            format!("{count} TLS key pins; there can be {TLS_KEY_PINS_MAX}")
        })?;
        let before = self.dialler.pins.replace(pins);
        self.registry.redial_repinned(&before);
        Ok(())
    }

    /// Closes every connection and follows nobody any more.
    fn forget_everyone(&self) {
        #[cfg(feature = "subtensor")]
        self.monitor.forget();
        self.registry.close_all(CloseReason::ClientShutdown);
    }

    fn fan_out_encoded<A: Send + 'static>(
        &self,
        miners: impl IntoIterator<Item = impl NamesMiner>,
        request: &RawRequest,
        options: CallOptions,
        decode: fn(RawReply) -> std::result::Result<Reply<A>, CallError>,
    ) -> FanOut<A> {
        let routes = miners.into_iter().map(|miner| (miner.name(), self.registry.route(&miner))).collect();
        let runtime = self.dialler.endpoints().map(|endpoints| endpoints.io.handle());
        FanOut::start(&self.config, request, routes, options, runtime, decode)
    }

    fn encode<Q: Serialize + ?Sized>(
        &self,
        synapse_type: &str,
        request: &Q,
    ) -> std::result::Result<RawRequest, CallError> {
        Ok(RawRequest::typed(synapse_type, request, self.config.max_frame_payload_bytes)?)
    }
}

impl Drop for LightningClient {
    fn drop(&mut self) {
        self.forget_everyone();
    }
}

/// The network of a client that was given none.
fn udp() -> Arc<dyn Network> {
    Arc::new(UdpNetwork)
}
