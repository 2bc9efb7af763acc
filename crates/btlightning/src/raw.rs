//! Payloads that stay MessagePack, for bindings to other languages and for whoever only passes payloads on.
//!
//! A [`RawRequest`] is written value by value with a [`PayloadWriter`], sent by
//! [`LightningClient::call_raw`](crate::LightningClient::call_raw) and its sisters; the [`RawReply`] is read head by head
//! with a [`Reader`]. A handler reads [`Call::data`](crate::server::Call::data) and answers with
//! [`Response::encode_raw`](crate::server::Response::encode_raw). Byte strings that are large and shared are not copied.
//!
//! What a peer has sent is a [`Scanned`] value: checked to be well formed, nested at most 128 deep, and within the budget of
//! memory that it would take as dynamic values, before a reader can be put to it.

pub use btlightning_proto::wire::{
    DecodeError, EncodeError, Head, NESTING_MAX, PayloadWriter, Reader, SHARED_BYTES_MIN, ScanLimits,
    Scanned, ScannedBytes, encode_payload_pieces,
};

pub use crate::client::{RawReply, RawRequest};
