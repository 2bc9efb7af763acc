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
                if open == 0 && pairs > 0 {
                    memory.charge(pairs.max(TOP_PAIRS_MIN), TOP_PAIR_BYTES)?;
                } else {
                    memory.charge(pairs, 2 * VALUE_BYTES)?;
                }
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
    memory_bytes_max: usize,
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
        Ok((Self { bytes: value, memory_bytes_max: limits.memory_bytes_max }, rest))
    }

    /// The value as it stands on the wire.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The limit of memory that the scan was given.
    pub(super) fn memory_bytes_max(self) -> usize {
        self.memory_bytes_max
    }

    /// A value of a peer's that is in memory, written down again: it may take as much as a payload of its size, and no
    /// less than it takes already.
    pub(super) fn written_again(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let extent = scan(bytes, &ScanLimits::trusted())?;
        let allowed = ScanLimits::for_payload(bytes.len()).memory_bytes_max;
        Ok(Self { bytes, memory_bytes_max: allowed.max(extent.memory_bytes) })
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

    /// The value, to be decoded: into a type of the user's within the memory of [`ScanLimits::for_payload`], whatever
    /// the limits of the scan were. Requests are kept in numbers, and one more field would be in each of them.
    pub fn as_scanned(&self) -> Scanned<'_> {
        let memory_bytes_max = ScanLimits::for_payload(self.bytes.len()).memory_bytes_max;
        Scanned { bytes: &self.bytes, memory_bytes_max }
    }

    /// The value as it stands on the wire.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// What is charged for each value that is in another.
pub(super) const VALUE_BYTES: usize = size_of::<Value>();

/// What the allocator adds to an allocation, by a conservative guess.
pub(super) const ALLOCATION_BYTES: usize = 16;

/// A pair of the outermost map, which becomes a `HashMap<String, Value>`: its table has up to 16/7 places for an entry,
/// each with a control byte. More than the two values that it would take in a list of pairs.
const TOP_PAIR_BYTES: usize = (size_of::<(String, Value)>() + 1) * 16 / 7 + 1;

/// The smallest table has four places, which is what two entries are charged.
const TOP_PAIRS_MIN: usize = 2;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn with_memory(bytes: &[u8]) -> Result<Extent, DecodeError> {
        scan(bytes, &ScanLimits::for_payload(bytes.len()))
    }

    /// An array with a 32-bit length.
    fn array_of(length: u32, element: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xdd];
        bytes.extend(length.to_be_bytes());
        for _ in 0..length {
            bytes.extend_from_slice(element);
        }
        bytes
    }

    #[test]
    fn the_first_value_is_measured_and_what_follows_is_not() {
        for (bytes, length) in [
            (&[0x07, 0xc1][..], 1),
            (&[0x90, 0xc1], 1),
            (&[0x80, 0xc1], 1),
            (&[0x92, 0x90, 0x80, 0xc1], 3),
            (&[0x82, 0x01, 0x91, 0xc0, 0xa1, b'k', 0xc3, 0xc1], 7),
            (&[0xc7, 2, 5, 1, 2, 0xc1], 5),
        ] {
            assert_eq!(with_memory(bytes).map(|extent| extent.bytes), Ok(length), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_there_is_refused_at_once() {
        for bytes in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..], // an array of 2^32 - 1
            &[0xdf, 0xff, 0xff, 0xff, 0xff],     // a map
            &[0xdb, 0xff, 0xff, 0xff, 0xff],     // a string
            &[0xc6, 0xff, 0xff, 0xff, 0xff],     // a byte string
            &[0xc9, 0xff, 0xff, 0xff, 0xff, 0],  // an extension
            &[0x92, 0xc0],
            &[0x82, 0xc0, 0xc0, 0xc0],
            &[],
        ] {
            assert_eq!(with_memory(bytes), Err(DecodeError::Truncated), "{bytes:02x?}");
        }
    }

    #[test]
    fn the_marker_without_a_meaning_is_refused() {
        assert_eq!(with_memory(&[0x91, 0xc1]), Err(DecodeError::ReservedMarker));
    }

    #[test]
    fn nesting_is_bounded_whether_or_not_anything_is_inside() {
        for innermost in [0x90, 0x80] {
            let nested = |levels: usize| {
                let mut bytes = vec![0x91; levels - 1];
                bytes.push(innermost);
                bytes
            };
            assert!(with_memory(&nested(NESTING_MAX)).is_ok());
            let too_deep = Err(DecodeError::TooDeep { nesting_max: NESTING_MAX });
            assert_eq!(with_memory(&nested(NESTING_MAX + 1)), too_deep);
            assert_eq!(with_memory(&nested(10_000_000)), too_deep);
            let limits = ScanLimits { nesting_max: 2, ..ScanLimits::trusted() };
            assert!(scan(&nested(2), &limits).is_ok());
            assert_eq!(scan(&nested(3), &limits), Err(DecodeError::TooDeep { nesting_max: 2 }));
            let unlimited = ScanLimits { nesting_max: usize::MAX, ..ScanLimits::trusted() };
            assert_eq!(scan(&nested(NESTING_MAX + 1), &unlimited), too_deep);
        }
    }

    #[test]
    fn many_keys_of_depth_do_not_add_up() {
        let mut side_by_side = array_of(1_000, &[0x91, 0x91, 0xc0]);
        assert!(with_memory(&side_by_side).is_ok());
        side_by_side.truncate(side_by_side.len() - 1);
        assert_eq!(with_memory(&side_by_side), Err(DecodeError::Truncated));
    }

    #[test]
    fn honest_lists_pass() {
        let f32s = [0xca, 0x3f, 0x80, 0, 0];
        let f64s = [0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
        for bytes in [
            array_of(2_000_000, &f32s),
            array_of(1_000_000, &f64s),
            array_of(100_000, &f64s),
            array_of(1_000_000, &[7]),
        ] {
            assert!(with_memory(&bytes).is_ok(), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn the_longest_honest_payloads_pass() {
        const FRAME: u32 = 64 * 1024 * 1024;
        let mut bin = vec![0xc6];
        bin.extend((FRAME - 5).to_be_bytes());
        bin.resize(FRAME as usize, 0);
        assert!(with_memory(&bin).is_ok());
        // Only the budget: building the list would take the test's time.
        let f32s = FRAME as usize / 5;
        assert!(f32s * VALUE_BYTES < ScanLimits::for_payload(FRAME as usize).memory_bytes_max);
    }

    #[test]
    fn a_payload_that_is_all_markers_is_refused() {
        let mib_4 = 4 * 1024 * 1024;
        for element in [&[0xc0][..], &[0x90], &[0xa0]] {
            assert!(
                matches!(with_memory(&array_of(mib_4, element)), Err(DecodeError::TooMuchMemory { .. })),
                "{element:02x?}"
            );
        }
        let mut map = vec![0xdf];
        map.extend((mib_4 / 2).to_be_bytes());
        map.resize(5 + mib_4 as usize, 0xc0);
        assert!(matches!(with_memory(&map), Err(DecodeError::TooMuchMemory { .. })));
    }

    #[test]
    fn a_scanned_value_ends_where_it_ends() {
        let limits = ScanLimits::trusted();
        let (scanned, rest) = Scanned::first(&[0x91, 7, 8], &limits).expect("well formed");
        assert_eq!((scanned.as_bytes(), rest), (&[0x91, 7][..], &[8][..]));
        assert_eq!(
            Scanned::whole(&[0x91, 7, 8], &limits).map(|_| ()),
            Err(DecodeError::Trailing { bytes: 1 })
        );
    }
}
