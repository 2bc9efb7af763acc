//! `cargo xtask instructions`: how many instructions the hot paths take, compared with the baseline in the repository.
//!
//! Instructions and not time: they are the same on a busy machine, so that a check of 5% can be relied on. They say
//! nothing of caches, system calls and waiting; the benchmark does.
//!
//! Own code and not gungraun, which counts the same way, with the same valgrind: it wants a runner of its own installed
//! in the very version of its library, and an `unsafe` request to valgrind, within the program, to leave the start-up
//! out of the count. Here the start-up cancels out, since a scenario is run with few and with many repetitions.
//!
//! A committed baseline and not the parent commit's counts, which would be of the same environment in any case: those
//! take a second build, and let a growth of 4% pass with every commit.

mod baseline;
mod callgrind;
mod report;

use crate::{Result, steps};
use baseline::Baseline;
use callgrind::Callgrind;
use report::Report;
use std::path::Path;

/// Set to anything, it makes counts that cannot be judged a failure: where they are judged, nobody is to find out later that
/// they were not.
const MUST_JUDGE: &str = "BTLIGHTNING_INSTRUCTIONS_MUST_JUDGE";

/// Where the baseline is, in the checkout.
const BASELINE: &str = "crates/btlightning-instructions/baseline.json";

/// Counts, prints the counts beside the baseline's, and fails if one has grown too much; with `bless`, makes them the
/// baseline instead.
pub(crate) fn run(root: &Path, bless: bool) -> Result<()> {
    let path = root.join(BASELINE);
    let committed = Baseline::read(&path)?;
    let counted = Callgrind::start(root, &steps::target_dir(root))?.count()?;
    let report = Report::new(&committed, &counted);
    println!("\n{report}");
    if bless {
        counted.write(&path)?;
        println!("{BASELINE} has these counts now");
        return Ok(());
    }
    report.verdict(std::env::var_os(MUST_JUDGE).is_some())
}
