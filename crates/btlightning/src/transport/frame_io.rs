//! Frames on QUIC streams: [`FrameReader`] takes them off, [`FrameSender`] puts them on.
//!
//! A reader does not fill memory for what a peer merely declares: it follows the bytes that have arrived. A payload that
//! arrived in one piece is handed on without a copy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use btlightning_proto::wire::{FRAME_HEADER_BYTES, FrameError, FrameHeader, MessageType};
use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError, Written};

use super::io::poll_now;

/// How many received pieces are taken from quinn under one lock.
const PIECES: usize = 16;

/// The most that is reserved for a payload once the first of it has arrived: 1 MiB, and what may be around it. It is not
/// touched before there is something to put there, so it costs addresses and no memory; with less, a payload of 1 MB is
/// moved four times as it grows.
const FIRST_RESERVATION_BYTES: usize = (1024 + 64) * 1024;

/// Where a reader takes bytes from: a QUIC stream, or what stands in for one.
pub(crate) trait ByteStream {
    /// The next bytes, in order, at most `bytes_max`; `None` at the end. Cancel-safe.
    fn chunk(&mut self, bytes_max: usize) -> impl Future<Output = Result<Option<Bytes>, ReadError>> + Send;

    /// Fills the front of `pieces`, and says how many; `None` at the end. Cancel-safe.
    fn chunks(
        &mut self,
        pieces: &mut [Bytes],
    ) -> impl Future<Output = Result<Option<usize>, ReadError>> + Send;
}

impl ByteStream for RecvStream {
    async fn chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadError> {
        Ok(self.read_chunk(bytes_max, true).await?.map(|chunk| chunk.bytes))
    }

    async fn chunks(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        self.read_chunks(pieces).await
    }
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameReadError {
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

/// What is known of the end of a stream that nobody reads any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is here, or the connection is gone: nothing is kept of the stream.
    Seen,
    /// It is not, and so many pieces behind what was read are.
    Missing { pieces: u32 },
}

/// How many pieces are thrown away at most where a stream's end is looked for. quinn holds half as many.
const PIECES_DROPPED_MAX: u32 = 4096;

/// Reads frames off a stream. Dropping it tells the peer to stop sending.
///
/// Every read is cancel-safe: what has arrived of a frame is kept, and the next read goes on from there.
pub(crate) struct FrameReader<S: ByteStream = RecvStream> {
    stream: S,
    /// What has arrived and was not used up, in order. Most messages arrive in one piece.
    piece: Bytes,
    /// What has arrived after `piece`, of a message that did not.
    later: Option<Box<Pieces>>,
    /// The part of a header that has arrived.
    head: [u8; FRAME_HEADER_BYTES],
    head_filled: usize,
    /// The header of the frame whose payload is being read by [`FrameReader::frame`].
    begun: Option<FrameHeader>,
    /// The part of a payload that has arrived, if it did not arrive in one piece.
    body: Option<Assembly>,
    search: Search,
}

/// Whether somebody has looked for the stream's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    NotYet,
    Done,
    /// ... and has thrown away what was before it. quinn has no order to read in any more.
    Emptied,
}

