//! What is done from time to time while the server runs: asking the resolvers, forgetting spent nonces, letting go of
//! answers that nobody acknowledges.
//!
//! A resolver that fails, panics or hangs leaves what it said last in force. Before it has said anything, nobody holds
//! a permit and, while the allowlist is enforced, nobody may connect.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::intake::SMALL_BYTES;
use super::learned::keeping;
use super::pace::time_for;
use super::published::{SourceAddressResolver, SourceAllowlist, ValidatorPermitResolver};
use super::shared::{PhaseWatch, Running, Shared};
use super::unread::in_flight_bytes;
use crate::error::{LightningError, Result};
use crate::transport::close::{CloseReason, printable_within};
use crate::util::unix_timestamp_secs;

/// The longest words of a resolver that are logged, in bytes.
const RESOLVER_WORDS_BYTES_MAX: usize = 512;

/// How long a resolver may take before the log says that it does.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(30);

/// Begins what is done in the background, once for each start of the server, and waits for the first answers of those
/// resolvers that decide who is let in.
///
/// # Errors
/// `Config` when something is required of a resolver that is not there, and when two say which addresses may connect.
pub(super) async fn begin(shared: &Arc<Shared>, running: &Arc<Running>) -> Result<()> {
    let (permits, sources) = (shared.permit_resolver.get(), shared.source_resolver.get());
    let learned = shared.learned.get();
    let config = &shared.config;
    let wrong = |what: &str| Err(LightningError::Config(what.to_owned()));
    if config.require_validator_permit && permits.is_none() {
        return wrong("require_validator_permit is enabled but no ValidatorPermitResolver is configured");
    }
    if sources.is_some() && learned.is_some() {
        return wrong(
            "both a SourceAddressResolver and learned sources are configured: only one can be in force",
        );
    }
    if config.enforce_source_allowlist && sources.is_none() && learned.is_none() {
        return wrong("enforce_source_allowlist is enabled but no SourceAddressResolver is configured");
    }
    if !running.begin_to_refresh() {
        return Ok(());
    }
    if !config.require_validator_permit {
        info!("Validator permit checking is disabled -- any hotkey with a valid signature can connect");
    }
    if config.require_address_validation {
        info!(
            "QUIC address validation enabled -- clients without a token for their address must complete a Retry round-trip"
        );
    }
    let permits =
        permits.map(|resolver| repeat(Permits { shared: shared.clone(), resolver }, running.phase()));
    let sources =
        sources.map(|resolver| repeat(Sources { shared: shared.clone(), resolver }, running.phase()));
    if let Some(learned) = learned {
        keeping::begin(shared, running, &learned);
    }
    repeat(Nonces { shared: shared.clone() }, running.phase());
    repeat(Unacknowledged { shared: shared.clone() }, running.phase());
    if let Some(resolved) = permits.filter(|_| config.require_validator_permit) {
        // An error means that the server was stopped meanwhile; the accept loop sees that itself.
        let _ = resolved.await;
    }
    if let Some(resolved) = sources.filter(|_| config.enforce_source_allowlist) {
        let _ = resolved.await;
    }
    Ok(())
}

