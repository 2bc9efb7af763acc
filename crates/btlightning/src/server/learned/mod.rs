//! [`LearnedSources`], a source allowlist that nobody has to write: it learns where permitted validators come from.
//!
//! What is decided when is in `btlightning_proto::sources`; this gives it a clock, the server's connections, a file, and
//! tasks. `builder` has the knobs, `keeping` what is done in the background, `visitors` who may try without being on
//! the list, `file` what is kept over restarts, `status` what the operator sees.

mod builder;
#[cfg(feature = "sources-file")]
mod file;
#[cfg(not(feature = "sources-file"))]
#[path = "no_file.rs"]
mod file;
pub(in crate::server) mod keeping;
mod status;
mod visitors;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use btlightning_proto::sources::{CLOCK_SECS_MIN, Decision, Mode, Observed, Reason, Roster, SourceEntry};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::builder::LearnedSourcesBuilder;
use self::file::SourcesFile;
#[cfg(feature = "sources-file")]
pub(crate) use self::file::record_in as sources_record_in;
pub use self::status::LearnedSourcesStatus;
use self::status::Saves;
pub(super) use self::visitors::Visitors;
use super::hush::Hush;
use super::policy::Allowed;
use crate::Hotkey;
use crate::util::unix_timestamp_secs;

/// Knows which validators hold a permit, and how much stake each has.
///
/// Closures are such: `move || Some(permitted.clone())`.
pub trait PermittedStakes: Send + Sync {
    /// The permitted hotkeys with their stakes, in whatever unit; `None` while that is not known, or no longer. An empty
    /// list, or one without any stake, counts as not known: it is what a failing chain looks like.
    ///
    /// May block: called on a thread of the blocking pool, when the server begins to serve and then every
    /// `source_allowlist_refresh_secs`, and never again before the last call has returned.
    fn permitted_stakes(&self) -> Option<Arc<[(Hotkey, u64)]>>;

    /// Changes when it is worth asking before the time.
    #[doc(hidden)]
    fn news(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

impl<F: Fn() -> Option<Arc<[(Hotkey, u64)]>> + Send + Sync> PermittedStakes for F {
    fn permitted_stakes(&self) -> Option<Arc<[(Hotkey, u64)]>> {
        self()
    }
}

/// A source allowlist that learns.
///
/// Validators do not publish their addresses. This notes the address of each permitted hotkey that authenticates, lets
/// everybody pass until the noted addresses cover a set share of permitted stake, and then only those who are on the
/// list: packets of others are dropped, but for a few *visitors* a minute, who may show who they are. So a validator
/// that has moved comes in, and is noted. When coverage falls, because addresses grow old or permits change, everybody
/// passes again. Whatever fails or gets lost makes it pass, or go on as it was; an empty list is never enforced.
///
/// Made by [`builder`](Self::builder), given to [`LightningServer::learn_sources`]. Clones are the same list, and
/// several servers of one subnet may share it. It enforces where
/// [`enforce_source_allowlist`](crate::LightningServerConfig::enforce_source_allowlist) is set. Without that it is a
/// rehearsal: it learns, decides and reports, and nobody is turned away.
///
/// ```
/// use std::sync::Arc;
/// use btlightning::server::{LearnedSources, LightningServerConfig};
/// use btlightning::{Hotkey, LightningServer};
/// # fn main() -> btlightning::Result<()> {
/// # let permitted: Arc<[(Hotkey, u64)]> = Arc::new([]);
/// let config = LightningServerConfig::builder().enforce_source_allowlist(true).build()?;
/// let server = LightningServer::with_config("5F...".into(), "0.0.0.0".into(), 8443, config)?;
/// let sources = LearnedSources::builder(move || Some(permitted.clone())).build()?;
/// server.learn_sources(sources.clone());
/// println!("{:?}", sources.status());
/// # Ok(())
/// # }
/// ```
///
/// [`LightningServer::learn_sources`]: crate::LightningServer::learn_sources
#[derive(Clone)]
pub struct LearnedSources(pub(super) Arc<Learned>);

impl LearnedSources {
    /// A list that asks `permits` who holds a permit, with the default settings.
    pub fn builder(permits: impl PermittedStakes + 'static) -> LearnedSourcesBuilder {
        LearnedSourcesBuilder::new(Arc::new(permits))
    }

    /// How things stand. Cheap: nothing is computed for it.
    pub fn status(&self) -> LearnedSourcesStatus {
        LearnedSourcesStatus::of(&self.0)
    }

    /// Every address that is noted: of permitted hotkeys, whether or not they were seen of late, and of hotkeys whose
    /// permit is gone, for a day. At most 16,384, ordered by hotkey. For operators, who may want to tell a firewall.
    pub fn entries(&self) -> Vec<SourceEntry> {
        let now = self.0.clock.unix_secs();
        self.0.roster().entries(now).collect()
    }
}

impl fmt::Debug for LearnedSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LearnedSources").field(&self.status()).finish()
    }
}

