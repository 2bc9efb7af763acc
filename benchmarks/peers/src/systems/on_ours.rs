//! The program in `dynamic.rs` on this project.

use btlightning_ours as btlightning;

#[path = "dynamic.rs"]
pub mod dynamic;
