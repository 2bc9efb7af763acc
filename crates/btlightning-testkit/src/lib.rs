//! What btlightning's tests stand on: keys with names.

pub mod keys;
mod mix;
