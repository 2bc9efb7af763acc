//! A request, encoded into its frame.

use btlightning_proto::wire::{
    EncodeError, PayloadWriter, encode_packet_frame, encode_packet_pieces, to_payload,
};
use serde::Serialize;

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
