//! What a server can be told, with every default in one place.

use std::time::Duration;

use crate::error::Result;
use crate::limits::{require, require_frame_limit, setters};
use crate::transport::endpoint::Liveness;
use crate::transport::io::IoThreads;
use crate::wire::DEFAULT_MAX_FRAME_PAYLOAD;

/// The longest that a signature may be accepted, in seconds: an hour.
const SIGNATURE_AGE_SECS_MOST: u64 = 3600;

/// The longest grace of a shutdown, in seconds: an hour.
const SHUTDOWN_GRACE_SECS_MOST: u64 = 3600;

/// The longest queue of chunks. Each stream has one of its own, and a chunk may be as large as a frame.
const STREAMING_CHANNEL_BUFFER_MOST: usize = 65_536;

/// What one address may hold where nothing is said, even of a small server: many validators share one with others.
const CONNECTIONS_PER_IP_LEAST: usize = 32;

/// How a [`LightningServer`](crate::LightningServer) behaves.
///
/// Made by [`builder`](Self::builder), or by changing the fields of [`default`](Self::default):
///
/// ```
/// use btlightning::LightningServerConfig;
///
/// let config = LightningServerConfig::builder().max_connections(64).require_validator_permit(true).build()?;
/// # let _ = config;
/// # Ok::<(), btlightning::LightningError>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LightningServerConfig {
    /// The age at which a handshake's signature is refused, in seconds. Default: 300. From 1 to 3600.
    pub max_signature_age_secs: u64,
    /// A connection on which nothing arrives for this long is dead, in seconds. Default: 150. Not zero.
    pub idle_timeout_secs: u64,
    /// A packet is sent after this long a silence, in seconds. Default: 30. Not zero, and below `idle_timeout_secs`.
    pub keep_alive_interval_secs: u64,
    /// How often spent nonces that can no longer be replayed are dropped, in seconds. Default: 60. Not zero.
    pub nonce_cleanup_interval_secs: u64,
    /// The most authenticated connections. Default: 128. Not zero.
    ///
    /// In the worst case, which takes a validator that means harm, each of them holds all of this at once:
    /// - requests that were not read yet: 2 MiB for each of `max_concurrent_bidi_streams`;
    /// - requests that were read and that their handlers have not let go of: 128 MiB, or two of
    ///   `max_frame_payload_bytes` if that is more; and apart from these the small ones, of up to 64 KiB for each
    ///   stream;
    /// - decoded maps, for each request that a handler of maps is working on: up to 64 MiB and 8 bytes for each byte
    ///   of its payload; and decoded values of types, up to five times as much, if the types lend themselves to it;
    /// - answers that the peer does not read: 512 MiB, or eight of `max_frame_payload_bytes` if that is more, of handlers
    ///   that began while there was a quarter of that; and up to 64 KiB for each stream. Of handlers that stream, chunks
    ///   of 64 MiB, or one of `max_frame_payload_bytes` if that is more, for all streams together, and apart from these
    ///   one chunk and 64 KiB for each stream; of those with the published trait five more chunks for each stream, and
    ///   33 for two of them. All of it until the time to read them is over: the handler's time, and more for what was
    ///   read and for 1 MiB, at 64 KiB/s;
    /// - 16 MiB of answers that were sent and that the peer has not acknowledged, until as much time is over again.
    ///
    /// Miners that serve others than validators they know should lower `max_concurrent_bidi_streams` and
    /// `max_frame_payload_bytes` to what their handlers need.
    pub max_connections: usize,
    /// The most nonces that are remembered, about 100 bytes each. Full, handshakes are refused; nothing is forgotten
    /// early. A quarter is kept for hotkeys that hold a permit or were connected for ten minutes. Default: 100,000. Not
    /// zero.
    pub max_nonce_entries: usize,
    /// How long a connection may live without having authenticated, from its first packet on, in seconds. Default: 10.
    /// Not zero, and below `idle_timeout_secs`.
    pub handshake_timeout_secs: u64,
    /// The most handshakes from one IP address (one /64 of IPv6) in a minute, and apart from these of each hotkey there
    /// that holds a permit. Ten times as many forgeries in the names of such hotkeys are verified at once; more of them
    /// when there is nothing else to do. Default: 30. Not zero.
    pub max_handshake_attempts_per_minute: u32,
    /// The most requests that one authenticated connection may have in flight. Default: 128. Not zero.
    pub max_concurrent_bidi_streams: u32,
    /// Whether only validators that the
    /// [`ValidatorPermitResolver`](crate::server::ValidatorPermitResolver) names may authenticate. Default: no.
    pub require_validator_permit: bool,
    /// How often the resolver of permits is asked, in seconds. Default: 1800. Not zero.
    pub validator_permit_refresh_secs: u64,
    /// How many IP addresses the handshake limiter tells apart, about 350 bytes each; later ones share buckets.
    /// Default: 10,000. Not zero.
    pub max_tracked_rate_ips: usize,
    /// How long a handler may take, and again how long its request may take to arrive and its answer to be written, in
    /// seconds; the latter two have a second more for each 64 KiB. Default: 30. Not zero, and below
    /// `idle_timeout_secs`.
    pub handler_timeout_secs: u64,
    /// The largest frame that is accepted or sent, in bytes. Default: 64 MiB. From 1 MiB to `u32::MAX`.
    pub max_frame_payload_bytes: usize,
    /// How many chunks a streaming handler may be ahead of the one that is being written, while its connection does not
    /// hold too much that the peer has not read. A [`StreamingSynapseHandler`](crate::StreamingSynapseHandler) may be four
    /// ahead, and 32 if there are no more than two at once on a connection; or fewer, if this says so. Default: 32. From
    /// 1 to 65,536.
    pub streaming_channel_buffer: usize,
    /// Whether only addresses that the [`SourceAddressResolver`](crate::server::SourceAddressResolver) names may
    /// connect, or those that [`LearnedSources`](crate::server::LearnedSources) has learned; packets of others are
    /// ignored. Default: no.
    pub enforce_source_allowlist: bool,
    /// How often the resolver of addresses is asked, and how often learned ones are looked at, in seconds. Default: 300.
    /// Not zero.
    pub source_allowlist_refresh_secs: u64,
    /// Whether a peer has to show that it receives what is sent to its address before anything is allocated for it: by
    /// a QUIC Retry, or by a token that it was given there within the last day. Default: yes.
    pub require_address_validation: bool,
    /// The most connections that have not authenticated. Default: 256. Not zero. Each may make this side hold
    /// 64 KiB. A quarter of them is kept for addresses that a holder of a permit has authenticated from before, or a
    /// hotkey that was connected for long; 4,096 are remembered. For who finds no place, the oldest from the address with
    /// the most is closed, if that has two more.
    pub max_unauthenticated_connections: usize,
    /// The most connections from one IP address (one /64 of IPv6) that have not authenticated. Default: 16. Not zero. For
    /// one more, the oldest is closed if it has been there for 2 s, or else the oldest that was refused, if it has been there
    /// for 125 ms. Before its time it is with the chance that it has had of that; else the newcomer is refused.
    pub max_unauthenticated_connections_per_ip: usize,
    /// The most connections that one validator hotkey may hold; a newer one takes the place of its oldest. Default: 4.
    /// Not zero.
    pub max_connections_per_hotkey: usize,
    /// The most connections from one IP address (one /64 of IPv6) of hotkeys that hold no permit, as far as a resolver or a
    /// learned allowlist says. Default: a quarter of `max_connections`, or 32 if that is more. Not zero.
    ///
    /// Loopback addresses are not bound by it: who comes from there is a program on this host, or a relay that everybody
    /// comes through.
    ///
    /// When all places are taken, a hotkey that holds a permit is given the place of one that does not, and one that held
    /// a connection for ten minutes in the last day that of one that did not; among equals without a permit, addresses
    /// share evenly. The loser's connection is closed (`displaced`).
    pub max_connections_per_ip: Option<usize>,
    /// How long [`stop`](crate::LightningServer::stop) lets answers in flight finish, in seconds. Default: 5. Zero
    /// cuts them off. At most 3600.
    pub shutdown_grace_secs: u64,
    /// Which threads move packets. Default: [`IoThreads::Auto`].
    pub io_threads: IoThreads,
}

