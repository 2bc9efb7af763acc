//! A key of the payload's own map: a string, whatever the type of the key is.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use super::super::error::DecodeError;

/// A key that is text, and is read as a number, a boolean or a variant's index where the type wants one.
pub(super) struct TextKey<'de>(pub(super) &'de str);

impl<'de> TextKey<'de> {
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Ok(n) = self.0.parse() {
            visitor.visit_u64(n)
        } else if let Ok(n) = self.0.parse() {
            visitor.visit_i64(n)
        } else if let Ok(n) = self.0.parse() {
            visitor.visit_f64(n)
        } else {
            visitor.visit_borrowed_str(self.0)
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for TextKey<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0.parse() {
            Ok(b) => visitor.visit_bool(b),
            Err(_) => visitor.visit_borrowed_str(self.0),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0.parse::<u32>() {
            Ok(index) if !variants.contains(&self.0) => visitor.visit_enum(index.into_deserializer()),
            _ => visitor.visit_enum(BorrowedStrDeserializer::new(self.0)),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
