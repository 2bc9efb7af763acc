//! How the demo speaks: headings, measurements, and what it fails with.

use std::error::Error;
use std::time::Duration;

use btlightning::{Hotkey, Timings};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many miners are listed line by line.
pub(super) const LISTED_MAX: usize = 8;

pub(super) fn and_more(listed: usize) {
    if listed > LISTED_MAX {
        println!("   … and {} more", listed - LISTED_MAX);
    }
}

pub(super) fn heading(text: &str) {
    println!("▸ {text}");
}

/// Fails the demo unless `holds`.
pub(super) fn expect(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("this does not hold: {what}").into()) }
}

/// Where the time of a call went, in words.
pub(super) fn explain(timings: &Timings) -> String {
    format!(
        "answered after {} (first byte {}, path {}, waited {} for a connection)",
        ms(timings.last_byte),
        ms(timings.first_byte),
        ms(timings.path_rtt_min),
        ms(timings.waited)
    )
}

pub(super) fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// The beginning of a hotkey, enough to tell it from others.
pub(super) fn short(hotkey: &Hotkey) -> String {
    let text = hotkey.to_string();
    format!("{}…", &text[..8])
}
