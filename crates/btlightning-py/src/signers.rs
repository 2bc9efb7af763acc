//! Keys that Python holds.
