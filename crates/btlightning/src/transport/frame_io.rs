//! Frames on QUIC streams: [`FrameReader`] takes them off, [`FrameSender`] puts them on.
//!
//! A reader never reserves what a peer merely declares: memory follows the bytes that have arrived. A payload that
//! arrived in one piece is handed on without a copy.

use btlightning_proto::wire::{FRAME_HEADER_BYTES, FrameError, FrameHeader, MessageType};
use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};

/// How many received pieces are taken from quinn under one lock.
const PIECES: usize = 16;

/// The most that is reserved for a payload before more of it has arrived.
const FIRST_RESERVATION_BYTES: usize = 64 * 1024;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameReadError {
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// The header is not acceptable.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its connection failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// One received frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: MessageType,
    pub(crate) payload: Bytes,
}

/// Reads frames off a stream. Dropping it tells the peer to stop sending.
pub(crate) struct FrameReader {
    stream: RecvStream,
    pieces: [Bytes; PIECES],
    /// The pieces before this one are used up.
    next: usize,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, pieces: Default::default(), next: PIECES }
    }

    /// The next frame, or `None` when the stream ended after the last one. Not cancel-safe: a frame whose reading was
    /// dropped halfway is lost, and with it the stream.
    pub(crate) async fn frame(&mut self, payload_bytes_max: usize) -> Result<Option<Frame>, FrameReadError> {
        let Some(header) = self.header(payload_bytes_max).await? else { return Ok(None) };
        let payload = self.payload(header).await?;
        Ok(Some(Frame { kind: header.kind, payload }))
    }

    /// The next frame's header, checked, with nothing of its payload read or reserved.
    pub(crate) async fn header(
        &mut self,
        payload_bytes_max: usize,
    ) -> Result<Option<FrameHeader>, FrameReadError> {
        let mut header = [0; FRAME_HEADER_BYTES];
        let mut filled = 0;
        while filled < header.len() {
            let Some(piece) = self.piece().await? else {
                return if filled == 0 { Ok(None) } else { Err(FrameReadError::Truncated) };
            };
            let taken = piece.len().min(header.len() - filled);
            piece.copy_to_slice(&mut header[filled..filled + taken]);
            filled += taken;
        }
        Ok(Some(FrameHeader::parse(&header, payload_bytes_max)?))
    }

    /// The payload that `header` announced.
    pub(crate) async fn payload(&mut self, header: FrameHeader) -> Result<Bytes, FrameReadError> {
        let wanted = header.payload_bytes as usize;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let first = self.piece().await?.ok_or(FrameReadError::Truncated)?;
        if first.len() >= wanted {
            return Ok(first.split_to(wanted));
        }
        let mut payload = Assembly::new(wanted);
        while !payload.is_whole() {
            payload.take_from(self.piece().await?.ok_or(FrameReadError::Truncated)?);
        }
        Ok(payload.bytes.freeze())
    }

    /// The first received piece that is not used up, waiting for one if need be; `None` at the stream's end.
    async fn piece(&mut self) -> Result<Option<&mut Bytes>, ReadError> {
        loop {
            while self.next < PIECES && self.pieces[self.next].is_empty() {
                self.next += 1;
            }
            if self.next < PIECES {
                return Ok(Some(&mut self.pieces[self.next]));
            }
            // Every piece is empty here, so what is not filled below stays empty.
            if self.stream.read_chunks(&mut self.pieces).await?.is_none() {
                return Ok(None);
            }
            self.next = 0;
        }
    }
}

/// A payload that arrives in pieces. It never has room for more than twice what has arrived, or
/// [`FIRST_RESERVATION_BYTES`].
struct Assembly {
    bytes: BytesMut,
    wanted: usize,
}

impl Assembly {
    fn new(wanted: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(wanted.min(FIRST_RESERVATION_BYTES)), wanted }
    }

    fn is_whole(&self) -> bool {
        self.bytes.len() == self.wanted
    }

    /// Takes what belongs to the payload off the front of `piece`.
    fn take_from(&mut self, piece: &mut Bytes) {
        let missing = self.wanted - self.bytes.len();
        let part = piece.split_to(piece.len().min(missing));
        if self.bytes.capacity() - self.bytes.len() < part.len() {
            self.bytes.reserve(missing.min(self.bytes.len().max(part.len())));
        }
        self.bytes.extend_from_slice(&part);
    }
}

/// Puts frames on a stream. Dropped before [`FrameSender::finish`], it resets the stream, so that the peer never takes
/// half a message for a whole one.
pub(crate) struct FrameSender {
    stream: SendStream,
    finished: bool,
}

impl FrameSender {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, finished: false }
    }

    /// Writes an encoded frame, without copying it. Returns when QUIC has taken all of it, which may be long before the
    /// peer has it.
    pub(crate) async fn send(&mut self, frame: Bytes) -> Result<(), WriteError> {
        self.stream.write_chunk(frame).await
    }

    /// Writes several pieces of one frame, without copying them.
    pub(crate) async fn send_pieces(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        self.stream.write_all_chunks(pieces).await
    }

    /// Ends the stream: nothing more will be written.
    pub(crate) fn finish(&mut self) {
        // An error means that the peer has stopped the stream: it wants nothing more, and there is nothing to end.
        let _ = self.stream.finish();
        self.finished = true;
    }

    /// Resolves when the peer has all bytes of a finished stream, or has told us to stop, or is gone. The future is
    /// independent of this sender.
    pub(crate) fn settled(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_reserves_nothing_that_has_not_arrived() {
        let declared = 64 << 20;
        let mut payload = Assembly::new(declared);
        assert!(payload.bytes.capacity() <= FIRST_RESERVATION_BYTES);
        for _ in 0..1000 {
            payload.take_from(&mut Bytes::from_static(&[7; 1200]));
            let arrived = payload.bytes.len();
            assert!(payload.bytes.capacity() <= FIRST_RESERVATION_BYTES.max(2 * arrived), "{arrived} bytes");
        }
        assert!(!payload.is_whole());
    }

    #[test]
    fn a_payload_ends_where_it_said_and_the_rest_is_left() {
        let mut payload = Assembly::new(100_000);
        let mut piece = Bytes::new();
        while !payload.is_whole() {
            piece = Bytes::from(vec![1; 30_000]);
            payload.take_from(&mut piece);
        }
        assert_eq!((payload.bytes.len(), piece.len()), (100_000, 20_000));
    }
}
