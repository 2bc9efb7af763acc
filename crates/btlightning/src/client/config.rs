//! What a client can be told, with every default in one place.

use std::time::Duration;

use btlightning_proto::peers::BackoffPolicy;

use crate::error::Result;
use crate::limits::{require, require_frame_limit, setters};
use crate::transport::endpoint::Liveness;
use crate::transport::io::IoThreads;
use crate::wire::DEFAULT_MAX_FRAME_PAYLOAD;

/// How a [`LightningClient`](crate::LightningClient) behaves.
///
/// Take the defaults and change what you must:
///
/// ```
/// use std::time::Duration;
/// use btlightning::LightningClientConfig;
///
/// let config = LightningClientConfig { connect_timeout: Duration::from_secs(3), ..Default::default() };
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
pub struct LightningClientConfig {
    /// The most that one dial may take, from the first packet to the verified handshake. Default: 10 s. Not zero.
    pub connect_timeout: Duration,
    /// A connection on which nothing arrives for this long is dead. Default: 150 s. Not zero.
    pub idle_timeout: Duration,
    /// A packet is sent after this long a silence. Default: 30 s. Not zero, and below `idle_timeout`.
    pub keep_alive_interval: Duration,
    /// The pause after the first failed dial; it doubles from there, with jitter. Default: 1 s. Not zero.
    pub reconnect_initial_backoff: Duration,
    /// The longest pause between two dials. Default: 60 s. At least `reconnect_initial_backoff`.
    pub reconnect_max_backoff: Duration,
    /// How many failed dials in a row lead to slow probes. Default: 5. At least 1.
    pub reconnect_max_retries: u32,
    /// The pause between slow probes; it grows while a miner stays away. `None`: no probes, the miner is left alone
    /// until the registry names it again. Default: 60 s. Not zero.
    pub reconnect_slow_probe_interval: Option<Duration>,
    /// The most addresses that connections are held to. Default: 1024. At least 1. A miner can send nothing that was not
    /// asked for; each call that is out may hold up to 16 MiB of an answer that was not read yet, beside the frame that is
    /// being read. A hostile miner can make that 128 MiB, if nobody reads: packets are received up to 64 KiB at a time, and
    /// a part of them keeps all.
    pub max_connections: usize,
    /// The largest frame that is sent or accepted, in bytes. Default: 64 MiB. From 1 MiB to `u32::MAX`.
    pub max_frame_payload_bytes: usize,
    /// The most bytes of all chunks of one streaming answer; a chunk counts for at least 256. Default: 64 MiB. At least
    /// `max_frame_payload_bytes`.
    pub max_stream_payload_bytes: usize,
    /// The longest wait for each chunk of a streaming answer. `None`: as long as `query_timeout`. Default: `None`.
    /// Not zero.
    pub stream_chunk_timeout: Option<Duration>,
    /// The most that a whole streaming answer may take, from being asked to its end, chunks that nobody has taken included.
    /// Default: 30 min. Not zero.
    pub stream_timeout: Duration,
    /// The most that a query without a timeout of its own may take, the wait for a connection included. Default: 150 s:
    /// a miner may give its handlers up to its own idle timeout, of which that is the default. Not zero.
    pub query_timeout: Duration,
    /// Which threads move packets. Default: [`IoThreads::Auto`].
    pub io_threads: IoThreads,
    /// The subnet whose miners the client connects to, and follows from then on, once
    /// [`initialize_connections`](crate::LightningClient::initialize_connections) is called. Default: `None`, only miners
    /// that are named. Needs the feature `subtensor`.
    #[cfg(feature = "subtensor")]
    pub metagraph: Option<super::MetagraphMonitorConfig>,
}

impl Default for LightningClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(150),
            keep_alive_interval: Duration::from_secs(30),
            reconnect_initial_backoff: Duration::from_secs(1),
            reconnect_max_backoff: Duration::from_secs(60),
            reconnect_max_retries: 5,
            reconnect_slow_probe_interval: Some(Duration::from_secs(60)),
            max_connections: 1024,
            max_frame_payload_bytes: DEFAULT_MAX_FRAME_PAYLOAD,
            max_stream_payload_bytes: DEFAULT_MAX_FRAME_PAYLOAD,
            stream_chunk_timeout: None,
            stream_timeout: Duration::from_secs(30 * 60),
            query_timeout: Duration::from_secs(150),
            io_threads: IoThreads::Auto,
            #[cfg(feature = "subtensor")]
            metagraph: None,
        }
    }
}

impl LightningClientConfig {
    /// A builder that starts from the defaults and checks what it is told.
    pub fn builder() -> LightningClientConfigBuilder {
        LightningClientConfigBuilder { config: Self::default() }
    }

