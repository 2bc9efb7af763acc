//! Jobs that nobody has taken yet, the oldest first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::job::Job;

/// The most jobs that wait at once. Their requests' bytes are bounded by the server's `intake`, for each connection.
const JOBS_MAX: usize = 16_384;

#[derive(Default)]
pub(super) struct Waiting {
    jobs: BTreeMap<u64, (Instant, Job)>,
    last_number: u64,
}

impl Waiting {
    /// The number that the job has from now on; `None` if there is no room.
    pub(super) fn push(&mut self, job: Job) -> Option<u64> {
        if self.jobs.len() >= JOBS_MAX {
            return None;
        }
        self.last_number += 1;
        self.jobs.insert(self.last_number, (Instant::now(), job));
        Some(self.last_number)
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Job)> {
        self.jobs.pop_first().map(|(number, (_, job))| (number, job))
    }

    /// Takes a job back that nobody has taken.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<Job> {
        self.jobs.remove(&number).map(|(_, job)| job)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many have waited for `late` or longer.
    pub(super) fn late(&self, late: Duration) -> usize {
        let now = Instant::now();
        self.jobs.values().take_while(|(since, _)| now.duration_since(*since) >= late).count()
    }
}
