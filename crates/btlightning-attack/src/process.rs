//! What the operating system says of this process.

use std::time::Duration;

use peak_alloc::PeakAlloc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::verdict::Failure;

/// The system's allocator, which counts what it has given: the resident set also holds what it has not given back.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What a process has cost so far.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Processor time of all threads, user and system together.
    pub(crate) cpu: Duration,
    /// The resident set now.
    pub(crate) rss_bytes: u64,
    /// The largest that it has been since [`forget_peak`].
    pub(crate) rss_peak_bytes: u64,
    /// What is allocated now.
    pub(crate) heap_bytes: u64,
}

impl Usage {
    /// Of this process.
    pub(crate) fn now() -> Result<Self, Failure> {
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(u64::try_from(spent.tv_sec)?, u32::try_from(spent.tv_nsec)?);
        let status = std::fs::read_to_string("/proc/self/status")?;
        let bytes_of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.map(|kib| kib * 1024).ok_or_else(|| format!("/proc/self/status says nothing of {name}"))
        };
        let heap_bytes = HEAP.current_usage() as u64;
        Ok(Self { cpu, rss_bytes: bytes_of("VmRSS:")?, rss_peak_bytes: bytes_of("VmHWM:")?, heap_bytes })
    }
}

/// Has the largest resident set be the one of now.
pub(crate) fn forget_peak() -> Result<(), Failure> {
    // proc(5): resets the peak of the resident set.
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}

/// Allows this process as many open files as the system lets it have: attackers come from many addresses.
pub(crate) fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
