//! [`QuicRequest`] and [`QuicResponse`], the published forms of a request and its answer, with the payload as a map
//! of dynamic values.

use std::collections::HashMap;

use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{DecodeError, printable_within};
use super::packet::ResponseEnvelope;
use super::scan::{ScanLimits, Scanned};
use super::typed::{from_payload, to_payload};
use super::value::{decode_map, decode_map_from, encode_map};
use crate::error::{LightningError, Result};

/// The map of a payload as a value of the user's type, as [`from_payload`] decodes it. It may take as much memory as if
/// it had come off the wire: a peer chose what is in it.
///
/// # Errors
/// [`LightningError::Serialization`] if the map does not fit the type, or takes more.
pub fn from_map<T: DeserializeOwned>(data: &HashMap<String, Value>) -> Result<T> {
    let mut payload = Vec::new();
    encode_map(data, &mut payload)?;
    Ok(from_payload(Scanned::written_again(&payload)?)?)
}

/// The longest text of a miner's that an error repeats, in bytes.
const MINERS_WORDS_BYTES_MAX: usize = 1024;

/// What a client asks a miner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuicRequest {
    /// The name of the miner's handler.
    pub synapse_type: String,
    /// What the handler is asked.
    pub data: HashMap<String, Value>,
}

impl QuicRequest {
    /// A request with dynamic data.
    pub fn new(synapse_type: String, data: HashMap<String, Value>) -> Self {
        Self { synapse_type, data }
    }

    /// A request with the data of a struct or a map, encoded as [`to_payload`] does.
    ///
    /// # Errors
    /// [`LightningError::Serialization`] if `data` is neither, or refuses to be serialized.
    pub fn from_typed<T: Serialize>(synapse_type: impl Into<String>, data: &T) -> Result<Self> {
        let mut payload = Vec::new();
        to_payload(data, &mut payload)?;
        let data = decode_map(Scanned::whole(&payload, &ScanLimits::trusted())?)?;
        Ok(Self::new(synapse_type.into(), data))
    }
}

/// What a miner answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuicResponse {
    /// Whether the handler succeeded.
    pub success: bool,
    /// What the handler answered.
    pub data: HashMap<String, Value>,
    /// The time from the request to the answer, in milliseconds, measured by the client.
    pub latency_ms: f64,
    /// Why the handler failed, as the miner sent it: of any length, with any characters.
    #[serde(default)]
    pub error: Option<String>,
}

impl QuicResponse {
    /// Decodes what arrived, within the limits it was scanned with.
    ///
    /// # Errors
    /// [`DecodeError`] if a key of the data is not a string.
    pub fn from_envelope(
        envelope: ResponseEnvelope,
        latency_ms: f64,
    ) -> std::result::Result<Self, DecodeError> {
        let (success, error) = (envelope.success(), envelope.error().map(str::to_owned));
        Ok(Self { success, data: decode_map_from(envelope.into_data())?, latency_ms, error })
    }

    /// The response if the handler succeeded.
    ///
    /// # Errors
    /// [`LightningError::Handler`] with the miner's words if it failed: at most the first 1,024 bytes, and escaped what
    /// cannot be printed, so that they are fit for one line of a log.
    pub fn into_result(self) -> Result<Self> {
        if self.success {
            return Ok(self);
        }
        let words = self.error.as_deref().unwrap_or("request failed");
        Err(LightningError::Handler(printable_within(words, MINERS_WORDS_BYTES_MAX)))
    }

    /// The data as a value of the user's type, as [`from_map`] decodes it. Does not ask whether the handler succeeded.
    ///
    /// # Errors
    /// [`LightningError::Serialization`] if the data does not fit the type, or takes more memory than it may.
    pub fn deserialize_data<T: DeserializeOwned>(&self) -> Result<T> {
        from_map(&self.data)
    }
}