impl Default for LightningServerConfig {
    fn default() -> Self {
        Self {
            max_signature_age_secs: 300,
            idle_timeout_secs: 150,
            keep_alive_interval_secs: 30,
            nonce_cleanup_interval_secs: 60,
            max_connections: 128,
            max_nonce_entries: 100_000,
            handshake_timeout_secs: 10,
            max_handshake_attempts_per_minute: 30,
            max_concurrent_bidi_streams: 128,
            require_validator_permit: false,
            validator_permit_refresh_secs: 1800,
            max_tracked_rate_ips: 10_000,
            handler_timeout_secs: 30,
            max_frame_payload_bytes: DEFAULT_MAX_FRAME_PAYLOAD,
            streaming_channel_buffer: 32,
            enforce_source_allowlist: false,
            source_allowlist_refresh_secs: 300,
            require_address_validation: true,
            max_unauthenticated_connections: 256,
            max_unauthenticated_connections_per_ip: 16,
            max_connections_per_hotkey: 4,
            max_connections_per_ip: None,
            shutdown_grace_secs: 5,
            io_threads: IoThreads::Auto,
        }
    }
}

impl LightningServerConfig {
    /// A builder that starts from the defaults and checks what it is told.
    pub fn builder() -> LightningServerConfigBuilder {
        LightningServerConfigBuilder { config: Self::default() }
    }