    /// Checks every bound.
    pub(crate) fn validate(&self) -> Result<()> {
        let durations = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("idle_timeout", Some(self.idle_timeout)),
            ("keep_alive_interval", Some(self.keep_alive_interval)),
            ("reconnect_initial_backoff", Some(self.reconnect_initial_backoff)),
            ("reconnect_max_backoff", Some(self.reconnect_max_backoff)),
            ("reconnect_slow_probe_interval", self.reconnect_slow_probe_interval),
            ("stream_chunk_timeout", self.stream_chunk_timeout),
            ("stream_timeout", Some(self.stream_timeout)),
            ("query_timeout", Some(self.query_timeout)),
        ];
        for (name, duration) in durations {
            require(duration != Some(Duration::ZERO), || format!("{name} must be non-zero"))?;
        }
        require(self.keep_alive_interval < self.idle_timeout, || {
            format!(
                "keep_alive_interval ({:?}) must be less than idle_timeout ({:?})",
                self.keep_alive_interval, self.idle_timeout
            )
        })?;
        require(self.reconnect_initial_backoff <= self.reconnect_max_backoff, || {
            format!(
                "reconnect_initial_backoff ({:?}) must be at most reconnect_max_backoff ({:?})",
                self.reconnect_initial_backoff, self.reconnect_max_backoff
            )
        })?;
        require(self.reconnect_max_retries >= 1, || "reconnect_max_retries must be at least 1".to_owned())?;
        self.io_threads.validate()?;
        require(self.max_connections >= 1, || "max_connections must be at least 1".to_owned())?;
        #[cfg(feature = "subtensor")]
        if let Some(metagraph) = &self.metagraph {
            metagraph.validate()?;
        }
        let frame = self.max_frame_payload_bytes;
        require_frame_limit(frame)?;
        require(self.max_stream_payload_bytes >= frame, || {
            format!(
                "max_stream_payload_bytes ({}) must be at least max_frame_payload_bytes ({frame})",
                self.max_stream_payload_bytes
            )
        })
    }

    pub(crate) fn liveness(&self) -> Liveness {
        Liveness { idle_timeout: self.idle_timeout, keep_alive_interval: self.keep_alive_interval }
    }

    pub(crate) fn backoff(&self) -> BackoffPolicy {
        BackoffPolicy {
            initial: self.reconnect_initial_backoff,
            max: self.reconnect_max_backoff,
            retries_max: self.reconnect_max_retries,
            slow_probe: self.reconnect_slow_probe_interval,
        }
    }

    /// The longest wait for one chunk of a streaming answer.
    pub(crate) fn chunk_timeout(&self) -> Duration {
        self.stream_chunk_timeout.unwrap_or(self.query_timeout)
    }
}

/// Builds a [`LightningClientConfig`]; each method sets the field of its name.
#[derive(Debug, Clone)]
#[must_use]
pub struct LightningClientConfigBuilder {
    config: LightningClientConfig,
}

impl LightningClientConfigBuilder {
    setters! {
        LightningClientConfig;
        connect_timeout: Duration;
        idle_timeout: Duration;
        keep_alive_interval: Duration;
        reconnect_initial_backoff: Duration;
        reconnect_max_backoff: Duration;
        reconnect_max_retries: u32;
        reconnect_slow_probe_interval: Option<Duration>;
        max_connections: usize;
        max_frame_payload_bytes: usize;
        max_stream_payload_bytes: usize;
        stream_timeout: Duration;
        query_timeout: Duration;
        io_threads: IoThreads;
    }

    /// Sets [`LightningClientConfig::stream_chunk_timeout`]. Takes no `None`, as in the published package: that is the
    /// default.
    pub fn stream_chunk_timeout(mut self, val: Duration) -> Self {
        self.config.stream_chunk_timeout = Some(val);
        self
    }

    /// Sets [`LightningClientConfig::metagraph`].
    #[cfg(feature = "subtensor")]
    pub fn metagraph(mut self, val: super::MetagraphMonitorConfig) -> Self {
        self.config.metagraph = Some(val);
        self
    }

    /// The configuration, checked.
    ///
    /// # Errors
    /// [`Config`](crate::LightningError::Config) names the first setting that is out of its bounds.
    pub fn build(self) -> Result<LightningClientConfig> {
        self.config.validate()?;
        Ok(self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::LightningError;

    fn refused(change: impl FnOnce(&mut LightningClientConfig)) -> String {
        let mut config = LightningClientConfig::default();
        change(&mut config);
        match config.validate() {
            Err(LightningError::Config(why)) => why,
            other => panic!("expected a Config error, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        LightningClientConfig::default().validate().unwrap();
        LightningClientConfig::builder().build().unwrap();
    }

    #[test]
    fn each_bound_is_checked_and_names_its_setting() {
        assert!(refused(|c| c.connect_timeout = Duration::ZERO).contains("connect_timeout"));
        assert!(refused(|c| c.idle_timeout = Duration::ZERO).contains("idle_timeout"));
        assert!(refused(|c| c.keep_alive_interval = c.idle_timeout).contains("keep_alive_interval"));
        assert!(
            refused(|c| c.reconnect_initial_backoff = Duration::from_secs(61)).contains("reconnect_initial")
        );
        assert!(refused(|c| c.reconnect_max_backoff = Duration::ZERO).contains("reconnect_max_backoff"));
        assert!(refused(|c| c.reconnect_max_retries = 0).contains("reconnect_max_retries"));
        assert!(refused(|c| c.reconnect_slow_probe_interval = Some(Duration::ZERO)).contains("slow_probe"));
        assert!(refused(|c| c.max_connections = 0).contains("max_connections"));
        assert!(refused(|c| c.max_frame_payload_bytes = 1).contains("max_frame_payload_bytes"));
        assert!(refused(|c| c.max_stream_payload_bytes = 1 << 20).contains("max_stream_payload_bytes"));
        assert!(refused(|c| c.stream_chunk_timeout = Some(Duration::ZERO)).contains("stream_chunk_timeout"));
        assert!(refused(|c| c.stream_timeout = Duration::ZERO).contains("stream_timeout"));
        assert!(refused(|c| c.query_timeout = Duration::ZERO).contains("query_timeout"));
    }
}
