//! Frames in pieces: small values go into one buffer, large byte strings stand beside it as they are, uncopied.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use rmpv::Value;

use super::error::EncodeError;
use super::frame::{FRAME_HEADER_BYTES, MessageType, header_of};
use super::packet::SYNAPSE_TYPE_BYTES_MAX;
use super::reader::Reader;
use super::value::write_value;
use super::writer;

/// From this length on, in bytes, a shared byte string stays a piece of its own. Below it, a copy costs less than one
/// piece more to send.
pub const SHARED_BYTES_MIN: usize = 4096;

/// Writes MessagePack values one after another, always in the smallest encoding.
///
/// Whoever announces an array or a map writes its elements next. A length that does not match its elements is seen by
/// the peer, which refuses the frame.
#[derive(Debug)]
pub struct PayloadWriter {
    /// What is complete. The first one is never shared.
    pieces: Vec<Piece>,
    /// What is being written to.
    tail: Vec<u8>,
    complete_bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl PayloadWriter {
    fn begin() -> Self {
        Self { pieces: Vec::new(), tail: vec![0; FRAME_HEADER_BYTES], complete_bytes: 0 }
    }

    /// How many bytes the frame has so far, its header included.
    pub fn frame_bytes(&self) -> usize {
        self.complete_bytes + self.tail.len()
    }

    /// Writes nil.
    pub fn nil(&mut self) {
        writer::nil(&mut self.tail);
    }

    /// Writes a truth value.
    pub fn boolean(&mut self, value: bool) {
        writer::boolean(&mut self.tail, value);
    }

    /// Writes an integer that is not negative.
    pub fn uint(&mut self, value: u64) {
        writer::uint(&mut self.tail, value);
    }

    /// Writes an integer of either sign.
    pub fn sint(&mut self, value: i64) {
        writer::sint(&mut self.tail, value);
    }

    /// Writes a number of single precision.
    pub fn f32(&mut self, value: f32) {
        writer::f32(&mut self.tail, value);
    }

    /// Writes a number of double precision.
    pub fn f64(&mut self, value: f64) {
        writer::f64(&mut self.tail, value);
    }

    /// Writes a string.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`]: MessagePack counts with 32 bits.
    pub fn str(&mut self, text: &str) -> Result<(), EncodeError> {
        writer::str(&mut self.tail, text)
    }

    /// Writes a byte string.
    ///
    /// # Errors
    /// As [`str`](Self::str).
    pub fn bin(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        writer::bin(&mut self.tail, bytes)
    }

    /// Writes a byte string without copying it, if it has [`SHARED_BYTES_MIN`] bytes or more.
    ///
    /// # Errors
    /// As [`str`](Self::str).
    pub fn bin_shared(&mut self, bytes: Bytes) -> Result<(), EncodeError> {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.bin(&bytes);
        }
        writer::bin_len(&mut self.tail, bytes.len())?;
        self.complete_bytes += self.tail.len() + bytes.len();
        self.pieces.push(Piece::Own(std::mem::take(&mut self.tail)));
        self.pieces.push(Piece::Shared(bytes));
        Ok(())
    }

    /// Writes a dynamic value, in the smallest encoding, without copying its byte string if it is a large one: then the
    /// frame shares what the value held.
    fn value(&mut self, value: Value) -> Result<(), EncodeError> {
        match value {
            Value::Binary(bytes) if bytes.len() >= SHARED_BYTES_MIN => self.bin_shared(bytes.into()),
            value => write_value(&mut self.tail, &value, 1),
        }
    }

    /// Writes a map of dynamic values. A large byte string in it is not copied.
    ///
    /// # Errors
    /// [`EncodeError::TooDeep`] and [`EncodeError::TooLong`], as [`encode_map`](super::encode_map).
    pub fn map(&mut self, map: HashMap<String, Value>) -> Result<(), EncodeError> {
        self.map_len(map.len())?;
        for (key, value) in map {
            self.str(&key)?;
            self.value(value)?;
        }
        Ok(())
    }

    /// Writes an extension value.
    ///
    /// # Errors
    /// As [`str`](Self::str).
    pub fn ext(&mut self, tag: i8, bytes: &[u8]) -> Result<(), EncodeError> {
        writer::ext(&mut self.tail, tag, bytes)
    }

    /// Announces an array of so many values.
    ///
    /// # Errors
    /// As [`str`](Self::str).
    pub fn array_len(&mut self, elements: usize) -> Result<(), EncodeError> {
        writer::array_len(&mut self.tail, elements)
    }

    /// Announces a map of so many pairs of values.
    ///
    /// # Errors
    /// As [`str`](Self::str).
    pub fn map_len(&mut self, pairs: usize) -> Result<(), EncodeError> {
        writer::map_len(&mut self.tail, pairs)
    }

