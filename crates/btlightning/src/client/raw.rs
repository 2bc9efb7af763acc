//! Calls whose payloads stay MessagePack: for bindings to other languages, and for whoever only passes payloads on.

use btlightning_proto::identity::Hotkey;
use btlightning_proto::wire::{
    EncodeError, PayloadWriter, ResponseEnvelope, Scanned, ScannedBytes, encode_packet_frame,
    encode_packet_pieces, to_payload,
};
use serde::Serialize;
use tokio::time::Instant;

use super::LightningClient;
use super::call::{self, CallOptions, Reply, Timings};
use super::error::{CallError, PeerError};
use super::fan_out::FanOut;
use super::names::NamesMiner;
use super::stream::{self, ChunkStream};
use crate::transport::frame_io::Outgoing;
use crate::util::unix_timestamp_secs;

/// A request, encoded once, good for any number of calls. A clone shares its bytes.
#[derive(Debug, Clone)]
pub struct RawRequest {
    frame: Outgoing,
}

impl RawRequest {
    /// A request that takes at most `payload_bytes_max` in its frame. `write_data` writes the data: one map with string
    /// keys.
    ///
    /// # Errors
    /// What `write_data` returns; [`EncodeError::NotAMap`], [`EncodeError::SynapseTypeTooLong`],
    /// [`EncodeError::Frame`].
    pub fn encode<E: From<EncodeError>>(
        synapse_type: &str,
        payload_bytes_max: usize,
        write_data: impl FnOnce(&mut PayloadWriter) -> Result<(), E>,
    ) -> Result<Self, E> {
        let pieces =
            encode_packet_pieces(synapse_type, unix_timestamp_secs(), payload_bytes_max, write_data)?;
        Ok(Self { frame: pieces.into() })
    }

    pub(super) fn typed<Q: Serialize + ?Sized>(
        synapse_type: &str,
        request: &Q,
        payload_bytes_max: usize,
    ) -> Result<Self, EncodeError> {
        Self::with(synapse_type, payload_bytes_max, |out| to_payload(request, out))
    }

    pub(super) fn with(
        synapse_type: &str,
        payload_bytes_max: usize,
        write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Self, EncodeError> {
        let frame = encode_packet_frame(synapse_type, unix_timestamp_secs(), payload_bytes_max, write_data)?;
        Ok(Self { frame: frame.into() })
    }

    /// The frame, sharing its bytes.
    pub(super) fn frame(&self) -> Outgoing {
        self.frame.clone()
    }
}

/// A miner's answer, be it that it failed. Its data is checked for form, nesting and memory, and not decoded.
#[derive(Debug, Clone)]
pub struct RawReply {
    pub(super) envelope: ResponseEnvelope,
    pub(super) hotkey: Hotkey,
    pub(super) timings: Timings,
}

impl RawReply {
    /// Whether the handler succeeded.
    pub fn success(&self) -> bool {
        self.envelope.success()
    }

    /// Why it failed, in the miner's words: not escaped, and as long as it liked within the frame's limit.
    pub fn error(&self) -> Option<&str> {
        self.envelope.error()
    }

    /// What it answered: a map, empty in a failure.
    pub fn data(&self) -> Scanned<'_> {
        self.envelope.data()
    }

    /// Who answered.
    pub fn hotkey(&self) -> Hotkey {
        self.hotkey
    }

    /// Where the time went.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The answer if the handler succeeded.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if it failed.
    pub fn into_reply(self) -> Result<Reply<ScannedBytes>, CallError> {
        let Self { envelope, hotkey, timings } = self;
        if !envelope.success() {
            return Err(CallError::Rejected(PeerError::parse(envelope.error().unwrap_or("request failed"))));
        }
        Ok(Reply { value: envelope.into_data(), hotkey, timings })
    }
}

impl LightningClient {
    /// Encodes a request within this client's `max_frame_payload_bytes`.
    ///
    /// # Errors
    /// As [`RawRequest::encode`].
    pub fn encode_raw<E: From<EncodeError>>(
        &self,
        synapse_type: &str,
        write_data: impl FnOnce(&mut PayloadWriter) -> Result<(), E>,
    ) -> Result<RawRequest, E> {
        RawRequest::encode(synapse_type, self.config.max_frame_payload_bytes, write_data)
    }

    /// [`call_with`](Self::call_with) without encoding or decoding. That the miner failed is told by the reply.
    /// Cancel-safe as [`call`](Self::call).
    ///
    /// # Errors
    /// As [`call`](Self::call), but for [`CallError::Rejected`].
    pub async fn call_raw(
        &self,
        miner: impl NamesMiner,
        request: &RawRequest,
        options: CallOptions,
    ) -> Result<RawReply, CallError> {
        let asked = Instant::now();
        let route = self.registry.route(&miner)?;
        call::unary(&route, request, &options.bounds(&self.config, asked), asked).await
    }

    /// [`call_stream`](Self::call_stream) without encoding.
    ///
    /// # Errors
    /// As [`call_stream`](Self::call_stream).
    pub async fn call_stream_raw(
        &self,
        miner: impl NamesMiner,
        request: &RawRequest,
        options: CallOptions,
    ) -> Result<ChunkStream, CallError> {
        let asked = Instant::now();
        let route = self.registry.route(&miner)?;
        stream::open(&self.config, &route, request, &options.bounds(&self.config, asked), asked).await
    }

    /// [`fan_out`](Self::fan_out) without encoding or decoding.
    pub fn fan_out_raw(
        &self,
        miners: impl IntoIterator<Item = impl NamesMiner>,
        request: &RawRequest,
        options: CallOptions,
    ) -> FanOut<ScannedBytes> {
        self.fan_out_encoded(miners, request, options, RawReply::into_reply)
    }
}