/// What the clones share.
pub(super) struct Learned {
    pub(super) visitors: Visitors,
    permits: Arc<dyn PermittedStakes>,
    clock: Clock,
    roster: Mutex<Roster>,
    in_force: RwLock<Arc<InForce>>,
    /// Told when something was learned that others may have to act upon.
    news: watch::Sender<()>,
    file: Option<SourcesFile>,
    /// Held while the file is written.
    writing: Mutex<()>,
    saves: Mutex<Saves>,
    hush: Hushes,
}

/// One for each kind of line.
struct Hushes {
    learned: Hush,
    permits: Hush,
    saves: Hush,
}

/// What was decided last.
#[derive(Debug)]
struct InForce {
    allowed: Arc<Allowed>,
    permitted: HashSet<Hotkey>,
    mode: Mode,
    reason: Reason,
    coverage_permille: u16,
    hotkeys_known: usize,
    addresses: usize,
}

impl Learned {
    /// Who may connect.
    pub(super) fn allowed(&self) -> Arc<Allowed> {
        self.in_force().allowed.clone()
    }

    /// Whether `hotkey` holds a permit, as it was last said.
    pub(super) fn is_permitted(&self, hotkey: &Hotkey) -> bool {
        self.in_force().permitted.contains(hotkey)
    }

    /// Whether an authenticated connection of `hotkey` from `ip` may go on.
    pub(super) fn may_stay(&self, hotkey: &Hotkey, ip: IpAddr) -> bool {
        self.in_force().may_stay(hotkey, ip)
    }

    /// Takes note that `hotkey` has proven itself from `ip`. A new address is in force when this returns.
    pub(super) fn observe(&self, hotkey: &Hotkey, ip: IpAddr) {
        if self.roster().observe(hotkey, ip, self.clock.unix_secs()) == Observed::Learned {
            self.decide();
            self.news.send_replace(());
            self.hush.learned.line(|more| info!("learned sources: validator {hotkey} is at {ip}{more}"));
        }
    }

    /// Takes note of the connections that live: of each its validator, where it was accepted from, and where it is.
    fn attend(&self, connections: &[(Hotkey, IpAddr, IpAddr)]) {
        let now = self.clock.unix_secs();
        let mut roster = self.roster();
        let mut moved = Vec::new();
        for (hotkey, accepted_from, ip) in connections {
            if accepted_from == ip {
                // Also of those who got their permit after they had authenticated.
                roster.observe(hotkey, *ip, now);
            } else {
                // Nobody has shown that packets arrive there, least of all that the validator is there.
                moved.push((*hotkey, *ip));
            }
        }
        roster.present(&moved, now);
    }

