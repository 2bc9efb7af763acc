//! Which maps are arrays, numpy scalars or complex numbers by msgpack-numpy's convention. Looked at with a peer's malice
//! in mind and without numpy: what comes out can be made without reading beyond the data or taking more memory than they.
//!
//! A map that is not quite so stays a map.

use btlightning::raw::{Head, Reader};

use super::dtype::{self, Dtype};

/// Numpy's own limit, since its second version.
const DIMENSIONS_MAX: usize = 64;

/// How long the dimensions of an array without elements may be together, those of length 0 left out, and how many bytes
/// its items may be said to have: `tolist()` on shape (2^40, 0) takes terabytes.
const EMPTY_MAX: usize = 1 << 20;

/// `(1.7976931348623157e+308-1.7976931348623157e+308j)` has 50.
const COMPLEX_BYTES_MAX: usize = 64;

#[derive(Debug)]
pub(super) enum Form<'a> {
    /// The data are as long as the shape and the dtype say.
    Array {
        dtype: Dtype<'a>,
        shape: Vec<usize>,
        data: &'a [u8],
    },
    Scalar {
        dtype: Dtype<'a>,
        data: &'a [u8],
    },
    /// As Python writes it.
    Complex(&'a str),
}

impl<'a> Form<'a> {
    /// Reads the pairs of a map, if it has one of these forms. Otherwise the reader stays where it is.
    pub(super) fn read(reader: &mut Reader<'a>, pairs: usize) -> Option<Self> {
        // All but a few maps end here, at their length or at their first key.
        if !(2..=5).contains(&pairs) {
            return None;
        }
        let mut ahead = *reader;
        let form = Parts::read(&mut ahead, pairs)?.form()?;
        *reader = ahead;
        Some(form)
    }

    /// How many bytes an item has.
    pub(super) fn item_bytes(&self) -> usize {
        match self {
            Self::Array { dtype, .. } | Self::Scalar { dtype, .. } => dtype.bytes(),
            Self::Complex(_) => 0,
        }
    }
}

/// The values of the map, by their keys.
#[derive(Default)]
struct Parts<'a> {
    nd: Option<bool>,
    complex: Option<bool>,
    dtype: Option<Dtype<'a>>,
    kind: Option<&'a [u8]>,
    shape: Option<Vec<usize>>,
    data: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// `None` for any other key, for a value of any other type, and for a key that comes twice.
    fn read(reader: &mut Reader<'a>, pairs: usize) -> Option<Self> {
        let mut parts = Self::default();
        for _ in 0..pairs {
            // Strings as keys, and as data, are written by msgpack's older format.
            let (Head::Str(key) | Head::Bin(key)) = reader.head().ok()? else { return None };
            let is_new = match key {
                b"nd" => parts.nd.replace(boolean(reader)?).is_none(),
                b"complex" => parts.complex.replace(boolean(reader)?).is_none(),
                b"type" => parts.dtype.replace(Dtype::read(reader)?).is_none(),
                b"kind" => parts.kind.replace(bytes(reader)?).is_none(),
                b"shape" => parts.shape.replace(dtype::shape(reader, DIMENSIONS_MAX)?).is_none(),
                b"data" => parts.data.replace(bytes(reader)?).is_none(),
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(parts)
    }

    fn form(self) -> Option<Form<'a>> {
        match self {
            Self {
                nd: Some(true),
                complex: None,
                dtype: Some(dtype),
                kind,
                shape: Some(shape),
                data: Some(data),
            } if matches!(kind, None | Some(b"" | b"V")) && is_as_long(&dtype, &shape, data) => {
                Some(Form::Array { dtype, shape, data })
            }
            Self {
                nd: Some(false),
                complex: None,
                dtype: Some(dtype @ Dtype::Plain { .. }),
                kind: None,
                shape: None,
                data: Some(data),
            } if is_as_long(&dtype, &[], data) => Some(Form::Scalar { dtype, data }),
            Self {
                nd: None,
                complex: Some(true),
                dtype: None,
                kind: None,
                shape: None,
                data: Some(text),
            } if text.len() <= COMPLEX_BYTES_MAX => {
                std::str::from_utf8(text).ok().filter(|text| text.ends_with(['j', ')'])).map(Form::Complex)
            }
            _ => None,
        }
    }
}

fn is_as_long(dtype: &Dtype<'_>, shape: &[usize], data: &[u8]) -> bool {
    let product = |lengths: &[usize]| lengths.iter().try_fold(1_usize, |all, &one| all.checked_mul(one));
    if shape.contains(&0) {
        return data.is_empty()
            && dtype.bytes() <= EMPTY_MAX
            && product(&shape.iter().map(|&length| length.max(1)).collect::<Vec<_>>())
                .is_some_and(|all| all <= EMPTY_MAX);
    }
    let bytes = product(shape).and_then(|items| items.checked_mul(dtype.bytes()));
    bytes == Some(data.len()) && dtype.has_sound_booleans(data)
}

fn boolean(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.head().ok()? {
        Head::Bool(value) => Some(value),
        _ => None,
    }
}

fn bytes<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    match reader.head().ok()? {
        Head::Str(bytes) | Head::Bin(bytes) => Some(bytes),
        _ => None,
    }
}
