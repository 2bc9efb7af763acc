//! The door through which fuzz targets come to what reads hostile bytes here. Not for programs: it may change at any time.

use std::collections::VecDeque;
use std::future::pending;
use std::task::Poll;

use bytes::Bytes;
use quinn::{ReadError, VarInt};

use crate::transport::close;
pub use crate::transport::frame_io::FrameReadError;
use crate::transport::frame_io::{ByteStream, FrameReader};
use crate::transport::io::poll_now;
use crate::wire::{FrameHeader, MessageType};

/// What of a text of others' gets into a line of a log.
pub fn printable_within(text: &[u8], bytes_max: usize) -> String {
    close::printable_within(text, bytes_max)
}

/// What a server reads out of the file of a learned source allowlist that holds `bytes`; or why it does not.
///
/// # Errors
/// In words, for the log.
#[cfg(feature = "sources-file")]
pub fn sources_in(
    bytes: &[u8],
    netuid: u16,
    genesis: [u8; 32],
) -> Result<btlightning_proto::sources::RosterRecord, String> {
    crate::server::sources_record_in(bytes, netuid, genesis)
}

/// What comes to pass on a stream.
#[derive(Debug)]
pub enum Arrival {
    /// Bytes; not none.
    Piece(Bytes),
    /// Whoever reads has to wait.
    NothingYet,
    /// The peer gives the stream up.
    Reset,
}

/// The frames on a stream to which things come to pass as they were written down, read as those on a QUIC stream are.
pub struct Frames {
    reader: FrameReader<Script>,
    begun: Option<FrameHeader>,
}

impl Frames {
    /// A stream that ends after `arrivals`.
    pub fn new(arrivals: impl IntoIterator<Item = Arrival>) -> Self {
        Self { reader: FrameReader::new(Script(arrivals.into_iter().collect())), begun: None }
    }

    /// Asks once for the next frame, and drops what waits. In two steps: its header, then its payload.
    pub fn poll_next(
        &mut self,
        payload_bytes_max: usize,
        in_two_steps: bool,
    ) -> Poll<Result<Option<(MessageType, Bytes)>, FrameReadError>> {
        if !in_two_steps {
            let frame = poll_now(self.reader.frame(payload_bytes_max));
            return frame.map_ok(|frame| frame.map(|frame| (frame.kind, frame.payload)));
        }
        let header = match self.begun {
            Some(header) => header,
            None => match poll_now(self.reader.header(payload_bytes_max)) {
                Poll::Ready(Ok(Some(header))) => *self.begun.insert(header),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            },
        };
        let payload = poll_now(self.reader.payload(header));
        if payload.is_ready() {
            self.begun = None;
        }
        payload.map_ok(|payload| Some((header.kind, payload)))
    }
}

/// What is still to come to pass.
struct Script(VecDeque<Arrival>);

impl Script {
    /// The next bytes, at most `bytes_max`; `None` where there are none now.
    fn take(&mut self, bytes_max: usize) -> Option<Bytes> {
        let Some(Arrival::Piece(piece)) = self.0.front_mut() else { return None };
        let taken = piece.split_to(piece.len().min(bytes_max));
        if piece.is_empty() {
            self.0.pop_front();
        }
        Some(taken)
    }

    /// Why there are no bytes now: the end, a reset, or a wait, of which there will not be the same again.
    fn why_not(&mut self) -> Poll<Result<(), ReadError>> {
        match self.0.front() {
            Some(Arrival::Reset) => Poll::Ready(Err(ReadError::Reset(VarInt::from_u32(0)))),
            Some(_) => {
                self.0.pop_front();
                Poll::Pending
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl ByteStream for Script {
    async fn chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadError> {
        match self.take(bytes_max) {
            Some(piece) => Ok(Some(piece)),
            None => match self.why_not() {
                Poll::Ready(end) => end.map(|()| None),
                Poll::Pending => pending().await,
            },
        }
    }

    async fn chunks(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let mut filled = 0;
        for place in pieces {
            let Some(piece) = self.take(usize::MAX) else { break };
            *place = piece;
            filled += 1;
        }
        match filled {
            0 => match self.why_not() {
                Poll::Ready(end) => end.map(|()| None),
                Poll::Pending => pending().await,
            },
            filled => Ok(Some(filled)),
        }
    }
}
