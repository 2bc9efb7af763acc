//! The benchmark's driver: runs *peers*, which are programs that speak for one system each, side by side, and reports
//! what it measured.
//!
//! - [`protocol`], [`peer`]: what a peer is told and answers, and the child process that it is.
//! - [`relay`]: what stands between two peers to count their bytes, or to be a long and lossy path.
//! - [`systems`], [`plan`], [`work`], [`run`]: who is measured, what is measured, how each work is done, and the run.
//! - [`statistics`], [`machine`], [`results`]: what is made of the samples, where they come from, and how they are kept.
//! - [`report`]: tables and charts, of the results alone.

pub mod machine;
pub mod peer;
pub mod plan;
pub mod progress;
pub mod protocol;
pub mod relay;
pub mod report;
pub mod results;
pub mod run;
pub mod statistics;
pub mod systems;
pub mod work;
