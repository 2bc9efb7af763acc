//! What a server's connections and methods share.

use std::fmt::{self, Debug};
use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use btlightning_proto::identity::{
    AttemptLimiter, AttemptLimits, CertFingerprint, HotkeyError, ReplayWindow, TlsKeyPin,
};
use quinn::{Connection, Endpoint};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::blocking::Blocking;
use super::call::ConnectionId;
use super::config::LightningServerConfig;
use super::directory::Directory;
use super::handlers::Handlers;
use super::hush::Hush;
use super::learned::Learned;
use super::places::Bounds;
use super::policy::{Allowed, Permits, Sources};
use super::published::{HandshakeObserver, SourceAddressResolver, ValidatorPermitResolver};
use super::strangers::Strangers;
#[cfg(feature = "subtensor")]
use super::subnet::AxonSigner;
use super::turns::Turns;
use crate::Hotkey;
use crate::error::Result;
use crate::signing::Signer;
use crate::transport::close::CloseReason;
use crate::transport::endpoint::{self, ServerConfigs, SocketWatch};
use crate::transport::io::{Io, Quiet, Side, processors};
use crate::transport::network::Network;
use crate::transport::signatures::SignatureWorker;
use crate::transport::tls::ServerIdentity;
use crate::transport::tls_key::TlsKey;

/// How many calls of the handshake observer run at once.
const OBSERVATIONS_MAX: usize = 64;

/// What lives as long as the server, through every start and stop.
pub(super) struct Shared {
    pub(super) config: LightningServerConfig,
    /// As it was given.
    pub(super) miner_text: String,
    pub(super) miner: std::result::Result<Hotkey, HotkeyError>,
    pub(super) handlers: Handlers,
    pub(super) directory: Arc<Directory<Connection>>,
    pub(super) strangers: Arc<Strangers>,
    pub(super) permits: Permits,
    pub(super) sources: Sources,
    /// In force instead of `sources`, if it is set.
    pub(super) learned: Setting<Learned>,
    pub(super) signer: Setting<dyn Signer>,
    #[cfg(feature = "subtensor")]
    pub(super) axon_signer: AxonSigner,
    pub(super) permit_resolver: Setting<dyn ValidatorPermitResolver>,
    pub(super) source_resolver: Setting<dyn SourceAddressResolver>,
    pub(super) observer: Setting<dyn HandshakeObserver>,
    pub(super) tls_key_file: Setting<Path>,
    pub(super) blocking: Blocking,
    pub(super) observations: Arc<Semaphore>,
    /// For scanning large requests: a processor each.
    pub(super) scans: Arc<Semaphore>,
    pub(super) hush: Hushes,
    network: Arc<dyn Network>,
    /// Whose signature is verified when.
    pub(super) turns: Arc<Turns>,
    replay: Mutex<ReplayWindow>,
    attempts: Mutex<AttemptLimiter>,
    connections: AtomicU64,
}

/// One for each kind of line that others can cause.
#[derive(Debug)]
pub(super) struct Hushes {
    /// Attempts that were not admitted.
    pub(super) admission: Hush,
    /// Attempts that became no connection.
    pub(super) failed: Hush,
    /// Connections that have ended before they had authenticated.
    pub(super) left: Hush,
    /// Connections of hotkeys without a permit that have ended.
    pub(super) ended: Hush,
    /// Handshakes that were refused.
    pub(super) handshakes: Hush,
    /// The miner's signatures that were not to be had; apart from the others, which strangers could flood.
    pub(super) signing: Hush,
    /// Handshakes of strangers' hotkeys that were accepted.
    pub(super) accepted: Hush,
    /// Connections that had to make way for others.
    pub(super) places: Hush,
    /// Requests that nobody could serve.
    pub(super) requests: Hush,
    /// Handlers that failed.
    pub(super) handlers: Hush,
    /// Callers that did not wait for their answers.
    pub(super) callers: Hush,
}