    /// Checks every bound.
    pub(crate) fn validate(&self) -> Result<()> {
        self.check_zeros()?;
        self.io_threads.validate()?;
        require(self.max_signature_age_secs <= SIGNATURE_AGE_SECS_MOST, || {
            format!("max_signature_age_secs must not exceed {SIGNATURE_AGE_SECS_MOST} (1 hour)")
        })?;
        require(self.shutdown_grace_secs <= SHUTDOWN_GRACE_SECS_MOST, || {
            format!("shutdown_grace_secs must not exceed {SHUTDOWN_GRACE_SECS_MOST} (1 hour)")
        })?;
        let idle = self.idle_timeout_secs;
        for (name, secs) in [
            ("keep_alive_interval_secs", self.keep_alive_interval_secs),
            ("handshake_timeout_secs", self.handshake_timeout_secs),
            ("handler_timeout_secs", self.handler_timeout_secs),
        ] {
            require(secs < idle, || format!("{name} ({secs}) must be less than idle_timeout_secs ({idle})"))?;
        }
        require(self.streaming_channel_buffer <= STREAMING_CHANNEL_BUFFER_MOST, || {
            format!("streaming_channel_buffer must not exceed {STREAMING_CHANNEL_BUFFER_MOST}")
        })?;
        require_frame_limit(self.max_frame_payload_bytes)
    }

    fn check_zeros(&self) -> Result<()> {
        let is_zero = [
            ("max_signature_age_secs", self.max_signature_age_secs == 0),
            ("idle_timeout_secs", self.idle_timeout_secs == 0),
            ("keep_alive_interval_secs", self.keep_alive_interval_secs == 0),
            ("nonce_cleanup_interval_secs", self.nonce_cleanup_interval_secs == 0),
            ("max_connections", self.max_connections == 0),
            ("max_nonce_entries", self.max_nonce_entries == 0),
            ("handshake_timeout_secs", self.handshake_timeout_secs == 0),
            ("max_handshake_attempts_per_minute", self.max_handshake_attempts_per_minute == 0),
            ("max_concurrent_bidi_streams", self.max_concurrent_bidi_streams == 0),
            ("validator_permit_refresh_secs", self.validator_permit_refresh_secs == 0),
            ("max_tracked_rate_ips", self.max_tracked_rate_ips == 0),
            ("handler_timeout_secs", self.handler_timeout_secs == 0),
            ("streaming_channel_buffer", self.streaming_channel_buffer == 0),
            ("source_allowlist_refresh_secs", self.source_allowlist_refresh_secs == 0),
            ("max_unauthenticated_connections", self.max_unauthenticated_connections == 0),
            ("max_unauthenticated_connections_per_ip", self.max_unauthenticated_connections_per_ip == 0),
            ("max_connections_per_hotkey", self.max_connections_per_hotkey == 0),
            ("max_connections_per_ip", self.max_connections_per_ip == Some(0)),
        ];
        for (name, is_zero) in is_zero {
            require(!is_zero, || format!("{name} must be non-zero"))?;
        }
        Ok(())
    }

    pub(crate) fn liveness(&self) -> Liveness {
        Liveness {
            idle_timeout: Duration::from_secs(self.idle_timeout_secs),
            keep_alive_interval: Duration::from_secs(self.keep_alive_interval_secs),
        }
    }

    /// `max_connections_per_ip`, or what follows from the others.
    pub(crate) fn per_ip_max(&self) -> usize {
        self.max_connections_per_ip.unwrap_or_else(|| CONNECTIONS_PER_IP_LEAST.max(self.max_connections / 4))
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout_secs)
    }

    pub(crate) fn handler_timeout(&self) -> Duration {
        Duration::from_secs(self.handler_timeout_secs)
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_secs)
    }
}

/// Builds a [`LightningServerConfig`]; each method sets the field of its name.
#[derive(Debug, Clone)]
#[must_use]
pub struct LightningServerConfigBuilder {
    config: LightningServerConfig,
}

