//! A serde deserializer that reads a scanned value, borrowing from it where the type does.
//!
//! It reads what [`to_payload`](super::to_payload) writes, and every other form that btlightning 0.2 reads: a struct
//! as an array of its fields, a byte string where text is wanted, a variant as an array of its index and its content.
//! A variant may be named instead of numbered.

use std::mem::size_of;

use serde::de::value::{BorrowedBytesDeserializer, BorrowedStrDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::super::error::DecodeError;
use super::super::reader::{Head, Reader};
use super::super::scan::Scanned;
use super::bytes::Bytes;
use super::key::TextKey;
use super::meter::Meter;
use super::variant::{Variant, VariantForm};

/// Decodes a scanned value into a type of the user's.
///
/// The scan bounds the nesting, and thereby the stack, and the memory that the payload takes as dynamic values. What the
/// type takes beyond that (lists of large elements, empty maps that become structs, what is boxed) is bounded by the same
/// limit once more. Together that is twice the limit of [`ScanLimits`](crate::wire::ScanLimits) at most, with the room of
/// lists that have grown, and up to five times for maps whose values are large and few, of which a `BTreeMap` sets aside
/// eleven. Two things are not seen: what a type allocates on its own account (defaults, conversions), and what becomes
/// of values that serde itself buffers, in flattened, untagged and internally tagged types.
///
/// # Errors
/// [`DecodeError::Mismatch`] if the value does not fit the type, [`DecodeError::TooMuchMemory`].
pub fn from_payload<'de, T: Deserialize<'de>>(payload: Scanned<'de>) -> Result<T, DecodeError> {
    let mut input = Input {
        reader: Reader::new(payload.as_bytes()),
        meter: Meter::new(payload.memory_bytes_max()),
        at_top: true,
    };
    let value = T::deserialize(input.for_place_of::<T>())?;
    input.reader.finish()?;
    Ok(value)
}

/// What is left to be read, and of the memory that it may take.
pub(super) struct Input<'de> {
    pub(super) reader: Reader<'de>,
    meter: Meter,
    /// Nothing was read yet: what comes next is the payload itself, whose keys are strings whatever they were.
    at_top: bool,
}

/// Reads the next value, into a place.
pub(super) struct Deserializer<'a, 'de> {
    pub(super) input: &'a mut Input<'de>,
    place_bytes: usize,
}

impl<'de> Input<'de> {
    /// Reads the next value into a place that a `T` takes.
    #[inline]
    pub(super) fn for_place_of<T>(&mut self) -> Deserializer<'_, 'de> {
        Deserializer { input: self, place_bytes: size_of::<T>() }
    }

    /// Reads the next head, and says whether it is the payload's own.
    fn head(&mut self) -> Result<(Head<'de>, bool), DecodeError> {
        let at_top = std::mem::take(&mut self.at_top);
        Ok((self.reader.head()?, at_top))
    }

    /// What comes next, without reading it.
    pub(super) fn peek(&self) -> Result<Head<'de>, DecodeError> {
        let mut ahead = self.reader;
        ahead.head()
    }

    /// Visits a value, of whose parts so many bytes are `inside` of it.
    fn visit<V: Visitor<'de>>(
        &mut self,
        head: Head<'de>,
        at_top: bool,
        inside: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match head {
            Head::Nil => visitor.visit_unit(),
            Head::Bool(b) => visitor.visit_bool(b),
            Head::Uint(n) => visitor.visit_u64(n),
            Head::Sint(n) => visitor.visit_i64(n),
            Head::F32(n) => visitor.visit_f32(n),
            Head::F64(n) => visitor.visit_f64(n),
            Head::Str(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(bytes),
            },
            Head::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::Ext(tag, bytes) => visitor.visit_newtype_struct(Ext { tag, bytes }),
            Head::Array(length) => {
                let mut elements = Elements { input: self, length, left: length, text_keys: false, inside };
                let value = visitor.visit_seq(&mut elements)?;
                elements.finish()?;
                Ok(value)
            }
            Head::Map(length) => {
                let mut elements = Elements { input: self, length, left: length, text_keys: at_top, inside };
                let value = visitor.visit_map(&mut elements)?;
                elements.finish()?;
                Ok(value)
            }
        }
    }
}

impl<'de> Deserializer<'_, 'de> {
    /// Charges the value that is to be read, if it is not in its place.
    #[inline]
    fn charge<T>(&mut self) -> Result<(), DecodeError> {
        self.input.meter.value::<T>(self.place_bytes)
    }

    /// Reads a value whose parts may be on the heap.
    #[inline]
    fn visit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        self.charge::<V::Value>()?;
        let (head, at_top) = self.input.head()?;
        self.input.visit(head, at_top, 0, visitor)
    }

    /// As [`Self::visit`], for a type that has its parts within itself.
    pub(super) fn visit_parts<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        self.charge::<V::Value>()?;
        let (head, at_top) = self.input.head()?;
        self.input.visit(head, at_top, size_of::<V::Value>(), visitor)
    }

    /// As [`Self::visit`], for a type that wants a sequence and may be given a byte string instead.
    fn visit_elements<V: Visitor<'de>>(mut self, inside: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.charge::<V::Value>()?;
        let input = self.input;
        match input.head()? {
            (Head::Bin(bytes), _) => {
                input.meter.bytes(bytes)?;
                visitor.visit_seq(Bytes { left: bytes.iter(), meter: &mut input.meter, inside })
            }
            (head, at_top) => input.visit(head, at_top, inside, visitor),
        }
    }
}