impl Shared {
    pub(super) fn new(miner_text: String, config: LightningServerConfig, network: Arc<dyn Network>) -> Self {
        let attempts =
            AttemptLimits::new(config.max_handshake_attempts_per_minute, config.max_tracked_rate_ips);
        Self {
            miner: miner_text.parse(),
            miner_text,
            handlers: Handlers::default(),
            directory: Directory::new(Bounds {
                in_all: config.max_connections,
                per_hotkey: config.max_connections_per_hotkey,
                per_source: config.per_ip_max(),
            }),
            strangers: Strangers::new(
                config.max_unauthenticated_connections,
                config.max_unauthenticated_connections_per_ip,
            ),
            permits: Permits::default(),
            sources: Sources::default(),
            learned: Setting::default(),
            signer: Setting::default(),
            #[cfg(feature = "subtensor")]
            axon_signer: AxonSigner::default(),
            permit_resolver: Setting::default(),
            source_resolver: Setting::default(),
            observer: Setting::default(),
            tls_key_file: Setting::default(),
            blocking: Blocking::new(),
            observations: Arc::new(Semaphore::new(OBSERVATIONS_MAX)),
            scans: Arc::new(Semaphore::new(processors())),
            hush: Hushes {
                admission: Hush::new(),
                failed: Hush::new(),
                left: Hush::new(),
                ended: Hush::new(),
                handshakes: Hush::new(),
                signing: Hush::new(),
                accepted: Hush::new(),
                places: Hush::new(),
                requests: Hush::new(),
                handlers: Hush::new(),
                callers: Hush::new(),
            },
            network,
            turns: Arc::default(),
            replay: Mutex::new(ReplayWindow::new(config.max_nonce_entries, config.max_signature_age_secs)),
            attempts: Mutex::new(AttemptLimiter::new(attempts, RandomState::new())),
            connections: AtomicU64::new(0),
            config,
        }
    }

    pub(super) fn replay(&self) -> MutexGuard<'_, ReplayWindow> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attempts(&self) -> MutexGuard<'_, AttemptLimiter> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers rise in the order of arrival.
    pub(super) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a validator may authenticate, as far as permits go.
    pub(super) fn permits(&self, hotkey: &Hotkey) -> bool {
        !self.config.require_validator_permit || self.permits.holds(hotkey)
    }

    /// Whether `hotkey` is one that cannot be made up: it holds a permit, whether or not that is required.
    pub(super) fn knows(&self, hotkey: &Hotkey) -> bool {
        self.permits.holds(hotkey) || self.learned.get().is_some_and(|learned| learned.is_permitted(hotkey))
    }

    /// Which addresses may connect, if that is enforced.
    pub(super) fn allowed(&self) -> Arc<Allowed> {
        match self.learned.get() {
            Some(learned) => learned.allowed(),
            None => self.sources.current(),
        }
    }

    /// Who may connect from `ip`.
    pub(super) fn door(&self, ip: IpAddr) -> Door {
        if !self.config.enforce_source_allowlist {
            return Door::Open;
        }
        match self.learned.get() {
            Some(learned) if !learned.allowed().contains(ip) => Door::Ajar(learned),
            None if !self.sources.current().contains(ip) => Door::Shut,
            _ => Door::Open,
        }
    }

    /// Whether `hotkey`, which has authenticated, may stay connected from `ip`.
    pub(super) fn may_stay(&self, hotkey: &Hotkey, ip: IpAddr) -> bool {
        if !self.config.enforce_source_allowlist {
            return true;
        }
        match self.learned.get() {
            Some(learned) => learned.may_stay(hotkey, ip),
            None => self.sources.current().contains(ip),
        }
    }
}

/// Whether an address may connect.
pub(super) enum Door {
    Open,
    Shut,
    /// To some, who are to show who they are.
    Ajar(Arc<Learned>),
}

/// Something that may be set before the server starts.
pub(super) struct Setting<T: ?Sized>(RwLock<Option<Arc<T>>>);

impl<T: ?Sized> Setting<T> {
    pub(super) fn set(&self, value: Arc<T>) {
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).replace(value);
        // Dropped with the lock free again: it is somebody else's code.
        drop(before);
    }

    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: ?Sized> Default for Setting<T> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

