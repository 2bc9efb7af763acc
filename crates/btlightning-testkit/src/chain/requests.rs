//! What was asked of the chain, for tests to count and to wait for.

use std::{collections::BTreeMap, time::Duration};
use tokio::sync::watch;

/// Different names that are counted; what is asked beyond them counts as `other`.
const NAMES_MAX: usize = 512;

/// How long [`Log::wait`] waits at most.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often what was asked: by RPC method (`state_call`) and by function of the runtime (`Core_version`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    counts: BTreeMap<String, u64>,
}

impl Requests {
    /// How often an RPC method or a function of the runtime was asked for.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Everything that was asked, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(name, count)| (&**name, *count))
    }
}

/// The log that [`Requests`] is a copy of.
pub(super) struct Log(watch::Sender<Requests>);

impl Log {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Requests::default()))
    }

    pub(super) fn add(&self, name: &str) {
        self.0.send_modify(|requests| {
            let known = requests.counts.contains_key(name) || requests.counts.len() < NAMES_MAX;
            *requests.counts.entry(if known { name } else { "other" }.to_owned()).or_default() += 1;
        });
    }

    pub(super) fn snapshot(&self) -> Requests {
        self.0.borrow().clone()
    }

    /// Waits until `name` was asked for `count` times.
    ///
    /// # Panics
    ///
    /// If it is not within [`WAIT_MAX`]: then the test is over anyway.
    pub(super) async fn wait(&self, name: &str, count: u64) {
        let mut log = self.0.subscribe();
        let asked =
            tokio::time::timeout(WAIT_MAX, log.wait_for(|requests| requests.count(name) >= count)).await;
        assert!(asked.is_ok(), "{name} was asked for {} times, not {count}", self.snapshot().count(name));
    }
}
