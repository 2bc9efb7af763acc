//! A serde serializer that writes MessagePack straight into a vector.

use serde::ser::{self, Serialize};

use super::super::error::EncodeError;
use super::super::reader::{Head, Reader};
use super::super::scan::{ScanLimits, Scanned};
use super::super::value::{decode_value, one_deeper, or_undo};
use super::super::writer;

/// Appends `value` to `out` as a payload. On an error `out` is as it was.
///
/// The result is what btlightning 0.2 puts on the wire for the same type, but for [`rmpv::Value::Ext`], of which it
/// makes an array.
///
/// # Errors
/// [`EncodeError::NotAMap`] if `value` is not a struct, a map or a variant that holds something;
/// [`EncodeError::TooDeep`] beyond [`NESTING_MAX`](crate::wire::NESTING_MAX) levels; [`EncodeError::TooLong`];
/// [`EncodeError::Refused`] for `u128`, `i128` and types that refuse to be serialized.
pub fn to_payload<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    or_undo(out, |out| {
        value.serialize(Serializer { out, nesting: 0 })?;
        match Reader::new(&out[start..]).head() {
            Ok(Head::Map(_)) => Ok(()),
            _ => Err(EncodeError::NotAMap),
        }
    })
}

/// Writes one value, which lies in `nesting` arrays and maps.
struct Serializer<'a> {
    out: &'a mut Vec<u8>,
    nesting: usize,
}

impl<'a> Serializer<'a> {
    fn collection(self, shape: Shape, declared: Option<usize>) -> Result<Collection<'a>, EncodeError> {
        let nesting = one_deeper(self.nesting)?;
        let head_at = self.out.len();
        let declared = declared.unwrap_or(0);
        shape.write_head(self.out, declared)?;
        Ok(Collection {
            text_keys: self.nesting == 0,
            out: self.out,
            nesting,
            shape,
            head_at,
            declared,
            written: 0,
        })
    }

    /// Opens the one-entry map of a variant that holds something. What is returned writes the variant's content.
    fn variant(self, index: u32) -> Result<Self, EncodeError> {
        let nesting = one_deeper(self.nesting)?;
        writer::map_len(self.out, 1)?;
        if self.nesting == 0 {
            writer::str(self.out, &index.to_string())?;
        } else {
            writer::uint(self.out, index.into());
        }
        Ok(Self { out: self.out, nesting })
    }
}

