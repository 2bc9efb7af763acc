//! An enum's variant that holds something, or is written as if it did.

use serde::Deserializer as _;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::super::error::DecodeError;
use super::super::reader::Head;
use super::de::Input;

/// A variant of which the head of the map or array was read.
pub(super) struct Variant<'a, 'de> {
    pub(super) input: &'a mut Input<'de>,
    pub(super) form: VariantForm,
}

#[derive(Clone, Copy)]
pub(super) enum VariantForm {
    /// `{index or name: content}`, as we write it.
    Entry {
        /// The index may be a string of digits, because the map is the payload itself.
        text_key: bool,
        variants: &'static [&'static str],
    },
    /// `[index]` or `[index, content]`, which `rmpv` writes and btlightning 0.2 reads. The content of a newtype
    /// variant may be in an array of its own.
    Array { has_content: bool },
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), DecodeError> {
        let name = match self.input.reader.head()? {
            Head::Uint(index) => return Ok((seed.deserialize(index.into_deserializer())?, self)),
            Head::Str(name) => std::str::from_utf8(name).ok(),
            _ => None,
        };
        let name = name.ok_or(DecodeError::Unexpected { expected: "the index or name of a variant" })?;
        let variant = match self.index_in_text(name) {
            Some(index) => seed.deserialize(index.into_deserializer())?,
            None => seed.deserialize(BorrowedStrDeserializer::new(name))?,
        };
        Ok((variant, self))
    }
}

impl Variant<'_, '_> {
    fn index_in_text(&self, text: &str) -> Option<u64> {
        match self.form {
            VariantForm::Entry { text_key: true, variants } if !variants.contains(&text) => text.parse().ok(),
            _ => None,
        }
    }

    fn require_content(&self) -> Result<(), DecodeError> {
        match self.form {
            VariantForm::Array { has_content: false } => {
                Err(DecodeError::Unexpected { expected: "a variant that holds something" })
            }
            _ => Ok(()),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        if let VariantForm::Array { has_content: false } = self.form {
            return Ok(());
        }
        match self.input.reader.head()? {
            Head::Nil | Head::Array(0) => Ok(()),
            _ => Err(DecodeError::Unexpected { expected: "nothing in a unit variant" }),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        self.require_content()?;
        if let (VariantForm::Array { .. }, Head::Array(1)) = (self.form, self.input.peek()?) {
            self.input.reader.head()?;
        }
        seed.deserialize(self.input.for_place_of::<T::Value>())
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.require_content()?;
        self.input.for_place_of::<V::Value>().deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.require_content()?;
        self.input.for_place_of::<V::Value>().visit_parts(visitor)
    }
}