/// Something that is done at the start and then from time to time.
pub(super) trait Chore: Send + 'static {
    fn interval(&self) -> Duration;
    fn turn(&self, is_first: bool) -> impl Future<Output = ()> + Send;
    /// Changes when there is something to do before the interval is over.
    fn news(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Does a chore until the server stops. What is returned resolves after the first turn.
pub(super) fn repeat(chore: impl Chore + Sync, mut phase: PhaseWatch) -> oneshot::Receiver<()> {
    let (done, first) = oneshot::channel();
    tokio::spawn(async move {
        let turns = async {
            // Subscribed to before the first turn, so that nothing is missed that comes during one.
            let mut news = chore.news();
            chore.turn(true).await;
            let _ = done.send(());
            loop {
                let _ = timeout(chore.interval(), changed(&mut news)).await;
                chore.turn(false).await;
            }
        };
        tokio::select! {
            biased;
            _ = phase.stopping() => {}
            () = turns => {}
        }
    });
    first
}

/// Waits for news, or for ever if there are none to come.
async fn changed(news: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = news
        && receiver.changed().await.is_ok()
    {
        return;
    }
    *news = None;
    std::future::pending().await
}

/// Drops spent nonces that can no longer be replayed.
struct Nonces {
    shared: Arc<Shared>,
}

impl Chore for Nonces {
    fn interval(&self) -> Duration {
        Duration::from_secs(self.shared.config.nonce_cleanup_interval_secs)
    }

    async fn turn(&self, _: bool) {
        self.shared.replay().expire(unix_timestamp_secs());
    }
}

/// Lets go of small answers that were written and are not acknowledged; large ones have a task that waits for that.
struct Unacknowledged {
    shared: Arc<Shared>,
}

impl Chore for Unacknowledged {
    /// The time that as many small answers as a connection may have may take, in full.
    fn interval(&self) -> Duration {
        let config = &self.shared.config;
        let bytes = u64::from(config.max_concurrent_bidi_streams) * u64::from(SMALL_BYTES);
        time_for(config.handler_timeout(), in_flight_bytes(bytes))
    }

    async fn turn(&self, _: bool) {
        self.shared.directory.sweep();
    }
}

/// What the resolvers resolve, as the log calls it. Begins in lower case.
const PERMITS: &str = "validator permit";
const SOURCES: &str = "source-address allowlist";

/// Asks who holds a permit.
struct Permits {
    shared: Arc<Shared>,
    resolver: Arc<dyn ValidatorPermitResolver>,
}

impl Chore for Permits {
    fn interval(&self) -> Duration {
        Duration::from_secs(self.shared.config.validator_permit_refresh_secs)
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        self.resolver.news()
    }

    async fn turn(&self, is_first: bool) {
        let resolver = self.resolver.clone();
        let asked = ask(PERMITS, self.interval(), move || resolver.resolve_permitted_validators()).await;
        let hotkeys = match asked {
            Ok(hotkeys) => hotkeys,
            Err(failure) => return failure.log(PERMITS, is_first),
        };
        let invalid = self.shared.permits.replace(&hotkeys);
        if invalid > 0 {
            warn!("{invalid} of the permitted validators are no hotkeys, and are ignored");
        }
        let current = self.shared.permits.current();
        match is_first {
            true => info!("Initial validator permit resolution: {} permitted validators", current.len()),
            false => info!("Refreshed validator permit cache: {} permitted validators", current.len()),
        }
        if self.shared.config.require_validator_permit {
            let closed = self
                .shared
                .directory
                .close_where(CloseReason::PermitRevoked, |member| !current.contains(&member.hotkey));
            for hotkey in closed {
                info!("validator {hotkey} has lost its permit: its connection was closed");
            }
        }
    }
}

/// Asks which addresses may connect.
struct Sources {
    shared: Arc<Shared>,
    resolver: Arc<dyn SourceAddressResolver>,
}

impl Chore for Sources {
    fn interval(&self) -> Duration {
        Duration::from_secs(self.shared.config.source_allowlist_refresh_secs)
    }

    async fn turn(&self, is_first: bool) {
        let resolver = self.resolver.clone();
        match ask(SOURCES, self.interval(), move || resolver.resolve_allowed_sources()).await {
            Ok(list) => self.put_in_force(list, is_first),
            Err(failure) => {
                failure.log(SOURCES, is_first);
                self.warn_if_nobody_is_let_in();
            }
        }
    }
}

impl Sources {
    fn put_in_force(&self, list: SourceAllowlist, is_first: bool) {
        self.shared.sources.replace(list);
        let current = self.shared.sources.current();
        let what = match current.is_bypass() {
            true => "bypass (source-IP enforcement skipped this cycle)".to_owned(),
            false => format!("{} allowed IPs", current.len()),
        };
        match is_first {
            true => info!("Initial source-address allowlist resolution: {what}"),
            false => info!("Refreshed source-address allowlist: {what}"),
        }
        self.warn_if_nobody_is_let_in();
        if self.shared.config.enforce_source_allowlist {
            let closed = self.shared.directory.close_where(CloseReason::SourceNotAllowed, |member| {
                !current.contains(member.connection.remote_address().ip())
            });
            for hotkey in closed {
                info!("the address of validator {hotkey} has left the allowlist: its connection was closed");
            }
        }
    }

    fn warn_if_nobody_is_let_in(&self) {
        let config = &self.shared.config;
        let current = self.shared.sources.current();
        if !config.enforce_source_allowlist || current.is_bypass() || current.len() > 0 {
            return;
        }
        if current.is_unresolved() {
            let refresh_secs = config.source_allowlist_refresh_secs;
            warn!(
                refresh_secs,
                "enforce_source_allowlist=true with no resolved policy; the prior fail-closed empty allowlist \
                 remains until the next refresh succeeds"
            );
        }
        warn!(
            "source-address allowlist is empty under enforce_source_allowlist=true; ALL connections will be silently \
             dropped until the resolver returns Bypass or a non-empty Enforce set"
        );
    }
}

/// Why a resolver gave no answer.
pub(super) enum Unresolved {
    Failed(LightningError),
    Panicked(String),
}

/// Asks a resolver, where it may block. One that hangs is not asked a second time meanwhile, which would only hang
/// another thread; the log says so, and again whenever it would have been asked.
pub(super) async fn ask<T: Send + 'static>(
    what: &str,
    interval: Duration,
    question: impl FnOnce() -> Result<T> + Send + 'static,
) -> std::result::Result<T, Unresolved> {
    let mut asked = spawn_blocking(question);
    let mut patience = RESOLVER_PATIENCE;
    let answered = loop {
        match timeout(patience, &mut asked).await {
            Ok(answered) => break answered,
            Err(_) => {
                warn!("the {what} resolver does not return; what it said last stays in force until it does");
                patience = interval;
            }
        }
    };
    match answered {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Unresolved::Failed(error)),
        Err(error) => Err(Unresolved::Panicked(error.to_string())),
    }
}

impl Unresolved {
    /// `what` begins in lower case.
    pub(super) fn log(self, what: &str, is_first: bool) {
        let when = if is_first { "Initial " } else { "" };
        let (how, words) = match self {
            Self::Failed(error) => ("failed", error.to_string()),
            Self::Panicked(words) => ("task panicked", words),
        };
        let line = format!("{when}{what} resolution {how}: ");
        // The first letter is a capital one with or without "Initial".
        let (first, rest) = line.split_at(1);
        error!(
            "{}{rest}{}",
            first.to_uppercase(),
            printable_within(words.as_bytes(), RESOLVER_WORDS_BYTES_MAX)
        );
    }
}
