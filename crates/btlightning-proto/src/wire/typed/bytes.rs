//! A byte string that is read as a list of its bytes.

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::super::error::DecodeError;
use super::meter::Meter;

/// What is left of the byte string.
pub(super) struct Bytes<'a, 'de> {
    pub(super) left: std::slice::Iter<'de, u8>,
    pub(super) meter: &'a mut Meter,
    /// How many of the bytes of the struct or tuple that they are read into are not taken yet.
    pub(super) inside: usize,
}

impl<'de> SeqAccess<'de> for Bytes<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(&byte) = self.left.next() else { return Ok(None) };
        self.meter.element_of_byte::<T::Value>(&mut self.inside)?;
        let place_bytes = size_of::<T::Value>();
        seed.deserialize(Byte { byte, meter: self.meter, place_bytes }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

struct Byte<'a> {
    byte: u8,
    meter: &'a mut Meter,
    place_bytes: usize,
}

impl<'de> serde::Deserializer<'de> for Byte<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.meter.value_of_byte::<V::Value>(self.place_bytes)?;
        visitor.visit_u8(self.byte)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