    /// Takes note of who holds a permit.
    fn permitted(&self, list: &[(Hotkey, u64)]) {
        if self.roster().permitted(list, self.clock.unix_secs()) {
            self.news.send_replace(());
        } else {
            self.hush.permits.line(|more| {
                warn!(
                    "learned sources: the list of permits is empty or without stake; the last one stays{more}"
                );
            });
        }
    }

    /// Decides who passes, and puts it in force.
    fn decide(&self) {
        // Locked until it is in force, so that of two decisions the later one stays.
        let mut roster = self.roster();
        let decided = Arc::new(InForce::from(roster.decide(self.clock.unix_secs())));
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *in_force, decided.clone());
        drop((in_force, roster));
        if before.mode != decided.mode {
            self.news.send_replace(());
            decided.log("from now on");
        }
    }

    /// Writes the list down, if it has a file. Blocks. One call after another.
    fn save(&self) {
        let Some(file) = &self.file else { return };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = match self.clock.unix_secs() {
            // What was learned in 1970 would take the place of what a later start can use.
            now if now < CLOCK_SECS_MIN => {
                Err(io::Error::other(format!("the clock is not set, it reads {now} s after 1970")))
            }
            now => {
                let record = self.roster().record();
                file.write(&record, now)
            }
        };
        match saved {
            Ok(()) => self.saves().succeeded(),
            Err(error) => {
                let words = self.saves().failed(&error);
                self.hush.saves.line(|more| warn!("learned sources: not saved: {words}{more}"));
            }
        }
    }

    fn saves(&self) -> MutexGuard<'_, Saves> {
        self.saves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Decision> for InForce {
    fn from(decision: Decision) -> Self {
        let Decision { mode, reason, coverage_permille, permitted, hotkeys_known, allowed } = decision;
        let addresses = allowed.len();
        let allowed = match mode {
            Mode::Learning => Allowed::Everybody,
            Mode::Enforcing => Allowed::Only(allowed),
        };
        Self {
            allowed: Arc::new(allowed),
            permitted,
            mode,
            reason,
            coverage_permille,
            hotkeys_known,
            addresses,
        }
    }
}

impl InForce {
    /// Whether an authenticated connection may go on. One of a permitted hotkey always may: wherever it is, packets of
    /// others do not become its own.
    fn may_stay(&self, hotkey: &Hotkey, ip: IpAddr) -> bool {
        self.permitted.contains(hotkey) || self.allowed.contains(ip)
    }

    fn log(&self, when: &str) {
        let who = match self.mode {
            Mode::Learning => "everybody passes",
            Mode::Enforcing => "only known addresses and a few visitors pass",
        };
        let (percent, tenths) = (self.coverage_permille / 10, self.coverage_permille % 10);
        info!(
            "learned sources: {who} {when}: {} ({percent}.{tenths} % of it; hotkeys: {} of {}; addresses: {})",
            self.reason,
            self.hotkeys_known,
            self.permitted.len(),
            self.addresses,
        );
    }
}

/// The wall clock as it was when it was first seen to be set, and steady from there on: whoever sets the clock while the
/// program runs makes no address old.
struct Clock {
    wall: fn() -> u64,
    begun: OnceLock<(u64, Instant)>,
}

impl Clock {
    fn start() -> Self {
        Self::of(unix_timestamp_secs)
    }

    /// Of a wall clock that reads Unix seconds.
    fn of(wall: fn() -> u64) -> Self {
        let clock = Self { wall, begun: OnceLock::new() };
        clock.unix_secs();
        clock
    }

