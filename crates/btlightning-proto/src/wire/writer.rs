//! Writes MessagePack into a vector, always in the smallest encoding.

use rmp::encode;

use super::error::EncodeError;

const INFALLIBLE: &str = "a vector takes every byte";

/// From this length on, in bytes, what is appended has room made behind it, too.
const LARGE_BYTES: usize = 4096;

/// The room that is made behind it, in bytes: for what ends an envelope.
const ROOM_BEHIND_BYTES: usize = 64;

/// Appends a body. Behind a large one the next few bytes find room, and do not have it moved for their sake.
fn append(out: &mut Vec<u8>, body: &[u8]) {
    if body.len() >= LARGE_BYTES {
        out.reserve(body.len().saturating_add(ROOM_BEHIND_BYTES));
    }
    out.extend_from_slice(body);
}

pub(super) fn nil(out: &mut Vec<u8>) {
    encode::write_nil(out).expect(INFALLIBLE);
}

pub(super) fn boolean(out: &mut Vec<u8>, b: bool) {
    encode::write_bool(out, b).expect(INFALLIBLE);
}

pub(super) fn uint(out: &mut Vec<u8>, n: u64) {
    encode::write_uint(out, n).expect(INFALLIBLE);
}

/// An integer of either sign: one that is not negative is written as an unsigned one.
pub(super) fn sint(out: &mut Vec<u8>, n: i64) {
    encode::write_sint(out, n).expect(INFALLIBLE);
}

pub(super) fn f32(out: &mut Vec<u8>, n: f32) {
    encode::write_f32(out, n).expect(INFALLIBLE);
}

pub(super) fn f64(out: &mut Vec<u8>, n: f64) {
    encode::write_f64(out, n).expect(INFALLIBLE);
}

pub(super) fn str(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    encode::write_str_len(out, length(text.len())?).expect(INFALLIBLE);
    append(out, text.as_bytes());
    Ok(())
}

pub(super) fn bin(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    bin_len(out, bytes.len())?;
    append(out, bytes);
    Ok(())
}

pub(super) fn bin_len(out: &mut Vec<u8>, bytes: usize) -> Result<(), EncodeError> {
    encode::write_bin_len(out, length(bytes)?).expect(INFALLIBLE);
    Ok(())
}

pub(super) fn ext(out: &mut Vec<u8>, tag: i8, bytes: &[u8]) -> Result<(), EncodeError> {
    encode::write_ext_meta(out, length(bytes.len())?, tag).expect(INFALLIBLE);
    append(out, bytes);
    Ok(())
}

pub(super) fn array_len(out: &mut Vec<u8>, elements: usize) -> Result<(), EncodeError> {
    encode::write_array_len(out, length(elements)?).expect(INFALLIBLE);
    Ok(())
}

pub(super) fn map_len(out: &mut Vec<u8>, pairs: usize) -> Result<(), EncodeError> {
    encode::write_map_len(out, length(pairs)?).expect(INFALLIBLE);
    Ok(())
}

fn length(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length).map_err(|_| EncodeError::TooLong { length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_envelope_moves_no_large_body() {
        let body = vec![7; 1_000_000];
        for write in [
            |out: &mut Vec<u8>, body: &[u8]| bin(out, body),
            |out: &mut Vec<u8>, body: &[u8]| ext(out, 1, body),
            |out: &mut Vec<u8>, body: &[u8]| str(out, std::str::from_utf8(body).unwrap()),
        ] {
            let mut out = vec![0; 5];
            write(&mut out, &body).unwrap();
            let capacity = out.capacity();
            uint(&mut out, u64::MAX);
            nil(&mut out);
            assert_eq!(out.capacity(), capacity);
            assert!(capacity < body.len() + 1000, "{capacity} bytes");
        }
    }
}
