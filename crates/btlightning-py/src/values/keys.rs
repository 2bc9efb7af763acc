//! What the keys of a map may be.
//!
//! Strings and byte strings may be any number: Python hashes them with a secret. Its hashes of numbers and tuples are known
//! to everybody, so a peer could choose keys that all fall on each other, and inserting n of them would take n² steps with
//! the GIL held. Of those keys a map may have few enough for that not to matter.

/// How many numbers, nils and truth values a map may have as keys.
const NUMBERS_MAX: usize = 8192;

/// How many keys of other kinds than numbers and strings (arrays, timestamps, extensions) a map may have.
const OTHERS_MAX: usize = 256;

/// What a key is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string or a byte string.
    Text,
    /// A number, a truth value or nil.
    Number,
    /// An array or an extension value.
    Other,
}

/// The keys of one map that are not text.
#[derive(Debug, Default)]
pub(super) struct Keys {
    numbers: usize,
    others: usize,
}

impl Keys {
    /// Counts one more. `Err` says why that is too many.
    pub(super) fn count(&mut self, kind: Kind) -> Result<(), String> {
        let (count, most, what) = match kind {
            Kind::Text => return Ok(()),
            Kind::Number => (&mut self.numbers, NUMBERS_MAX, "numbers"),
            Kind::Other => (&mut self.others, OTHERS_MAX, "neither strings nor numbers"),
        };
        *count += 1;
        if *count > most {
            return Err(format!("a map may have at most {most} keys that are {what}; use strings"));
        }
        Ok(())
    }
}
