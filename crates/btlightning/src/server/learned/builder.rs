//! [`LearnedSourcesBuilder`], with every default in one place.

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use btlightning_proto::sources::{Roster, RosterPolicy, RosterRecord, VisitorLimits};
use tokio::sync::watch;

use super::file::SourcesFile;
use super::status::Saves;
use super::{Clock, Hushes, InForce, Learned, LearnedSources, PermittedStakes, Visitors};
use crate::error::Result;
use crate::limits::require;
use crate::server::hush::Hush;

/// The most visitors of each IP version in a minute, and at once; the most Retries in a second.
const VISITORS_MOST: u32 = 60_000;

/// Builds a [`LearnedSources`].
#[must_use]
pub struct LearnedSourcesBuilder {
    permits: Arc<dyn PermittedStakes>,
    policy: RosterPolicy,
    visitors: VisitorLimits,
    #[cfg(feature = "sources-file")]
    file: Option<SourcesFile>,
}

impl LearnedSourcesBuilder {
    pub(super) fn new(permits: Arc<dyn PermittedStakes>) -> Self {
        Self {
            permits,
            policy: RosterPolicy::default(),
            visitors: VisitorLimits::default(),
            #[cfg(feature = "sources-file")]
            file: None,
        }
    }

    /// Keeps the list in the file `path`, so that it survives restarts. By default it is kept nowhere.
    ///
    /// The file belongs to one subnet of one chain, `netuid` and the hash of the chain's `genesis` block. Its directory
    /// must be there. It is JSON of at most 4 MiB, replaced as a whole (readable by its owner alone): within 10 s of
    /// what is learned, at each refresh, and when the server stops. One that cannot be read, or that is of another
    /// subnet, chain or version, is renamed and logged, and learning begins anew. Nothing is written while the machine's
    /// clock reads a time before 2025, which would make all that is noted look old at the next start.
    #[cfg(feature = "sources-file")]
    pub fn file(mut self, path: impl Into<std::path::PathBuf>, netuid: u16, genesis: [u8; 32]) -> Self {
        self.file = Some(SourcesFile::new(path.into(), netuid, genesis));
        self
    }

    /// The share of permitted stake whose address must be known before others are turned away, in thousandths. Default:
    /// 800. From `coverage_to_relax_permille` to 1000.
    pub fn coverage_to_enforce_permille(mut self, permille: u16) -> Self {
        self.policy.coverage_to_enforce_permille = permille;
        self
    }

    /// The share below which everybody passes again, in thousandths. Default: 500. From 1 to
    /// `coverage_to_enforce_permille`.
    pub fn coverage_to_relax_permille(mut self, permille: u16) -> Self {
        self.policy.coverage_to_relax_permille = permille;
        self
    }

    /// How long everybody passes at first, whatever the coverage, so that one validator with most of the stake does not
    /// shut the others out before they had time to come. Whole seconds of the time that the server runs and permits are
    /// known. Default: an hour. May be zero.
    pub fn learning_time_min(mut self, time: Duration) -> Self {
        self.policy.learning_secs_min = time.as_secs();
        self
    }

    /// An address does not count any more when its validator was not there for this long, in whole seconds. Default: 14
    /// days. At least a minute.
    pub fn address_age_max(mut self, age: Duration) -> Self {
        self.policy.address_age_secs_max = age.as_secs();
        self
    }

    /// How long the addresses of a hotkey that lost its permit are remembered, in case it comes back, in whole seconds.
    /// They are not let in meanwhile. Default: a day. May be zero.
    pub fn permit_grace(mut self, grace: Duration) -> Self {
        self.policy.permit_grace_secs = grace.as_secs();
        self
    }

    /// Everybody passes when nobody has said for this long who holds a permit, in whole seconds. Default: 7 days. At
    /// least a minute.
    pub fn permits_age_max(mut self, age: Duration) -> Self {
        self.policy.permits_age_secs_max = age.as_secs();
        self
    }

    /// How many connections from addresses that are not on the list are let in to authenticate in a minute, of each IP
    /// version. Default: 60. From 1 to 60,000. One address (one /64 of IPv6) has one of them in a minute. Each takes the
    /// place of a stranger until `handshake_timeout_secs` are over.
    pub fn visitors_per_minute(mut self, visitors: u32) -> Self {
        self.visitors.per_minute = visitors;
        self
    }

    /// How many of these may come at once after a quiet time. Default: 10. From 1 to 60,000.
    pub fn visitors_burst(mut self, visitors: u32) -> Self {
        self.visitors.burst = visitors;
        self
    }

    /// How many QUIC Retries, packets of about 120 bytes, are sent in a second to addresses that are not on the list and
    /// may be forged. Default: 50. From 1 to 60,000.
    pub fn retries_per_second(mut self, retries: u32) -> Self {
        self.visitors.retries_per_second = retries;
        self
    }

