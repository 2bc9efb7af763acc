//! A serde deserializer that reads a scanned value, borrowing from it where the type does.
//!
//! It reads what [`to_payload`](super::to_payload) writes, and every other form that btlightning 0.2 reads: a struct
//! as an array of its fields, a byte string where text is wanted, a variant as an array of its index and its content.
//! A variant may be named instead of numbered.

use serde::de::value::{BorrowedBytesDeserializer, BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::super::error::DecodeError;
use super::super::reader::{Head, Reader};
use super::super::scan::Scanned;
use super::key::TextKey;
use super::variant::{Variant, VariantForm};

/// Decodes a scanned value into a type of the user's.
///
/// The scan bounds the nesting, and thereby the stack, and the number of values; what memory one value takes is up to
/// the type.
///
/// # Errors
/// [`DecodeError::Mismatch`] if the value does not fit the type.
pub fn from_payload<'de, T: Deserialize<'de>>(payload: Scanned<'de>) -> Result<T, DecodeError> {
    let mut deserializer = Deserializer { reader: Reader::new(payload.as_bytes()), at_top: true };
    let value = T::deserialize(&mut deserializer)?;
    deserializer.reader.finish()?;
    Ok(value)
}

pub(super) struct Deserializer<'de> {
    pub(super) reader: Reader<'de>,
    /// Nothing was read yet: what comes next is the payload itself, whose keys are strings whatever they were.
    at_top: bool,
}

impl<'de> Deserializer<'de> {
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

    fn visit<V: Visitor<'de>>(
        &mut self,
        head: Head<'de>,
        at_top: bool,
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
                let mut elements = Elements { de: self, left: length, text_keys: false };
                let value = visitor.visit_seq(&mut elements)?;
                elements.finish(length)?;
                Ok(value)
            }
            Head::Map(pairs) => {
                let mut elements = Elements { de: self, left: pairs, text_keys: at_top };
                let value = visitor.visit_map(&mut elements)?;
                elements.finish(pairs)?;
                Ok(value)
            }
        }
    }

    /// As [`Self::visit`], for a type that wants a sequence and may be given a byte string instead.
    fn visit_elements<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.head()? {
            (Head::Bin(bytes), _) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            (head, at_top) => self.visit(head, at_top, visitor),
        }
    }
}

impl<'de> serde::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let (head, at_top) = self.head()?;
        self.visit(head, at_top, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.peek()? == Head::Nil {
            self.head()?;
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
        match self.head()? {
            (Head::Nil | Head::Array(0), _) => visitor.visit_unit(),
            (head, at_top) => self.visit(head, at_top, visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name != rmpv::MSGPACK_EXT_STRUCT_NAME {
            return visitor.visit_newtype_struct(self);
        }
        match self.peek()? {
            Head::Ext(tag, bytes) => {
                self.head()?;
                visitor.visit_newtype_struct(Ext { tag, bytes })
            }
            // btlightning 0.2 makes an array of a typed extension; its visitor reads one as it reads the other.
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.head()? {
            (Head::Uint(index), _) => {
                let index = u32::try_from(index).map_err(|_| no_variant(index))?;
                visitor.visit_enum(index.into_deserializer())
            }
            (Head::Str(name), _) => {
                let name =
                    std::str::from_utf8(name).map_err(|_| DecodeError::NotUtf8 { what: "a variant" })?;
                visitor.visit_enum(BorrowedStrDeserializer::new(name))
            }
            (Head::Map(1), at_top) => visitor
                .visit_enum(Variant { de: self, form: VariantForm::Entry { text_key: at_top, variants } }),
            (Head::Array(length @ 1..=2), _) => visitor
                .visit_enum(Variant { de: self, form: VariantForm::Array { has_content: length == 2 } }),
            _ => Err(DecodeError::Unexpected {
                expected: "a variant: its index, its name, or a map of one entry",
            }),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_elements(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_elements(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.at_top = false;
        self.reader.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit tuple_struct map struct
        identifier
    }
}

/// What is left of an array or a map.
struct Elements<'a, 'de> {
    de: &'a mut Deserializer<'de>,
    /// So many elements, or pairs.
    left: usize,
    text_keys: bool,
}

impl Elements<'_, '_> {
    fn finish(self, length: usize) -> Result<(), DecodeError> {
        match self.left {
            0 => Ok(()),
            left => Err(DecodeError::invalid_length(length, &format!("{} elements", length - left).as_str())),
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
        seed.deserialize(&mut *self.de).map(Some)
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
        self.left -= 1;
        if self.text_keys {
            let mut ahead = self.de.reader;
            if let Head::Str(key) = ahead.head()?
                && let Ok(key) = std::str::from_utf8(key)
            {
                self.de.reader = ahead;
                return seed.deserialize(TextKey(key)).map(Some);
            }
        }
        seed.deserialize(&mut *self.de).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(&mut *self.de)
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
