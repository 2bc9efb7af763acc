//! Reads MessagePack, one head at a time, from a slice. The only place that knows what the markers mean.

use rmp::Marker;

use super::error::DecodeError;

/// The beginning of a value: all of a scalar or string, and the length of an array or map whose elements follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head<'a> {
    /// Nothing.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer that is not negative, whatever its width or sign bit on the wire.
    Uint(u64),
    /// A negative integer.
    Sint(i64),
    /// A number of single precision.
    F32(f32),
    /// A number of double precision.
    F64(f64),
    /// A string, not checked to be UTF-8.
    Str(&'a [u8]),
    /// A byte string.
    Bin(&'a [u8]),
    /// An extension value: its tag and its body.
    Ext(i8, &'a [u8]),
    /// So many values follow. No more than the bytes that are left.
    Array(usize),
    /// So many pairs of values follow. No more than half of the bytes that are left.
    Map(usize),
}

/// A position in a slice of MessagePack. A copy of it looks ahead.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that were not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next head.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], also for a declared length that the bytes left over cannot hold;
    /// [`DecodeError::ReservedMarker`].
    pub fn head(&mut self) -> Result<Head<'a>, DecodeError> {
        let marker = Marker::from_u8(u8::from_be_bytes(self.fixed()?));
        Ok(match marker {
            Marker::Null => Head::Nil,
            Marker::True => Head::Bool(true),
            Marker::False => Head::Bool(false),
            Marker::FixPos(n) => Head::Uint(n.into()),
            Marker::FixNeg(n) => Head::Sint(n.into()),
            Marker::U8 => Head::Uint(u8::from_be_bytes(self.fixed()?).into()),
            Marker::U16 => Head::Uint(u16::from_be_bytes(self.fixed()?).into()),
            Marker::U32 => Head::Uint(u32::from_be_bytes(self.fixed()?).into()),
            Marker::U64 => Head::Uint(u64::from_be_bytes(self.fixed()?)),
            Marker::I8 => signed(i8::from_be_bytes(self.fixed()?)),
            Marker::I16 => signed(i16::from_be_bytes(self.fixed()?)),
            Marker::I32 => signed(i32::from_be_bytes(self.fixed()?)),
            Marker::I64 => signed(i64::from_be_bytes(self.fixed()?)),
            Marker::F32 => Head::F32(f32::from_be_bytes(self.fixed()?)),
            Marker::F64 => Head::F64(f64::from_be_bytes(self.fixed()?)),
            Marker::FixStr(length) => Head::Str(self.take(length.into())?),
            Marker::Str8 => Head::Str(self.sized::<1>()?),
            Marker::Str16 => Head::Str(self.sized::<2>()?),
            Marker::Str32 => Head::Str(self.sized::<4>()?),
            Marker::Bin8 => Head::Bin(self.sized::<1>()?),
            Marker::Bin16 => Head::Bin(self.sized::<2>()?),
            Marker::Bin32 => Head::Bin(self.sized::<4>()?),
            Marker::FixExt1 => self.ext(1)?,
            Marker::FixExt2 => self.ext(2)?,
            Marker::FixExt4 => self.ext(4)?,
            Marker::FixExt8 => self.ext(8)?,
            Marker::FixExt16 => self.ext(16)?,
            Marker::Ext8 => self.ext_sized::<1>()?,
            Marker::Ext16 => self.ext_sized::<2>()?,
            Marker::Ext32 => self.ext_sized::<4>()?,
            Marker::FixArray(length) => self.array(length.into())?,
            Marker::Array16 => self.array_sized::<2>()?,
            Marker::Array32 => self.array_sized::<4>()?,
            Marker::FixMap(length) => self.map(length.into())?,
            Marker::Map16 => self.map_sized::<2>()?,
            Marker::Map32 => self.map_sized::<4>()?,
            Marker::Reserved => return Err(DecodeError::ReservedMarker),
        })
    }

    /// Whether what comes next says of itself that it is a map. Whether it is whole is not looked at.
    pub(super) fn marks_map(self) -> bool {
        let marker = self.rest.first().map(|&marker| Marker::from_u8(marker));
        matches!(marker, Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32))
    }

    /// Passes over one value with all that is in it. Takes no stack and no heap.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        // No overflow: a length is at most the bytes that are left, and each value that is counted takes one of them.
        let mut left = 1_usize;
        while left > 0 {
            left -= 1;
            match self.head()? {
                Head::Array(length) => left = left.saturating_add(length),
                Head::Map(pairs) => left = left.saturating_add(pairs.saturating_mul(2)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Passes over bytes that were looked at otherwise.
    pub(super) fn pass(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.take(bytes).map(|_| ())
    }

    /// Reads an array's head, for a message that is an array here.
    pub(super) fn array_head(&mut self, expected: &'static str) -> Result<usize, DecodeError> {
        match self.head()? {
            Head::Array(length) => Ok(length),
            _ => Err(DecodeError::Unexpected { expected }),
        }
    }

    /// Reads text, for a message that has text here.
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        self.text_or_nil(what)?.ok_or(DecodeError::Unexpected { expected: what })
    }

    /// Reads text or nil.
    pub(super) fn text_or_nil(&mut self, what: &'static str) -> Result<Option<&'a str>, DecodeError> {
        match self.head()? {
            Head::Nil => Ok(None),
            Head::Str(bytes) => {
                std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::NotUtf8 { what })
            }
            _ => Err(DecodeError::Unexpected { expected: what }),
        }
    }

    /// Reads an integer that is not negative.
    pub(super) fn uint(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        match self.head()? {
            Head::Uint(n) => Ok(n),
            _ => Err(DecodeError::Unexpected { expected }),
        }
    }

    /// Reads true or false.
    pub(super) fn boolean(&mut self, expected: &'static str) -> Result<bool, DecodeError> {
        match self.head()? {
            Head::Bool(b) => Ok(b),
            _ => Err(DecodeError::Unexpected { expected }),
        }
    }

    /// Checks that nothing is left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }

    fn array(&mut self, length: usize) -> Result<Head<'a>, DecodeError> {
        // The smallest value is one byte.
        if length > self.rest.len() { Err(DecodeError::Truncated) } else { Ok(Head::Array(length)) }
    }

    fn map(&mut self, pairs: usize) -> Result<Head<'a>, DecodeError> {
        if pairs > self.rest.len() / 2 { Err(DecodeError::Truncated) } else { Ok(Head::Map(pairs)) }
    }

    fn ext(&mut self, length: usize) -> Result<Head<'a>, DecodeError> {
        let tag = i8::from_be_bytes(self.fixed()?);
        Ok(Head::Ext(tag, self.take(length)?))
    }

    fn array_sized<const N: usize>(&mut self) -> Result<Head<'a>, DecodeError> {
        let length = self.length::<N>()?;
        self.array(length)
    }

    fn map_sized<const N: usize>(&mut self) -> Result<Head<'a>, DecodeError> {
        let pairs = self.length::<N>()?;
        self.map(pairs)
    }

    fn ext_sized<const N: usize>(&mut self) -> Result<Head<'a>, DecodeError> {
        let length = self.length::<N>()?;
        self.ext(length)
    }

    fn sized<const N: usize>(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length::<N>()?;
        self.take(length)
    }

    fn length<const N: usize>(&mut self) -> Result<usize, DecodeError> {
        Ok(self.fixed::<N>()?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn signed<'a>(n: impl Into<i64>) -> Head<'a> {
    let n = n.into();
    u64::try_from(n).map_or(Head::Sint(n), Head::Uint)
}
