//! The program in `dynamic.rs`, the same text, on the published package.
#![allow(clippy::duplicate_mod, reason = "compiling one text twice is the point")]

use btlightning_published as btlightning;

#[path = "dynamic.rs"]
pub mod dynamic;
