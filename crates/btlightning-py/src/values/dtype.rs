//! A numpy dtype as a peer describes it: read into a form that numpy can be given without a thought.

use btlightning::raw::{Head, Reader};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

/// The longest description of a dtype without fields, in bytes. `<M8[999999ns]` has 13.
const TEXT_BYTES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;
/// In all, those of records in records included.
const FIELDS_MAX: usize = 256;
const DEPTH_MAX: usize = 8;
/// Of the array that a field may be.
const FIELD_DIMENSIONS_MAX: usize = 8;

/// Booleans, numbers, strings of fixed length, times, bytes without a meaning; and records of them. No objects: on the
/// wire they are pickles or pointers.
#[derive(Debug)]
pub(super) enum Dtype<'a> {
    Plain { text: &'a str, is_bool: bool, bytes: usize },
    Record { fields: Vec<Field<'a>>, bytes: usize },
}

#[derive(Debug)]
pub(super) struct Field<'a> {
    name: &'a str,
    dtype: Dtype<'a>,
    /// Empty if the field is no array.
    shape: Vec<usize>,
    at: usize,
    bytes: usize,
}

impl<'a> Dtype<'a> {
    /// Reads what numpy has as `dtype.str` or `dtype.descr`. `None` for anything else.
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        Self::read_within(reader, &mut 0, 0)
    }

    fn read_within(reader: &mut Reader<'a>, fields: &mut usize, depth: usize) -> Option<Self> {
        match reader.head().ok()? {
            Head::Str(text) | Head::Bin(text) => Self::plain(text),
            Head::Array(length) if depth < DEPTH_MAX => Self::record(reader, length, fields, depth),
            _ => None,
        }
    }

    fn plain(text: &'a [u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let kind_first = text.strip_prefix(['<', '>', '|']).unwrap_or(text);
        let (kind, rest) = (kind_first.chars().next()?, kind_first.get(1..)?);
        let (number, unit) = match rest.split_once('[') {
            Some((number, unit)) => (number, Some(unit.strip_suffix(']')?)),
            None => (rest, None),
        };
        let number = whole(number)?;
        let bytes = match (kind, number, unit) {
            ('b', 1, None) => 1,
            ('i' | 'u', 1 | 2 | 4 | 8, None) => number,
            ('f', 2 | 4 | 8 | 10 | 12 | 16, None) => number,
            ('c', 8 | 16 | 20 | 24 | 32, None) => number,
            ('S' | 'V', _, None) => number,
            ('U', _, None) => number.checked_mul(4)?,
            ('M' | 'm', 8, None) => 8,
            ('M' | 'm', 8, Some(unit)) if is_unit(unit) => 8,
            _ => return None,
        };
        Some(Self::Plain { text, is_bool: kind == 'b', bytes })
    }

    fn record(reader: &mut Reader<'a>, length: usize, count: &mut usize, depth: usize) -> Option<Self> {
        *count += length;
        if length == 0 || *count > FIELDS_MAX {
            return None;
        }
        let mut fields = Vec::with_capacity(length);
        let mut at = 0_usize;
        for _ in 0..length {
            let parts @ 2..=3 = array(reader)? else { return None };
            let name = text(reader)?;
            let dtype = Self::read_within(reader, count, depth + 1)?;
            let shape = if parts == 3 { field_shape(reader)? } else { Vec::new() };
            let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, &length| bytes.checked_mul(length))?;
            if bytes == 0 {
                return None;
            }
            if !name.is_empty() {
                fields.push(Field { name, dtype, shape, at, bytes });
            } else if !matches!(&dtype, Self::Plain { text, .. } if text.contains('V')) || parts == 3 {
                return None;
            } else if length == 1 {
                // So is a dtype described that is nothing but bytes.
                return Some(dtype);
            }
            // Or else the nameless one is padding.
            at = at.checked_add(bytes)?;
        }
        (!fields.is_empty()).then_some(Self::Record { fields, bytes: at })
    }

    /// How many bytes one item takes. Not 0.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Plain { bytes, .. } | Self::Record { bytes, .. } => *bytes,
        }
    }

    /// Whether every boolean in `data` is 0 or 1. Numpy counts them by adding them up, and takes memory by the count.
    pub(super) fn has_sound_booleans(&self, data: &[u8]) -> bool {
        match self {
            Self::Plain { is_bool: true, .. } => data.iter().all(|&byte| byte <= 1),
            Self::Plain { is_bool: false, .. } => true,
            Self::Record { .. } if !self.has_booleans() => true,
            Self::Record { fields, bytes } => data.chunks_exact(*bytes).all(|item| {
                let sound = |field: &Field<'_>| match item.get(field.at..field.at + field.bytes) {
                    Some(data) => field.dtype.has_sound_booleans(data),
                    None => false,
                };
                fields.iter().all(sound)
            }),
        }
    }

    fn has_booleans(&self) -> bool {
        match self {
            Self::Plain { is_bool, .. } => *is_bool,
            Self::Record { fields, .. } => fields.iter().any(|field| field.dtype.has_booleans()),
        }
    }

    /// What `numpy.dtype` is called with.
    pub(super) fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (fields, bytes) = match self {
            Self::Plain { text, .. } => return Ok(PyString::new(py, text).into_any()),
            Self::Record { fields, bytes } => (fields, bytes),
        };
        let formats = PyList::empty(py);
        for field in fields {
            let format = field.dtype.to_python(py)?;
            if field.shape.is_empty() {
                formats.append(format)?;
            } else {
                formats.append((format, PyTuple::new(py, &field.shape)?))?;
            }
        }
        let record = PyDict::new(py);
        record.set_item("names", PyList::new(py, fields.iter().map(|field| field.name))?)?;
        record.set_item("formats", formats)?;
        record.set_item("offsets", PyList::new(py, fields.iter().map(|field| field.at))?)?;
        record.set_item("itemsize", bytes)?;
        Ok(record.into_any())
    }
}

/// A unit of time as numpy writes it: `ns`, `25s`. Numpy divides by the number.
fn is_unit(unit: &str) -> bool {
    let name = unit.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let number = unit.strip_suffix(name).unwrap_or_default();
    ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"].contains(&name)
        && (number.is_empty() || whole(number).is_some())
}

/// A number as numpy writes it: above 0, and nothing but digits.
fn whole(digits: &str) -> Option<usize> {
    const DIGITS_MAX: usize = 9;
    let is_whole = !digits.starts_with('0') && digits.len() <= DIGITS_MAX;
    if is_whole && digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn array(reader: &mut Reader<'_>) -> Option<usize> {
    match reader.head().ok()? {
        Head::Array(length) => Some(length),
        _ => None,
    }
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    match reader.head().ok()? {
        Head::Str(text) | Head::Bin(text) if text.len() <= NAME_BYTES_MAX => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

fn field_shape(reader: &mut Reader<'_>) -> Option<Vec<usize>> {
    let shape = shape(reader, FIELD_DIMENSIONS_MAX)?;
    (!shape.is_empty()).then_some(shape)
}

/// Reads the lengths of an array's dimensions.
pub(super) fn shape(reader: &mut Reader<'_>, dimensions_max: usize) -> Option<Vec<usize>> {
    let dimensions = array(reader).filter(|&dimensions| dimensions <= dimensions_max)?;
    let length = |_| match reader.head().ok()? {
        Head::Uint(length) => usize::try_from(length).ok(),
        _ => None,
    };
    (0..dimensions).map(length).collect()
}
