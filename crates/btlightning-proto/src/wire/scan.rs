//! One pass over hostile MessagePack that says whether decoding it is safe.
//!
//! Decoding multiplies: a nil is one byte on the wire and 40 as an [`rmpv::Value`], and nesting turns into stack. So
//! nothing is decoded before a scan has checked that it is well formed, how deep it is nested, and how much memory the
//! decoded value would take. The scan itself uses no recursion and no heap, and reads each byte once at most.
//!
//! # The memory budget
//!
//! The budget of a payload is `64 MiB + 8 x its length` ([`ScanLimits::for_payload`]). Eight is what an honest list of
//! `f32` costs: five bytes on the wire, 40 decoded. So lists of floats pass at every size, as do strings and byte
//! strings, which cost what they weigh; and the base lets lists of up to about 1.6 million of the smallest values pass.
//! What does not pass is a payload that is mostly markers: 4 MiB of nils would take 160 MiB, its budget is 96 MiB.
//! The largest budget of a frame of 64 MiB is 576 MiB.

use std::mem::size_of;

use bytes::Bytes;
use rmpv::Value;

use super::error::DecodeError;
use super::reader::{Head, Reader};

/// How many arrays and maps may be in each other, at most. A scalar has nesting 0, an array of scalars 1; the envelope
/// around a payload does not count.
pub const NESTING_MAX: usize = 128;

/// The part of the memory budget that every payload has, in bytes: 64 MiB.
pub const MEMORY_BASE_BYTES: usize = 64 * 1024 * 1024;

/// The part of the memory budget that a payload has for each of its bytes, in bytes.
pub const MEMORY_PER_PAYLOAD_BYTE: usize = 8;

/// What a scan allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// How many arrays and maps may be in each other. More than [`NESTING_MAX`] counts as [`NESTING_MAX`].
    pub nesting_max: usize,
    /// How much memory the decoded value may take, in bytes, by the estimate of [`Extent::memory_bytes`].
    pub memory_bytes_max: usize,
}

impl ScanLimits {
    /// The limits of a payload of this many bytes that a peer sent: [`NESTING_MAX`], and the memory budget
    /// [`MEMORY_BASE_BYTES`]` + `[`MEMORY_PER_PAYLOAD_BYTE`]` x payload_bytes`.
    pub const fn for_payload(payload_bytes: usize) -> Self {
        Self {
            nesting_max: NESTING_MAX,
            memory_bytes_max: MEMORY_BASE_BYTES
                .saturating_add(MEMORY_PER_PAYLOAD_BYTE.saturating_mul(payload_bytes)),
        }
    }

    /// The limits of bytes that this process encoded itself: [`NESTING_MAX`], and any amount of memory, since the
    /// value was in memory already.
    pub const fn trusted() -> Self {
        Self { nesting_max: NESTING_MAX, memory_bytes_max: usize::MAX }
    }
}

/// What a scan found out about a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many bytes the value takes on the wire.
    pub bytes: usize,
    /// How many bytes of memory it takes as an [`rmpv::Value`] or as a map of them, at most: the values, the contents
    /// of strings, and what an allocation costs beside its contents.
    pub memory_bytes: usize,
}

/// Checks the first value in `bytes`. What follows it is not looked at.
///
/// # Errors
/// [`DecodeError::Truncated`], also for a declared length that the bytes left over cannot hold;
/// [`DecodeError::ReservedMarker`]; [`DecodeError::TooDeep`]; [`DecodeError::TooMuchMemory`].
pub fn scan(bytes: &[u8], limits: &ScanLimits) -> Result<Extent, DecodeError> {
    let nesting_max = limits.nesting_max.min(NESTING_MAX);
    let mut memory = Memory { bytes: VALUE_BYTES, bytes_max: limits.memory_bytes_max };
    let mut reader = Reader::new(bytes);
    // How many values are still to come in each array and map that is open, the outermost first.
    let mut left = [0_usize; NESTING_MAX];
    let mut open = 0;
    loop {
        let inside = match reader.head()? {
            Head::Str(body) | Head::Bin(body) | Head::Ext(_, body) => {
                memory.charge(1, body.len())?;
                None
            }
            Head::Array(length) => {
                memory.charge(length, VALUE_BYTES)?;
                Some(length)
            }
            Head::Map(pairs) => {
                memory.charge(pairs, if open == 0 { TOP_PAIR_BYTES } else { 2 * VALUE_BYTES })?;
                Some(2 * pairs)
            }
            _ => None,
        };
        if let Some(inside) = inside {
            if open == nesting_max {
                return Err(DecodeError::TooDeep { nesting_max });
            }
            left[open] = inside;
            open += 1;
        }
        // Close what is complete, an array or map that just opened with nothing in it included.
        while open > 0 && left[open - 1] == 0 {
            open -= 1;
        }
        if open == 0 {
            return Ok(Extent { bytes: bytes.len() - reader.rest().len(), memory_bytes: memory.bytes });
        }
        left[open - 1] -= 1;
    }
}

