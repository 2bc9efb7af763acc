//! The `btlightning` program.
fn main() {}