impl<S: ByteStream> FrameReader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            piece: Bytes::new(),
            later: None,
            head: [0; FRAME_HEADER_BYTES],
            head_filled: 0,
            begun: None,
            body: None,
            search: Search::NotYet,
        }
    }

    /// The next frame, or `None` when the stream ended after the last one.
    pub(crate) async fn frame(&mut self, payload_bytes_max: usize) -> Result<Option<Frame>, FrameReadError> {
        if self.begun.is_none() {
            self.begun = self.header(payload_bytes_max).await?;
        }
        let Some(header) = self.begun else { return Ok(None) };
        let payload = self.payload(header).await?;
        self.begun = None;
        Ok(Some(Frame { kind: header.kind, payload }))
    }

    /// The next frame's header, checked, with nothing of its payload read or reserved.
    pub(crate) async fn header(
        &mut self,
        payload_bytes_max: usize,
    ) -> Result<Option<FrameHeader>, FrameReadError> {
        while self.head_filled < FRAME_HEADER_BYTES {
            if !self.has_piece().await? {
                return if self.head_filled == 0 { Ok(None) } else { Err(FrameReadError::Truncated) };
            }
            let room = &mut self.head[self.head_filled..];
            let taken = self.piece.len().min(room.len());
            self.piece.copy_to_slice(&mut room[..taken]);
            self.head_filled += taken;
        }
        self.head_filled = 0;
        Ok(Some(FrameHeader::parse(&self.head, payload_bytes_max)?))
    }

    /// The payload that `header`, the last one read, announced.
    pub(crate) async fn payload(&mut self, header: FrameHeader) -> Result<Bytes, FrameReadError> {
        let wanted = header.payload_bytes as usize;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        if self.body.is_none() {
            self.expect_piece().await?;
            if self.piece.len() >= wanted {
                return Ok(self.piece.split_to(wanted));
            }
        }
        loop {
            let body = self.body.get_or_insert_with(|| Assembly::new(wanted));
            if body.is_whole() {
                break;
            }
            self.expect_piece().await?;
            if let Some(body) = &mut self.body {
                body.take_from(&mut self.piece);
            }
        }
        Ok(self.body.take().map(|body| body.bytes.freeze()).unwrap_or_default())
    }

    /// Makes sure that `self.piece` has bytes.
    async fn expect_piece(&mut self) -> Result<(), FrameReadError> {
        if self.has_piece().await? { Ok(()) } else { Err(FrameReadError::Truncated) }
    }

    /// Waits until `self.piece` has bytes; `false` at the stream's end.
    async fn has_piece(&mut self) -> Result<bool, ReadError> {
        while self.piece.is_empty() {
            if let Some(later) = &mut self.later {
                if let Some(piece) = later.next() {
                    self.piece = piece;
                } else if self.stream.chunks(&mut later.pieces).await?.is_none() {
                    return Ok(false);
                } else {
                    later.next = 0;
                }
            } else if self.body.is_some() {
                self.later = Some(Box::default());
            } else {
                match self.stream.chunk(usize::MAX).await? {
                    Some(piece) => self.piece = piece,
                    None => return Ok(false),
                }
            }
        }
        Ok(true)
    }
}

impl FrameReader {
    /// Looks for the stream's end, and throws away what is here of what comes before it. Nothing can be read afterwards.
    pub(crate) fn end(&mut self) -> End {
        if self.search != Search::Emptied {
            self.search = Search::Done;
            if let Poll::Ready(Ok(None) | Err(_)) = poll_now(self.stream.read_chunk(0, true)) {
                return End::Seen;
            }
            self.search = Search::Emptied;
        }
        let mut pieces = 0;
        while pieces < PIECES_DROPPED_MAX {
            match poll_now(self.stream.read_chunk(usize::MAX, false)) {
                Poll::Ready(Ok(Some(_))) => pieces += 1,
                Poll::Ready(Ok(None) | Err(_)) => return End::Seen,
                Poll::Pending => break,
            }
        }
        End::Missing { pieces }
    }
}

impl<S: ByteStream> Drop for FrameReader<S> {
    fn drop(&mut self) {
        // Takes note of the stream's end, if that is here: a stream that is dropped before its end was read tells the peer
        // to stop sending, and costs packets there and back, even where there is nothing left to send.
        if self.search == Search::NotYet {
            let _ = poll_now(self.stream.chunk(0));
        }
    }
}

/// Pieces that were taken from quinn under one lock.
struct Pieces {
    pieces: [Bytes; PIECES],
    /// Those before this one are used up.
    next: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { pieces: Default::default(), next: PIECES }
    }
}

impl Pieces {
    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.get_mut(self.next).filter(|piece| !piece.is_empty());
        let taken = piece.map(std::mem::take);
        // Those that were not filled are empty, and follow the others.
        self.next = if taken.is_some() { self.next + 1 } else { PIECES };
        taken
    }
}

/// A payload that arrives in pieces. It never has room for more than twice what has arrived, or
/// [`FIRST_RESERVATION_BYTES`]; and a server has a share for all of it by then.
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

/// An encoded frame on its way out. A clone shares its bytes.
#[derive(Debug, Clone)]
pub(crate) enum Outgoing {
    Whole(Bytes),
    Pieces(Arc<[Bytes]>),
}

