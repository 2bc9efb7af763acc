//! Calls whose payloads stay MessagePack: for bindings to other languages, and for whoever only passes payloads on.

use btlightning_proto::wire::{EncodeError, PayloadWriter, ScannedBytes};
use tokio::time::Instant;

use super::LightningClient;
use super::call::{self, CallOptions};
use super::error::CallError;
use super::fan_out::FanOut;
use super::names::NamesMiner;
use super::reply::RawReply;
use super::request::RawRequest;
use super::stream::{self, ChunkStream};

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
        stream::open(&self.config, &route, request, options, asked).await
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