    /// Before [`CLOCK_SECS_MIN`] as long as the wall clock is not set, as on a machine that has just started.
    fn unix_secs(&self) -> u64 {
        if let Some((unix_secs, since)) = self.begun.get() {
            return unix_secs.saturating_add(since.elapsed().as_secs());
        }
        let unix_secs = (self.wall)();
        if unix_secs >= CLOCK_SECS_MIN {
            let _ = self.begun.set((unix_secs, Instant::now()));
        }
        unix_secs
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::testing::lines;

    #[test]
    fn a_clock_that_is_set_late_is_steady_from_then_on() {
        static WALL: AtomicU64 = AtomicU64::new(5);
        let clock = Clock::of(|| WALL.load(Ordering::Relaxed));
        assert_eq!(clock.unix_secs(), 5);
        WALL.store(CLOCK_SECS_MIN, Ordering::Relaxed);
        assert!((CLOCK_SECS_MIN..CLOCK_SECS_MIN + 60).contains(&clock.unix_secs()));
        WALL.store(5, Ordering::Relaxed);
        assert!((CLOCK_SECS_MIN..CLOCK_SECS_MIN + 60).contains(&clock.unix_secs()));
    }

    #[cfg(feature = "sources-file")]
    #[test]
    fn nothing_is_saved_while_the_clock_is_not_set() {
        static WALL: AtomicU64 = AtomicU64::new(0);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sources.json");
        let start = |wall| {
            WALL.store(wall, Ordering::Relaxed);
            let builder = LearnedSources::builder(|| None).learning_time_min(Duration::ZERO);
            builder.file(&path, 2, [1; 32]).build_by(Clock::of(|| WALL.load(Ordering::Relaxed))).unwrap()
        };
        let hotkey = Hotkey::from_public_key([1; 32]).unwrap();
        let sources = start(CLOCK_SECS_MIN);
        sources.0.permitted(&[(hotkey, 1)]);
        sources.0.observe(&hotkey, "192.0.2.1".parse().unwrap());
        sources.0.save();
        let written = std::fs::read(&path).unwrap();

        let sources = start(5);
        assert_eq!(sources.status().mode, Mode::Enforcing, "as the file says");
        sources.0.observe(&hotkey, "192.0.2.2".parse().unwrap());
        let said = lines(|| sources.0.save());
        assert_eq!(said, ["WARN learned sources: not saved: the clock is not set, it reads 5 s after 1970"]);
        assert_eq!(std::fs::read(&path).unwrap(), written);
        assert!(sources.status().last_error.unwrap().contains("the clock is not set"));

        // Set meanwhile, a day later.
        WALL.store(CLOCK_SECS_MIN + 24 * 3600, Ordering::Relaxed);
        sources.0.save();
        let status = start(CLOCK_SECS_MIN + 24 * 3600).status();
        assert_eq!((status.mode, status.addresses, status.last_error), (Mode::Enforcing, 2, None));
    }

    #[test]
    fn the_log_says_who_passes_from_when_on_and_why() {
        let hotkey = |n| Hotkey::from_public_key([n; 32]).unwrap();
        let sources = LearnedSources::builder(|| None).learning_time_min(Duration::ZERO).build().unwrap();
        let learned = &sources.0;
        let said = lines(|| {
            learned.permitted(&[]);
            learned.permitted(&[(hotkey(1), 900), (hotkey(2), 99)]);
            learned.decide();
            learned.observe(&hotkey(1), "192.0.2.1".parse().unwrap());
            learned.observe(&hotkey(1), "192.0.2.1".parse().unwrap());
            learned.observe(&hotkey(3), "192.0.2.3".parse().unwrap());
            learned.permitted(&[(hotkey(2), 1)]);
            learned.decide();
        });
        let expected = [
            "WARN learned sources: the list of permits is empty or without stake; the last one stays".to_owned(),
            "INFO learned sources: only known addresses and a few visitors pass from now on: the addresses of enough \
             permitted stake are known (90.0 % of it; hotkeys: 1 of 2; addresses: 1)"
                .to_owned(),
            format!("INFO learned sources: validator {} is at 192.0.2.1", hotkey(1)),
            "INFO learned sources: everybody passes from now on: the addresses of too little permitted stake are known \
             (0.0 % of it; hotkeys: 0 of 1; addresses: 0)"
                .to_owned(),
        ];
        assert_eq!(said, expected);
    }
}