    /// Has `write_data` write the data, and checks that it began with a map.
    fn data<E: From<EncodeError>>(
        &mut self,
        write_data: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.tail.len();
        write_data(self)?;
        // Nothing was complete before the data began, so it begins in the first piece, or in the only one.
        let first = match self.pieces.first() {
            Some(Piece::Own(first)) => first,
            _ => &self.tail,
        };
        match first.get(start..).map(|data| Reader::new(data).marks_map()) {
            Some(true) => Ok(()),
            _ => Err(EncodeError::NotAMap.into()),
        }
    }

    /// Writes the header and hands out the frame.
    fn finish(mut self, kind: MessageType, payload_bytes_max: usize) -> Result<Vec<Bytes>, EncodeError> {
        let payload_bytes = self.frame_bytes() - FRAME_HEADER_BYTES;
        let header = header_of(kind, payload_bytes, payload_bytes_max)?.to_bytes();
        // The first piece, or the only one, is never shared.
        let first = match self.pieces.first_mut() {
            Some(Piece::Own(first)) => first,
            _ => &mut self.tail,
        };
        if let Some(place) = first.first_chunk_mut() {
            *place = header;
        }
        Ok(self.into_pieces())
    }

    fn into_pieces(mut self) -> Vec<Bytes> {
        self.pieces.push(Piece::Own(self.tail));
        let bytes = |piece| match piece {
            Piece::Own(bytes) => bytes.into(),
            Piece::Shared(bytes) => bytes,
        };
        self.pieces.into_iter().map(bytes).collect()
    }
}

/// A payload without frame and envelope, in pieces: to keep it, or to look at it. `write_data` writes one map with string
/// keys.
///
/// # Errors
/// What `write_data` returns; [`EncodeError::NotAMap`].
pub fn encode_payload_pieces<E: From<EncodeError>>(
    write_data: impl FnOnce(&mut PayloadWriter) -> Result<(), E>,
) -> Result<Vec<Bytes>, E> {
    let mut writer = PayloadWriter::begin();
    writer.data(write_data)?;
    let mut pieces = writer.into_pieces();
    if let Some(first) = pieces.first_mut() {
        first.advance(FRAME_HEADER_BYTES);
    }
    Ok(pieces)
}

/// The frame of a request, in pieces. `write_data` writes the data: one map with string keys.
///
/// # Errors
/// As [`encode_packet_frame`](super::encode_packet_frame).
pub fn encode_packet_pieces<E: From<EncodeError>>(
    synapse_type: &str,
    timestamp: u64,
    payload_bytes_max: usize,
    write_data: impl FnOnce(&mut PayloadWriter) -> Result<(), E>,
) -> Result<Vec<Bytes>, E> {
    if synapse_type.len() > SYNAPSE_TYPE_BYTES_MAX {
        return Err(EncodeError::SynapseTypeTooLong { bytes: synapse_type.len() }.into());
    }
    let mut writer = PayloadWriter::begin();
    writer.array_len(3)?;
    writer.str(synapse_type)?;
    writer.data(write_data)?;
    writer.uint(timestamp);
    Ok(writer.finish(MessageType::SynapsePacket, payload_bytes_max)?)
}

/// The frame of an answer that succeeded, in pieces. `write_data` writes the data: one map with string keys.
///
/// # Errors
/// As [`encode_packet_frame`](super::encode_packet_frame).
pub fn encode_response_pieces<E: From<EncodeError>>(
    timestamp: u64,
    payload_bytes_max: usize,
    write_data: impl FnOnce(&mut PayloadWriter) -> Result<(), E>,
) -> Result<Vec<Bytes>, E> {
    let mut writer = PayloadWriter::begin();
    writer.array_len(4)?;
    writer.boolean(true);
    writer.data(write_data)?;
    writer.uint(timestamp);
    writer.nil();
    Ok(writer.finish(MessageType::SynapseResponse, payload_bytes_max)?)
}

#[cfg(test)]
mod tests {
    use super::super::frame::parse_frame_header;
    use super::super::packet::{RequestEnvelope, ResponseEnvelope};
    use super::super::scan::ScanLimits;
    use super::*;

    fn payload(pieces: &[Bytes], kind: MessageType) -> Bytes {
        let frame = pieces.concat();
        let (found, payload) = parse_frame_header(&frame, usize::MAX).expect("a whole frame");
        assert_eq!((found, payload.len()), (kind, frame.len() - FRAME_HEADER_BYTES));
        Bytes::copy_from_slice(payload)
    }

    #[test]
    fn a_large_byte_string_is_a_piece_of_its_own_and_not_copied() {
        let large = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let small = large.slice(1..);
        let pieces = encode_packet_pieces::<EncodeError>("name", 9, usize::MAX, |out| {
            out.map_len(2)?;
            out.str("large")?;
            out.bin_shared(large.clone())?;
            out.str("small")?;
            out.bin_shared(small.clone())
        })
        .expect("a request");
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());