impl LightningServerConfigBuilder {
    setters! {
        LightningServerConfig;
        max_signature_age_secs: u64;
        idle_timeout_secs: u64;
        keep_alive_interval_secs: u64;
        nonce_cleanup_interval_secs: u64;
        max_connections: usize;
        max_nonce_entries: usize;
        handshake_timeout_secs: u64;
        max_handshake_attempts_per_minute: u32;
        max_concurrent_bidi_streams: u32;
        require_validator_permit: bool;
        validator_permit_refresh_secs: u64;
        max_tracked_rate_ips: usize;
        handler_timeout_secs: u64;
        max_frame_payload_bytes: usize;
        streaming_channel_buffer: usize;
        enforce_source_allowlist: bool;
        source_allowlist_refresh_secs: u64;
        require_address_validation: bool;
        max_unauthenticated_connections: usize;
        max_unauthenticated_connections_per_ip: usize;
        max_connections_per_hotkey: usize;
        max_connections_per_ip: Option<usize>;
        shutdown_grace_secs: u64;
        io_threads: IoThreads;
    }

    /// The configuration, checked.
    ///
    /// # Errors
    /// [`Config`](crate::LightningError::Config) names the first setting that is out of its bounds.
    pub fn build(self) -> Result<LightningServerConfig> {
        self.config.validate()?;
        Ok(self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LightningError;
    use crate::transport::signatures::Turn;

    #[test]
    fn by_default_no_flood_of_signatures_turns_anybody_away() {
        // Each connection has one signature verified at a time, proven or not.
        let LightningServerConfig { max_unauthenticated_connections, max_connections, .. } =
            Default::default();
        assert!(max_unauthenticated_connections + max_connections <= Turn::Ordinary.waiting_max());
    }

    fn refused(change: impl FnOnce(&mut LightningServerConfig)) -> String {
        let mut config = LightningServerConfig::default();
        change(&mut config);
        match config.validate() {
            Err(LightningError::Config(why)) => why,
            other => panic!("expected a Config error, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        LightningServerConfig::default().validate().unwrap();
        LightningServerConfig::builder().build().unwrap();
    }

    #[test]
    fn zero_is_refused_where_it_means_nothing() {
        macro_rules! zeros {
            ($($field:ident)*) => {$(
                assert_eq!(refused(|c| c.$field = 0), concat!(stringify!($field), " must be non-zero"));
            )*};
        }
        zeros! {
            max_signature_age_secs idle_timeout_secs keep_alive_interval_secs nonce_cleanup_interval_secs
            max_connections max_nonce_entries handshake_timeout_secs max_handshake_attempts_per_minute
            max_concurrent_bidi_streams validator_permit_refresh_secs max_tracked_rate_ips handler_timeout_secs
            streaming_channel_buffer source_allowlist_refresh_secs max_unauthenticated_connections
            max_unauthenticated_connections_per_ip max_connections_per_hotkey
        }
        assert_eq!(
            refused(|c| c.max_connections_per_ip = Some(0)),
            "max_connections_per_ip must be non-zero"
        );
        LightningServerConfig::builder().shutdown_grace_secs(0).build().unwrap();
    }

    #[test]
    fn an_address_may_hold_a_quarter_unless_told_otherwise() {
        for (max_connections, per_ip, holds) in
            [(128, None, 32), (16, None, 32), (8192, None, 2048), (128, Some(3), 3)]
        {
            let config = LightningServerConfig::builder().max_connections(max_connections);
            let config = config.max_connections_per_ip(per_ip).build().unwrap();
            assert_eq!(config.per_ip_max(), holds);
        }
    }

    #[test]
    fn each_bound_is_checked_and_names_its_setting() {
        assert_eq!(
            refused(|c| c.max_signature_age_secs = 3601),
            "max_signature_age_secs must not exceed 3600 (1 hour)"
        );
        LightningServerConfig::builder().max_signature_age_secs(3600).build().unwrap();
        assert_eq!(
            refused(|c| c.shutdown_grace_secs = 3601),
            "shutdown_grace_secs must not exceed 3600 (1 hour)"
        );
        assert_eq!(
            refused(|c| c.streaming_channel_buffer = 65_537),
            "streaming_channel_buffer must not exceed 65536"
        );
        LightningServerConfig::builder().streaming_channel_buffer(65_536).build().unwrap();
        assert_eq!(
            refused(|c| c.keep_alive_interval_secs = 150),
            "keep_alive_interval_secs (150) must be less than idle_timeout_secs (150)"
        );
        assert!(refused(|c| c.handshake_timeout_secs = 150).starts_with("handshake_timeout_secs (150)"));
        assert!(refused(|c| c.handler_timeout_secs = 150).starts_with("handler_timeout_secs (150)"));
        assert_eq!(
            refused(|c| c.max_frame_payload_bytes = 0),
            "max_frame_payload_bytes (0) must be at least 1048576 (1 MB)"
        );
        assert_eq!(
            refused(|c| c.max_frame_payload_bytes = 1 << 32),
            "max_frame_payload_bytes (4294967296) must not exceed 4294967295 (u32::MAX)"
        );
    }
}