/// One MessagePack value that a [`scan`] found well formed and within limits. Only such a value can be decoded.
#[derive(Debug, Clone, Copy)]
pub struct Scanned<'a> {
    bytes: &'a [u8],
}

impl<'a> Scanned<'a> {
    /// Scans `bytes`, which have to be one value and nothing else.
    ///
    /// # Errors
    /// Those of [`scan`], and [`DecodeError::Trailing`].
    pub fn whole(bytes: &'a [u8], limits: &ScanLimits) -> Result<Self, DecodeError> {
        let (scanned, rest) = Self::first(bytes, limits)?;
        Reader::new(rest).finish()?;
        Ok(scanned)
    }

    /// Scans the first value of `bytes`, and hands out what follows it.
    ///
    /// # Errors
    /// Those of [`scan`].
    pub fn first(bytes: &'a [u8], limits: &ScanLimits) -> Result<(Self, &'a [u8]), DecodeError> {
        let (value, rest) = bytes.split_at(scan(bytes, limits)?.bytes);
        Ok((Self { bytes: value }, rest))
    }

    /// The value as it stands on the wire.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

/// A [`Scanned`] value that shares the buffer it arrived in, and so can be sent to a task or kept.
#[derive(Debug, Clone)]
pub struct ScannedBytes {
    bytes: Bytes,
}

impl ScannedBytes {
    /// Scans `bytes`, which have to be one value and nothing else.
    ///
    /// # Errors
    /// Those of [`scan`], and [`DecodeError::Trailing`].
    pub fn whole(bytes: Bytes, limits: &ScanLimits) -> Result<Self, DecodeError> {
        Scanned::whole(&bytes, limits)?;
        Ok(Self { bytes })
    }

    /// Scans the first value of `bytes[from..]`; shares it, does not copy it.
    pub(super) fn first_at(bytes: &Bytes, from: usize, limits: &ScanLimits) -> Result<Self, DecodeError> {
        let rest = bytes.get(from..).ok_or(DecodeError::Truncated)?;
        let extent = scan(rest, limits)?;
        Ok(Self { bytes: bytes.slice(from..from + extent.bytes) })
    }

    /// The value, to be decoded.
    pub fn as_scanned(&self) -> Scanned<'_> {
        Scanned { bytes: &self.bytes }
    }

    /// The value as it stands on the wire.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

const VALUE_BYTES: usize = size_of::<Value>();

/// What the allocator adds to an allocation, by a conservative guess.
const ALLOCATION_BYTES: usize = 16;

/// A pair of the outermost map, which becomes a `HashMap<String, Value>`: its table has up to 16/7 places for an entry,
/// each with a control byte. More than the two values that it would take in a list of pairs.
const TOP_PAIR_BYTES: usize = (size_of::<(String, Value)>() + 1) * 16 / 7 + 1;

struct Memory {
    bytes: usize,
    bytes_max: usize,
}

impl Memory {
    /// Charges an allocation of `count` things of `each` bytes.
    fn charge(&mut self, count: usize, each: usize) -> Result<(), DecodeError> {
        let bytes = count.saturating_mul(each).saturating_add(ALLOCATION_BYTES);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(DecodeError::TooMuchMemory { memory_bytes_max: self.bytes_max });
        }
        Ok(())
    }
}