impl<'de> serde::Deserializer<'de> for Deserializer<'_, 'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        self.charge::<V::Value>()?;
        if self.input.peek()? == Head::Nil {
            self.input.head()?;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.input.head()? {
            (Head::Nil | Head::Array(0), _) => visitor.visit_unit(),
            (head, at_top) => self.input.visit(head, at_top, 0, visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.charge::<V::Value>()?;
        if name != rmpv::MSGPACK_EXT_STRUCT_NAME {
            return visitor.visit_newtype_struct(self);
        }
        match self.input.peek()? {
            Head::Ext(tag, bytes) => {
                self.input.head()?;
                visitor.visit_newtype_struct(Ext { tag, bytes })
            }
            // btlightning 0.2 makes an array of a typed extension; its visitor reads one as it reads the other.
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.charge::<V::Value>()?;
        let input = self.input;
        match input.head()? {
            (Head::Uint(index), _) => {
                let index = u32::try_from(index).map_err(|_| no_variant(index))?;
                visitor.visit_enum(index.into_deserializer())
            }
            (Head::Str(name), _) => {
                let name =
                    std::str::from_utf8(name).map_err(|_| DecodeError::NotUtf8 { what: "a variant" })?;
                visitor.visit_enum(BorrowedStrDeserializer::new(name))
            }
            (Head::Map(1), at_top) => {
                visitor.visit_enum(Variant { input, form: VariantForm::Entry { text_key: at_top, variants } })
            }
            (Head::Array(length @ 1..=2), _) => {
                visitor.visit_enum(Variant { input, form: VariantForm::Array { has_content: length == 2 } })
            }
            _ => Err(DecodeError::Unexpected {
                expected: "a variant: its index, its name, or a map of one entry",
            }),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_elements(0, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_elements(size_of::<V::Value>(), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.visit_parts(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.visit_parts(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.input.at_top = false;
        self.input.reader.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit map identifier
    }
}

/// What is left of an array or a map.
struct Elements<'a, 'de> {
    input: &'a mut Input<'de>,
    /// So many elements, or pairs, in all.
    length: usize,
    left: usize,
    text_keys: bool,
    /// How many of the bytes of the struct or tuple that they are read into are not taken yet.
    inside: usize,
}

impl Elements<'_, '_> {
    fn finish(self) -> Result<(), DecodeError> {
        match self.left {
            0 => Ok(()),
            left => {
                let read = format!("{} elements", self.length - left);
                Err(DecodeError::invalid_length(self.length, &read.as_str()))
            }
        }
    }
}

impl<'de> serde::de::SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.input.meter.element::<T::Value>(&mut self.inside)?;
        seed.deserialize(self.input.for_place_of::<T::Value>()).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> serde::de::MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        let first = self.left == self.length;
        self.left -= 1;
        self.input.meter.part_of_entry::<K::Value>(&mut self.inside, first)?;
        if self.text_keys {
            let mut ahead = self.input.reader;
            if let Head::Str(key) = ahead.head()?
                && let Ok(key) = std::str::from_utf8(key)
            {
                self.input.reader = ahead;
                return seed.deserialize(TextKey(key)).map(Some);
            }
        }
        seed.deserialize(self.input.for_place_of::<K::Value>()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let first = self.left + 1 == self.length;
        self.input.meter.part_of_entry::<T::Value>(&mut self.inside, first)?;
        seed.deserialize(self.input.for_place_of::<T::Value>())
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// An extension value: to serde a newtype around its tag and its bytes.
struct Ext<'de> {
    tag: i8,
    bytes: &'de [u8],
}

impl<'de> serde::Deserializer<'de> for Ext<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(ExtParts { tag: Some(self.tag), bytes: Some(self.bytes) })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct ExtParts<'de> {
    tag: Option<i8>,
    bytes: Option<&'de [u8]>,
}

impl<'de> serde::de::SeqAccess<'de> for ExtParts<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if let Some(tag) = self.tag.take() {
            return seed.deserialize(tag.into_deserializer()).map(Some);
        }
        match self.bytes.take() {
            Some(bytes) => seed.deserialize(BorrowedBytesDeserializer::new(bytes)).map(Some),
            None => Ok(None),
        }
    }
}

fn no_variant(index: u64) -> DecodeError {
    DecodeError::invalid_value(Unexpected::Unsigned(index), &"the index of a variant")
}