impl Outgoing {
    /// How long it is, its header included.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(frame) => frame.len(),
            Self::Pieces(pieces) => pieces.iter().map(Bytes::len).sum(),
        }
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(frame: Vec<u8>) -> Self {
        Self::Whole(frame.into())
    }
}

impl From<Vec<Bytes>> for Outgoing {
    fn from(mut pieces: Vec<Bytes>) -> Self {
        match pieces.pop() {
            Some(frame) if pieces.is_empty() => Self::Whole(frame),
            last => {
                pieces.extend(last);
                Self::Pieces(pieces.into())
            }
        }
    }
}

/// Puts frames on a stream. Dropped before [`FrameSender::finish`], it resets the stream, so that the peer never takes
/// half a message for a whole one.
pub(crate) struct FrameSender {
    stream: SendStream,
    /// What QUIC has not taken yet.
    rest: Rest,
    finished: bool,
}

/// What is left of frames that were put on a stream.
enum Rest {
    One(Bytes),
    /// In order.
    Many(VecDeque<Bytes>),
}

impl FrameSender {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, rest: Rest::One(Bytes::new()), finished: false }
    }

    /// Writes an encoded frame, without copying it. Returns when QUIC has taken all of it, which may be long before the
    /// peer has it.
    pub(crate) async fn send(&mut self, frame: impl Into<Outgoing>) -> Result<(), WriteError> {
        self.put(frame.into());
        self.flush().await
    }

    /// Puts a frame on the stream, to be written by [`flush`](Self::flush).
    pub(crate) fn put(&mut self, frame: Outgoing) {
        match (frame, &mut self.rest) {
            (Outgoing::Whole(frame), Rest::One(rest)) if rest.is_empty() => *rest = frame,
            (Outgoing::Whole(frame), _) => self.many().push_back(frame),
            (Outgoing::Pieces(pieces), _) => {
                self.many().extend(pieces.iter().filter(|piece| !piece.is_empty()).cloned())
            }
        }
    }

    /// How much is left to be written, in bytes.
    pub(crate) fn rest_bytes(&self) -> u64 {
        match &self.rest {
            Rest::One(rest) => rest.len() as u64,
            Rest::Many(rest) => rest.iter().map(|piece| piece.len() as u64).sum(),
        }
    }

    fn many(&mut self) -> &mut VecDeque<Bytes> {
        if let Rest::One(one) = &mut self.rest {
            let one = std::mem::take(one);
            self.rest = Rest::Many(Some(one).filter(|one| !one.is_empty()).into_iter().collect());
        }
        match &mut self.rest {
            Rest::Many(many) => many,
            Rest::One(_) => unreachable!("it was just replaced"),
        }
    }

    /// Returns when QUIC has taken all that was put on the stream. Cancel-safe: what is left is written the next time.
    pub(crate) async fn flush(&mut self) -> Result<(), WriteError> {
        match &mut self.rest {
            Rest::One(rest) => {
                while !rest.is_empty() {
                    self.stream.write_chunks(std::slice::from_mut(rest)).await?;
                }
            }
            Rest::Many(rest) => {
                while !rest.is_empty() {
                    let written = self.stream.write_chunks(rest.make_contiguous()).await?;
                    rest.drain(..written.chunks);
                }
            }
        }
        Ok(())
    }

    /// Writes as much of several pieces as QUIC takes, without copying them, and leaves the rest in them. Cancel-safe.
    pub(crate) async fn send_some(&mut self, pieces: &mut [Bytes]) -> Result<Written, WriteError> {
        self.stream.write_chunks(pieces).await
    }

    /// Ends the stream: nothing more will be written.
    pub(crate) fn finish(&mut self) {
        // An error means that the peer has stopped the stream: it wants nothing more, and there is nothing to end.
        let _ = self.stream.finish();
        self.finished = true;
    }

    /// Lets go of what the peer has not acknowledged, of a finished stream too.
    pub(crate) fn abandon(mut self) {
        // An error means that there is nothing to let go of.
        let _ = self.stream.reset(VarInt::from_u32(0));
    }

    /// Whether [`settled`](Self::settled) would resolve at once.
    pub(crate) fn is_settled(&self) -> bool {
        poll_now(self.settled()).is_ready()
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
    fn a_declared_length_reserves_little_that_has_not_arrived() {
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