    /// The list. Reads its file, if it has one, and so may block for a moment.
    ///
    /// # Errors
    /// [`Config`](crate::LightningError::Config) names the setting that is out of its bounds; or when the file's
    /// directory is not there, or a file that is of no use cannot be renamed.
    pub fn build(self) -> Result<LearnedSources> {
        self.build_by(Clock::start())
    }

    pub(super) fn build_by(self, clock: Clock) -> Result<LearnedSources> {
        self.check()?;
        let (file, record, saves) = self.read()?;
        let mut roster = match record {
            Some(record) => Roster::restore(self.policy, record),
            None => Roster::new(self.policy),
        };
        let in_force = InForce::from(roster.decide(clock.unix_secs()));
        Ok(LearnedSources(Arc::new(Learned {
            visitors: Visitors::new(self.visitors),
            permits: self.permits,
            clock,
            roster: Mutex::new(roster),
            in_force: RwLock::new(Arc::new(in_force)),
            news: watch::Sender::new(()),
            file,
            writing: Mutex::new(()),
            saves: Mutex::new(saves),
            hush: Hushes { learned: Hush::new(), permits: Hush::new(), saves: Hush::new() },
        })))
    }

    fn check(&self) -> Result<()> {
        let RosterPolicy { coverage_to_enforce_permille: enforce, coverage_to_relax_permille: relax, .. } =
            self.policy;
        require((1..=1000).contains(&enforce), || {
            format!("coverage_to_enforce_permille ({enforce}) must be from 1 to 1000")
        })?;
        require((1..=enforce).contains(&relax), || {
            format!(
                "coverage_to_relax_permille ({relax}) must be from 1 to coverage_to_enforce_permille ({enforce})"
            )
        })?;
        for (name, secs) in [
            ("address_age_max", self.policy.address_age_secs_max),
            ("permits_age_max", self.policy.permits_age_secs_max),
        ] {
            require(secs >= 60, || format!("{name} must be at least a minute"))?;
        }
        for (name, count) in [
            ("visitors_per_minute", self.visitors.per_minute),
            ("visitors_burst", self.visitors.burst),
            ("retries_per_second", self.visitors.retries_per_second),
        ] {
            require((1..=VISITORS_MOST).contains(&count), || {
                format!("{name} ({count}) must be from 1 to {VISITORS_MOST}")
            })?;
        }
        Ok(())
    }

    #[cfg(feature = "sources-file")]
    fn read(&self) -> Result<(Option<SourcesFile>, Option<RosterRecord>, Saves)> {
        let Some(file) = self.file.clone() else { return Ok((None, None, Saves::default())) };
        Ok(match file.read()? {
            super::file::Content::Nothing => (Some(file), None, Saves::default()),
            super::file::Content::Record(record) => (Some(file), Some(record), Saves::default()),
            super::file::Content::SetAside(words) => (Some(file), None, Saves::unusable(&words)),
        })
    }

    #[cfg(not(feature = "sources-file"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with a file")]
    fn read(&self) -> Result<(Option<SourcesFile>, Option<RosterRecord>, Saves)> {
        Ok((None, None, Saves::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LightningError;

    fn refused(change: impl FnOnce(LearnedSourcesBuilder) -> LearnedSourcesBuilder) -> String {
        match change(LearnedSources::builder(|| None)).build() {
            Err(LightningError::Config(why)) => why,
            other => panic!("expected a Config error, got {other:?}"),
        }
    }

    #[test]
    fn each_bound_is_checked_and_names_its_setting() {
        LearnedSources::builder(|| None).build().unwrap();
        for permille in [0, 1001] {
            let why = refused(|b| b.coverage_to_enforce_permille(permille));
            assert_eq!(why, format!("coverage_to_enforce_permille ({permille}) must be from 1 to 1000"));
        }
        for permille in [0, 801] {
            let why = refused(|b| b.coverage_to_relax_permille(permille));
            assert!(why.starts_with(&format!("coverage_to_relax_permille ({permille}) must be")), "{why}");
        }
        let second = Duration::from_secs(59);
        assert_eq!(refused(|b| b.address_age_max(second)), "address_age_max must be at least a minute");
        assert_eq!(refused(|b| b.permits_age_max(second)), "permits_age_max must be at least a minute");
        for count in [0, VISITORS_MOST + 1] {
            assert!(refused(|b| b.visitors_per_minute(count)).starts_with("visitors_per_minute"));
            assert!(refused(|b| b.visitors_burst(count)).starts_with("visitors_burst"));
            assert!(refused(|b| b.retries_per_second(count)).starts_with("retries_per_second"));
        }
        let zeros = LearnedSources::builder(|| None).learning_time_min(Duration::ZERO);
        zeros.permit_grace(Duration::ZERO).build().unwrap();
    }
}
