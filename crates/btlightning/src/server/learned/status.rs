//! What operators see of a learned list.

use std::io;
use std::time::{Duration, SystemTime};

use btlightning_proto::sources::{Mode, Reason};

use super::Learned;
use super::visitors::Visits;
use crate::transport::close::printable_within;

/// The longest words about a failure that are kept, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// How things stand with a [`LearnedSources`](super::LearnedSources). The counts are since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LearnedSourcesStatus {
    /// Who passes, where the list is enforced at all.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
    /// The share of permitted stake whose address is known, in thousandths.
    pub coverage_permille: u16,
    /// Hotkeys that hold a permit.
    pub permitted_hotkeys: usize,
    /// How many of them have an address that counts.
    pub known_hotkeys: usize,
    /// Addresses that count, each once.
    pub addresses: usize,
    /// How long ago it was last said who holds a permit; `None` if never.
    pub permits_age: Option<Duration>,
    /// Attempts from unknown addresses that were let in to authenticate.
    pub visitors_admitted: u64,
    /// Attempts from unknown addresses that had shown to be real, and were dropped because there were too many.
    pub visitors_turned_away: u64,
    /// Attempts from unknown addresses that may have been forged, and were dropped without a packet.
    pub attempts_dropped: u64,
    /// When the list was last written to its file; `None` if it was not yet, or has none.
    pub last_saved: Option<SystemTime>,
    /// Why the file could not be used when the list was made, or could not be written the last time; `None` once it is
    /// written.
    pub last_error: Option<String>,
}

impl LearnedSourcesStatus {
    pub(super) fn of(learned: &Learned) -> Self {
        let permits_age_secs = learned.roster().permits_age_secs(learned.clock.unix_secs());
        let in_force = learned.in_force();
        let Visits { admitted, turned_away, dropped } = learned.visitors.visits();
        let saves = learned.saves();
        Self {
            mode: in_force.mode,
            reason: in_force.reason,
            coverage_permille: in_force.coverage_permille,
            permitted_hotkeys: in_force.permitted.len(),
            known_hotkeys: in_force.hotkeys_known,
            addresses: in_force.addresses,
            permits_age: permits_age_secs.map(Duration::from_secs),
            visitors_admitted: admitted,
            visitors_turned_away: turned_away,
            attempts_dropped: dropped,
            last_saved: saves.last,
            last_error: saves.error.clone(),
        }
    }
}

/// How the file fares.
#[derive(Debug, Default)]
pub(super) struct Saves {
    last: Option<SystemTime>,
    error: Option<String>,
}

impl Saves {
    /// The file was there, and of no use.
    #[cfg_attr(not(feature = "sources-file"), allow(dead_code))]
    pub(super) fn unusable(words: &str) -> Self {
        Self { last: None, error: Some(printable_within(words.as_bytes(), ERROR_BYTES_MAX)) }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self { last: Some(SystemTime::now()), error: None };
    }

    /// Says what is kept of the error.
    pub(super) fn failed(&mut self, error: &io::Error) -> String {
        let words = printable_within(error.to_string().as_bytes(), ERROR_BYTES_MAX);
        self.error = Some(words.clone());
        words
    }
}
