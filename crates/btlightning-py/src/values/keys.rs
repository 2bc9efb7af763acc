//! What the keys of the maps in a payload may cost.
//!
//! Strings and byte strings may be any number: Python hashes them with a secret. Its hashes of all else are known to
//! everybody, so a peer could choose keys that fall on each other, and to insert one would take as many steps as the map
//! has of them, with the GIL held; of keys that are arrays, each step compares two of them, element by element. So the
//! steps are counted as if it were so, and all maps of a payload share one budget of them. Maps with few such keys cost
//! next to nothing; [`STEPS_MAX`] is spent by 8,192 numbers in one map, or by 1,024 numbers in each of 64, or by 256 keys of
//! 64 bytes that are arrays.

/// How many steps the keys of one payload may take: some tens of milliseconds.
const STEPS_MAX: usize = 1 << 25;

/// For how many steps the comparison of one byte counts, where keys are compared: an element of an array takes a byte or
/// more.
const STEPS_A_BYTE: usize = 16;

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

/// What is left for the keys of one payload.
#[derive(Debug)]
pub(super) struct Budget {
    steps: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: STEPS_MAX }
    }
}

/// The keys of one map that are not text.
#[derive(Debug, Default)]
pub(super) struct Keys {
    count: usize,
}

impl Keys {
    /// Counts one more, that takes so many bytes on the wire. `Err` says why that is too much.
    pub(super) fn count(&mut self, kind: Kind, bytes: usize, budget: &mut Budget) -> Result<(), String> {
        let steps = match kind {
            Kind::Text => return Ok(()),
            Kind::Number => self.count,
            Kind::Other => self.count.saturating_mul(bytes.saturating_mul(STEPS_A_BYTE)),
        };
        self.count += 1;
        let Some(left) = budget.steps.checked_sub(steps) else {
            return Err("too many keys of maps that are no strings, or too long ones; use strings".into());
        };
        budget.steps = left;
        Ok(())
    }
}