        let request =
            RequestEnvelope::parse(&payload(&pieces, MessageType::SynapsePacket), &ScanLimits::trusted())
                .expect("a request");
        assert_eq!((request.synapse_type(), request.timestamp()), ("name", 9));
        let data = super::super::decode_map(request.data()).expect("a map");
        assert_eq!(data["large"].as_slice(), Some(&large[..]));
        assert_eq!(data["small"].as_slice(), Some(&small[..]));
    }

    #[test]
    fn a_map_that_is_given_away_is_the_same_and_its_large_byte_strings_are_not_copied() {
        let large = vec![7; SHARED_BYTES_MIN];
        let at = large.as_ptr();
        let small = rmpv::Value::Array(vec![rmpv::Value::Binary(large.clone()), "text".into()]);
        let map: HashMap<_, _> =
            [("large".to_owned(), rmpv::Value::Binary(large)), ("small".to_owned(), small)].into();
        let original = map.clone();
        let pieces =
            encode_response_pieces::<EncodeError>(9, usize::MAX, |out| out.map(map)).expect("an answer");
        assert!(pieces.iter().any(|piece| piece.as_ptr() == at));
        let answer = payload(&pieces, MessageType::SynapseResponse);
        let answer = ResponseEnvelope::parse(&answer, &ScanLimits::trusted()).expect("an answer");
        assert_eq!(super::super::decode_map(answer.data()), Ok(original));
    }

    #[test]
    fn every_kind_of_value_arrives() {
        let pieces = encode_response_pieces::<EncodeError>(9, usize::MAX, |out| {
            out.map_len(1)?;
            out.str("all")?;
            out.array_len(8)?;
            out.nil();
            out.boolean(true);
            out.uint(u64::MAX);
            out.sint(-5);
            out.f32(0.5);
            out.f64(0.25);
            out.ext(4, &[1])?;
            out.bin(&[2])
        })
        .expect("an answer");
        assert_eq!(pieces.len(), 1);
        let answer = payload(&pieces, MessageType::SynapseResponse);
        let answer = ResponseEnvelope::parse(&answer, &ScanLimits::trusted()).expect("an answer");
        let all = rmpv::Value::Array(vec![
            rmpv::Value::Nil,
            true.into(),
            u64::MAX.into(),
            (-5).into(),
            0.5_f32.into(),
            0.25_f64.into(),
            rmpv::Value::Ext(4, vec![1]),
            rmpv::Value::Binary(vec![2]),
        ]);
        assert!(answer.success());
        assert_eq!(super::super::decode_map(answer.data()).expect("a map")["all"], all);
    }

    #[test]
    fn a_payload_stands_alone() {
        let large = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let pieces = encode_payload_pieces::<EncodeError>(|out| {
            out.map_len(1)?;
            out.str("large")?;
            out.bin_shared(large.clone())
        })
        .expect("a payload");
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
        let payload = pieces.concat();
        let scanned = super::super::Scanned::whole(&payload, &ScanLimits::trusted()).expect("one value");
        assert_eq!(super::super::decode_map(scanned).expect("a map")["large"].as_slice(), Some(&large[..]));
        let nothing = encode_payload_pieces::<EncodeError>(|_| Ok(()));
        assert_eq!(nothing, Err(EncodeError::NotAMap));
    }

    #[test]
    fn the_limit_holds_for_all_pieces_together_and_data_is_a_map() {
        let bytes = Bytes::from(vec![0; 5000]);
        let request = |max| {
            encode_packet_pieces::<EncodeError>("n", 1, max, |out| {
                out.map_len(1)?;
                out.str("k")?;
                out.bin_shared(bytes.clone())
            })
        };
        let payload_bytes = 5000 + 1 + 2 + 1 + 2 + 3 + 1;
        assert!(request(payload_bytes).is_ok());
        assert!(matches!(request(payload_bytes - 1), Err(EncodeError::Frame(_))));

        let not_a_map = |write: &dyn Fn(&mut PayloadWriter)| {
            encode_response_pieces::<EncodeError>(1, usize::MAX, |out| {
                write(out);
                Ok(())
            })
        };
        assert_eq!(not_a_map(&|_| ()), Err(EncodeError::NotAMap));
        assert_eq!(not_a_map(&|out| out.nil()), Err(EncodeError::NotAMap));
        assert_eq!(not_a_map(&|out| out.bin_shared(bytes.clone()).unwrap_or(())), Err(EncodeError::NotAMap));
        assert!(not_a_map(&|out| out.map_len(70_000).unwrap_or(())).is_ok());
        let long = "n".repeat(SYNAPSE_TYPE_BYTES_MAX + 1);
        let refused = encode_packet_pieces::<EncodeError>(&long, 1, usize::MAX, |out| out.map_len(0));
        assert!(matches!(refused, Err(EncodeError::SynapseTypeTooLong { .. })));
    }
}