/// What lives from a start to its stop.
pub(super) struct Running {
    pub(super) endpoint: Endpoint,
    pub(super) configs: ServerConfigs,
    /// Where its connections live.
    pub(super) io: Io,
    /// The program's runtime, where handlers run that are not quick.
    pub(super) program: Handle,
    pub(super) socket: SocketWatch,
    /// Around whatever has quinn read packets.
    pub(super) quiet: Arc<Quiet>,
    pub(super) local_addr: SocketAddr,
    pub(super) fingerprint: CertFingerprint,
    /// Of a TLS key that is kept.
    pub(super) tls_key_pin: Option<TlsKeyPin>,
    /// Checks validators' signatures.
    pub(super) verifications: SignatureWorker,
    /// Asks the miner's signer, on a thread of its own: a slow wallet must not hold up verifications.
    pub(super) signings: SignatureWorker,
    phase: watch::Sender<Phase>,
    live: watch::Sender<usize>,
    is_refreshing: AtomicBool,
}

/// Whether the server wants work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    Stopping(Stop),
}

/// How the server stops: nothing new begins, answers in flight may finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    /// What has not finished by then is cut off.
    pub(super) until: Instant,
    /// What the peers are told.
    pub(super) reason: CloseReason,
}

impl Running {
    /// Makes a certificate of `key` and binds `addr`. Called within the program's tokio runtime.
    pub(super) fn open(shared: &Shared, key: &TlsKey, addr: SocketAddr) -> Result<std::io::Result<Self>> {
        let identity = ServerIdentity::new(key)?;
        // Attempts that wait to be decided about are few: the accept loop does nothing else.
        let incoming_max = shared.config.max_unauthenticated_connections.saturating_mul(4);
        let is_simulated = shared.network.is_simulated();
        let worker = |name: &str| match is_simulated {
            true => SignatureWorker::Inline,
            false => SignatureWorker::threads(name, 1),
        };
        let verifications = worker("btlightning-server-verifications");
        let signings = worker("btlightning-server-signings");
        let io = shared.config.io_threads.open(Side::Server, &*shared.network)?;
        let opened = match io.bind(&*shared.network, addr) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let quiet = opened.quiet.clone();
        let configs = ServerConfigs::new(shared.config.liveness(), &identity, incoming_max)?;
        let bound = endpoint::open(&io, opened, Some(configs.first()))
            .and_then(|(endpoint, socket)| Ok((endpoint.local_addr()?, endpoint, socket)));
        Ok(bound.map(|(local_addr, endpoint, socket)| Self {
            endpoint,
            configs,
            io,
            program: Handle::current(),
            socket,
            quiet,
            local_addr,
            fingerprint: identity.fingerprint,
            tls_key_pin: key.pin(),
            verifications,
            signings,
            phase: watch::Sender::new(Phase::Serving),
            live: watch::Sender::new(0),
            is_refreshing: AtomicBool::new(false),
        }))
    }

    /// Makes every connection finish what it has begun, and nothing else. Later calls change nothing.
    pub(super) fn begin_to_stop(&self, stop: Stop) {
        self.phase.send_if_modified(|phase| {
            let is_first = *phase == Phase::Serving;
            if is_first {
                *phase = Phase::Stopping(stop);
            }
            is_first
        });
    }

    pub(super) fn phase(&self) -> PhaseWatch {
        PhaseWatch(self.phase.subscribe())
    }

    /// True once.
    pub(super) fn begin_to_refresh(&self) -> bool {
        !self.is_refreshing.swap(true, Ordering::Relaxed)
    }

    /// Counts a connection as long as what is returned lives.
    pub(super) fn count(self: &Arc<Self>) -> Live {
        self.live.send_modify(|live| *live += 1);
        Live(self.clone())
    }

    /// Waits until no connection is left.
    pub(super) async fn all_gone(&self) {
        // The sender lives as long as self, so the wait cannot fail.
        let _ = self.live.subscribe().wait_for(|live| *live == 0).await;
    }
}

impl Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// Sees when the server stops.
#[derive(Debug, Clone)]
pub(super) struct PhaseWatch(watch::Receiver<Phase>);

impl PhaseWatch {
    /// Waits until the server stops, and says how. Cancel-safe.
    pub(super) async fn stopping(&mut self) -> Stop {
        match self.0.wait_for(|phase| *phase != Phase::Serving).await.as_deref() {
            Ok(Phase::Stopping(stop)) => *stop,
            // The server is gone without a word.
            _ => Stop { until: Instant::now(), reason: CloseReason::Dropped },
        }
    }
}

/// A connection that is being served.
#[derive(Debug)]
pub(super) struct Live(Arc<Running>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.send_modify(|live| *live -= 1);
    }
}
