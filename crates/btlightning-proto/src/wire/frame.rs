//! The frame: `type: u8 | payload length: u32, big endian | payload`.

use crate::error::{LightningError, Result};

/// The length of a frame's header: one byte of type, four of payload length.
pub const FRAME_HEADER_BYTES: usize = 5;

/// The default limit of a frame's payload, in bytes: 64 MiB.
pub const DEFAULT_MAX_FRAME_PAYLOAD: usize = 64 * 1024 * 1024;

/// What a frame's payload is. The discriminants are the bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// A client says who it is.
    HandshakeRequest = 0x01,
    /// A server accepts or refuses, and says who it is.
    HandshakeResponse = 0x02,
    /// A request for a handler.
    SynapsePacket = 0x03,
    /// A handler's answer.
    SynapseResponse = 0x04,
    /// A part of a streaming answer.
    StreamChunk = 0x05,
    /// The end of a streaming answer.
    StreamEnd = 0x06,
}

impl MessageType {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::HandshakeRequest,
            0x02 => Self::HandshakeResponse,
            0x03 => Self::SynapsePacket,
            0x04 => Self::SynapseResponse,
            0x05 => Self::StreamChunk,
            0x06 => Self::StreamEnd,
            _ => return None,
        })
    }
}

impl TryFrom<u8> for MessageType {
    type Error = LightningError;

    /// [`LightningError::Transport`] for a byte that is not a message type.
    fn try_from(byte: u8) -> Result<Self> {
        Self::from_byte(byte).ok_or_else(|| FrameError::UnknownType(byte).into())
    }
}

/// The header of a frame whose payload is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: MessageType,
    /// The length of the payload, in bytes.
    pub payload_bytes: u32,
}

impl FrameHeader {
    /// Reads a header, before any of its payload has to be there.
    ///
    /// # Errors
    /// [`FrameError::UnknownType`]; [`FrameError::TooLarge`] if the payload is longer than `payload_bytes_max`.
    pub fn parse(
        header: &[u8; FRAME_HEADER_BYTES],
        payload_bytes_max: usize,
    ) -> std::result::Result<Self, FrameError> {
        let [kind, length @ ..] = *header;
        let kind = MessageType::from_byte(kind).ok_or(FrameError::UnknownType(kind))?;
        let payload_bytes = u32::from_be_bytes(length);
        if payload_bytes as usize > payload_bytes_max {
            return Err(FrameError::TooLarge { payload_bytes: payload_bytes as usize, payload_bytes_max });
        }
        Ok(Self { kind, payload_bytes })
    }

    /// The header as it stands on the wire.
    pub fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let [a, b, c, d] = self.payload_bytes.to_be_bytes();
        [self.kind as u8, a, b, c, d]
    }
}

/// Reads a whole frame: its type and its payload. What follows the frame is ignored.
///
/// # Errors
/// [`LightningError::Transport`] for a header that [`FrameHeader::parse`] refuses, and if the frame is not all there.
pub fn parse_frame_header(data: &[u8], max: usize) -> Result<(MessageType, &[u8])> {
    let (header, rest) = data
        .split_first_chunk::<FRAME_HEADER_BYTES>()
        .ok_or(FrameError::Truncated { bytes: data.len(), bytes_needed: FRAME_HEADER_BYTES })?;
    let header = FrameHeader::parse(header, max)?;
    let payload = rest.get(..header.payload_bytes as usize).ok_or(FrameError::Truncated {
        bytes: data.len(),
        bytes_needed: FRAME_HEADER_BYTES.saturating_add(header.payload_bytes as usize),
    })?;
    Ok((header.kind, payload))
}

/// A frame that is being written: the header's place is kept while the payload grows behind it, so that nothing is
/// encoded twice or moved.
#[derive(Debug)]
pub struct FrameWriter {
    kind: MessageType,
    frame: Vec<u8>,
}

impl FrameWriter {
    /// Begins a frame with an empty payload.
    pub fn begin(kind: MessageType) -> Self {
        Self { kind, frame: vec![0; FRAME_HEADER_BYTES] }
    }

    /// Where the payload is encoded to. Append to it; the bytes that are already there are the frame's.
    pub fn payload_mut(&mut self) -> &mut Vec<u8> {
        &mut self.frame
    }

