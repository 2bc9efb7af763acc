//! What memory a type takes beyond that of dynamic values.
//!
//! The scan has charged a payload for what it takes as [`rmpv::Value`]s: 40 bytes for each element, and what strings
//! weigh. A type may take more: an empty map is one byte, and may become a struct of 500; a byte string may become a
//! list. So each place that is to hold a value is measured, too, and charged as far as it is larger than what the scan
//! has charged. Numbers never are, and the compiler leaves the question out.
//!
//! An element of a list is charged twice, because a list that grows has up to twice the room that it needs, and so is an
//! entry of a map; the first one four times, which is how many places the smallest hash table has. What a struct or a
//! tuple holds within itself is charged with it and not once more. A value that is larger than its place has to be
//! elsewhere on the heap (`Box`, `Rc`, `Arc`), and is charged there.

use std::mem::size_of;

use super::super::error::DecodeError;
use super::super::scan::{ALLOCATION_BYTES, VALUE_BYTES};

/// How many times the room that it needs a list may have that has grown.
const ROOM: usize = 2;

/// How many places a hash table has at least.
const PLACES_MIN: usize = 4;

/// What is left of the memory that a type may take beyond that of dynamic values.
pub(super) struct Meter {
    left: usize,
    memory_bytes_max: usize,
}

impl Meter {
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        Self { left: memory_bytes_max, memory_bytes_max }
    }

    /// Charges the place of a list's element, unless it is one of the `inside` bytes of its struct or tuple.
    #[inline]
    pub(super) fn element<T>(&mut self, inside: &mut usize) -> Result<(), DecodeError> {
        if ROOM * size_of::<T>() <= VALUE_BYTES || is_inside::<T>(inside) {
            return Ok(());
        }
        self.charge(ROOM * size_of::<T>() - VALUE_BYTES)
    }

    /// Charges the place of a map's key or value, as [`Self::element`] does.
    #[inline]
    pub(super) fn part_of_entry<T>(&mut self, inside: &mut usize, first: bool) -> Result<(), DecodeError> {
        if PLACES_MIN * size_of::<T>() <= VALUE_BYTES || is_inside::<T>(inside) {
            return Ok(());
        }
        let places = if first { PLACES_MIN } else { ROOM };
        self.charge((places * size_of::<T>()).saturating_sub(VALUE_BYTES))
    }

    /// Charges a byte string that is read as a list, for the room that this list may have once it has grown. The scan
    /// has charged what it weighs.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.charge(bytes.len())
    }

    /// Charges the place of an element that is one byte of such a byte string, as [`Self::element`] does.
    #[inline]
    pub(super) fn element_of_byte<T>(&mut self, inside: &mut usize) -> Result<(), DecodeError> {
        if size_of::<T>() <= 1 || is_inside::<T>(inside) {
            return Ok(());
        }
        self.charge(ROOM * size_of::<T>())
    }

    /// Charges a value, unless it fits into its place; then it was charged with that.
    #[inline]
    pub(super) fn value<T>(&mut self, place_bytes: usize) -> Result<(), DecodeError> {
        if size_of::<T>() <= VALUE_BYTES || size_of::<T>() <= place_bytes {
            return Ok(());
        }
        self.charge(size_of::<T>() + ALLOCATION_BYTES)
    }

    /// As [`Self::value`], of a value that one byte of a byte string becomes.
    #[inline]
    pub(super) fn value_of_byte<T>(&mut self, place_bytes: usize) -> Result<(), DecodeError> {
        if size_of::<T>() <= 1 || size_of::<T>() <= place_bytes {
            return Ok(());
        }
        self.charge(size_of::<T>() + ALLOCATION_BYTES)
    }

    fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(DecodeError::TooMuchMemory { memory_bytes_max: self.memory_bytes_max }),
        }
    }
}

/// Takes the bytes of a `T` off those that are `inside`, if there are so many.
fn is_inside<T>(inside: &mut usize) -> bool {
    match inside.checked_sub(size_of::<T>()) {
        Some(left) => {
            *inside = left;
            true
        }
        None => false,
    }
}