impl<'a> ser::Serializer for Serializer<'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Collection<'a>;
    type SerializeTuple = Collection<'a>;
    type SerializeTupleStruct = Collection<'a>;
    type SerializeTupleVariant = Collection<'a>;
    type SerializeMap = Collection<'a>;
    type SerializeStruct = Collection<'a>;
    type SerializeStructVariant = Collection<'a>;

    fn serialize_bool(self, b: bool) -> Result<(), EncodeError> {
        writer::boolean(self.out, b);
        Ok(())
    }

    fn serialize_i8(self, n: i8) -> Result<(), EncodeError> {
        self.serialize_i64(n.into())
    }

    fn serialize_i16(self, n: i16) -> Result<(), EncodeError> {
        self.serialize_i64(n.into())
    }

    fn serialize_i32(self, n: i32) -> Result<(), EncodeError> {
        self.serialize_i64(n.into())
    }

    fn serialize_i64(self, n: i64) -> Result<(), EncodeError> {
        writer::sint(self.out, n);
        Ok(())
    }

    fn serialize_u8(self, n: u8) -> Result<(), EncodeError> {
        self.serialize_u64(n.into())
    }

    fn serialize_u16(self, n: u16) -> Result<(), EncodeError> {
        self.serialize_u64(n.into())
    }

    fn serialize_u32(self, n: u32) -> Result<(), EncodeError> {
        self.serialize_u64(n.into())
    }

    fn serialize_u64(self, n: u64) -> Result<(), EncodeError> {
        writer::uint(self.out, n);
        Ok(())
    }

    fn serialize_f32(self, n: f32) -> Result<(), EncodeError> {
        writer::f32(self.out, n);
        Ok(())
    }

    fn serialize_f64(self, n: f64) -> Result<(), EncodeError> {
        writer::f64(self.out, n);
        Ok(())
    }

    fn serialize_char(self, c: char) -> Result<(), EncodeError> {
        writer::str(self.out, c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), EncodeError> {
        writer::str(self.out, text)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), EncodeError> {
        writer::bin(self.out, bytes)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        writer::nil(self.out);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), EncodeError> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if name != rmpv::MSGPACK_EXT_STRUCT_NAME {
            return value.serialize(self);
        }
        let start = self.out.len();
        value.serialize(Serializer { out: &mut *self.out, nesting: self.nesting })?;
        array_to_ext(self.out, start)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self.variant(index)?)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Collection<'a>, EncodeError> {
        self.collection(Shape::Array, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Collection<'a>, EncodeError> {
        self.collection(Shape::Array, Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Collection<'a>, EncodeError> {
        self.collection(Shape::Array, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Collection<'a>, EncodeError> {
        self.variant(index)?.collection(Shape::Array, Some(len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Collection<'a>, EncodeError> {
        self.collection(Shape::Map, len)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Collection<'a>, EncodeError> {
        self.collection(Shape::Map, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Collection<'a>, EncodeError> {
        self.variant(index)?.collection(Shape::Map, Some(len))
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Array,
    Map,
}

impl Shape {
    fn write_head(self, out: &mut Vec<u8>, length: usize) -> Result<(), EncodeError> {
        match self {
            Self::Array => writer::array_len(out, length),
            Self::Map => writer::map_len(out, length),
        }
    }
}

/// An array or map that is being written.
struct Collection<'a> {
    out: &'a mut Vec<u8>,
    /// That of its elements.
    nesting: usize,
    shape: Shape,
    head_at: usize,
    /// The length that the head says.
    declared: usize,
    written: usize,
    /// The keys have to be strings: this is the payload's own map.
    text_keys: bool,
}

impl Collection<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.written += 1;
        self.value(value)
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        let start = self.out.len();
        self.element(key)?;
        if self.text_keys { key_to_text(self.out, start) } else { Ok(()) }
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(Serializer { out: &mut *self.out, nesting: self.nesting })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), EncodeError> {
        self.written += 1;
        writer::str(self.out, name)?;
        self.value(value)
    }

    /// Puts the right length into the head, if it was not known or not true. The smallest head may be wider than the
    /// one that was written, so that what follows has to move; only types that are flattened pay this.
    fn finish(self) -> Result<(), EncodeError> {
        if self.written == self.declared {
            return Ok(());
        }
        let mut declared = Vec::new();
        self.shape.write_head(&mut declared, self.declared)?;
        let mut right = Vec::new();
        self.shape.write_head(&mut right, self.written)?;
        self.out.splice(self.head_at..self.head_at + declared.len(), right);
        Ok(())
    }
}

impl ser::SerializeSeq for Collection<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeTuple for Collection<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeTupleStruct for Collection<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeTupleVariant for Collection<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeMap for Collection<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeStruct for Collection<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for Collection<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

/// Turns the key that begins at `start` into a string, if it is not one.
fn key_to_text(out: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
    if let Ok(Head::Str(_)) = Reader::new(&out[start..]).head() {
        return Ok(());
    }
    // The same words that btlightning 0.2 finds for such a key: those of the dynamic value.
    let text = Scanned::whole(&out[start..], &ScanLimits::trusted())
        .and_then(decode_value)
        .map_err(<EncodeError as ser::Error>::custom)?
        .to_string();
    out.truncate(start);
    writer::str(out, &text)
}

/// Turns the array that begins at `start`, of a tag and a byte string, into an extension value: this is how
/// [`rmpv::Value::Ext`] presents itself to serde.
fn array_to_ext(out: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
    let (tag, body) = ext_parts(&out[start..])
        .ok_or_else(|| EncodeError::Refused("an extension has to be an i8 and a byte string".to_owned()))?;
    out.truncate(start);
    writer::ext(out, tag, &body)
}

fn ext_parts(array: &[u8]) -> Option<(i8, Vec<u8>)> {
    let mut reader = Reader::new(array);
    let Ok(Head::Array(2)) = reader.head() else { return None };
    let tag = match reader.head().ok()? {
        Head::Uint(tag) => i8::try_from(tag).ok()?,
        Head::Sint(tag) => i8::try_from(tag).ok()?,
        _ => return None,
    };
    let Ok(Head::Bin(body)) = reader.head() else { return None };
    Some((tag, body.to_vec()))
}