    /// Writes the header and hands out the frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if the payload is longer than `payload_bytes_max` or than the header can say
    /// (`u32::MAX`); [`FrameError::Truncated`] if the header's place was cut off.
    pub fn finish(mut self, payload_bytes_max: usize) -> std::result::Result<Vec<u8>, FrameError> {
        let bytes = self.frame.len();
        let header = self
            .frame
            .first_chunk_mut()
            .ok_or(FrameError::Truncated { bytes, bytes_needed: FRAME_HEADER_BYTES })?;
        *header = header_of(self.kind, bytes - FRAME_HEADER_BYTES, payload_bytes_max)?.to_bytes();
        Ok(self.frame)
    }
}

/// The header of a payload that is about to be sent.
pub(super) fn header_of(
    kind: MessageType,
    payload_bytes: usize,
    payload_bytes_max: usize,
) -> std::result::Result<FrameHeader, FrameError> {
    match u32::try_from(payload_bytes) {
        Ok(length) if payload_bytes <= payload_bytes_max => Ok(FrameHeader { kind, payload_bytes: length }),
        _ => Err(FrameError::TooLarge {
            payload_bytes,
            payload_bytes_max: payload_bytes_max.min(u32::MAX as usize),
        }),
    }
}

/// What can be wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte is not a message type.
    #[error("no message has the type {0:#04x}")]
    UnknownType(u8),
    /// The payload is over the limit.
    #[error("a frame of {payload_bytes} bytes is over the limit of {payload_bytes_max}")]
    TooLarge {
        /// The length of the payload, in bytes.
        payload_bytes: usize,
        /// The limit that was in force, in bytes.
        payload_bytes_max: usize,
    },
    /// The frame is not all there.
    #[error("{bytes} bytes of a frame of at least {bytes_needed}")]
    Truncated {
        /// How many bytes there are, header included.
        bytes: usize,
        /// How many there have to be, as far as is known, header included.
        bytes_needed: usize,
    },
}

impl From<FrameError> for LightningError {
    fn from(error: FrameError) -> Self {
        Self::Transport(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_type_its_length_and_its_payload() {
        let mut writer = FrameWriter::begin(MessageType::StreamEnd);
        writer.payload_mut().extend_from_slice(b"abc");
        let frame = writer.finish(3).expect("within the limit");
        assert_eq!(frame, [6, 0, 0, 0, 3, b'a', b'b', b'c']);
        let (kind, payload) = parse_frame_header(&frame, 3).expect("the frame is whole");
        assert_eq!((kind, payload), (MessageType::StreamEnd, &b"abc"[..]));
    }

    #[test]
    fn what_follows_the_frame_is_not_its_payload() {
        let (_, payload) = parse_frame_header(&[3, 0, 0, 0, 1, 9, 9], 100).expect("the frame is whole");
        assert_eq!(payload, [9]);
    }

    #[test]
    fn the_limit_itself_is_allowed_and_one_more_is_not() {
        let header = |length: u8| FrameHeader::parse(&[3, 0, 0, 0, length], 100);
        assert_eq!(header(100).map(|header| header.payload_bytes), Ok(100));
        assert_eq!(header(101), Err(FrameError::TooLarge { payload_bytes: 101, payload_bytes_max: 100 }));

        let mut writer = FrameWriter::begin(MessageType::StreamEnd);
        writer.payload_mut().extend_from_slice(b"abc");
        assert_eq!(writer.finish(2), Err(FrameError::TooLarge { payload_bytes: 3, payload_bytes_max: 2 }));
    }

    #[test]
    fn the_type_is_looked_at_before_the_length() {
        assert_eq!(FrameHeader::parse(&[9, 0, 0, 0, 101], 100), Err(FrameError::UnknownType(9)));
    }

    #[test]
    fn every_frame_that_is_cut_short_is_refused() {
        let frame = [3, 0, 0, 0, 2, 1, 2];
        for cut in 0..frame.len() {
            let error = parse_frame_header(&frame[..cut], 100).expect_err("cut short");
            assert!(matches!(error, LightningError::Transport(_)), "{cut}: {error}");
        }
    }

    #[test]
    fn exactly_six_bytes_are_types() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|&byte| MessageType::try_from(byte).is_ok()).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 6]);
        for byte in known {
            assert_eq!(MessageType::try_from(byte).expect("known") as u8, byte);
        }
        assert!(matches!(MessageType::try_from(0), Err(LightningError::Transport(_))));
    }

    #[test]
    fn a_writer_whose_header_was_cut_off_does_not_panic() {
        let mut writer = FrameWriter::begin(MessageType::StreamEnd);
        writer.payload_mut().clear();
        assert!(matches!(writer.finish(10), Err(FrameError::Truncated { .. })));
    }
}
