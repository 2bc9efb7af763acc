//! What can be wrong with MessagePack: with what a peer sent ([`DecodeError`]), with what a caller hands in
//! ([`EncodeError`]).

use std::fmt::{self, Display, Write};

use super::frame::FrameError;
use crate::error::LightningError;

/// Bytes that cannot be decoded. Whoever wrote them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does, or a length is declared that the bytes left over cannot hold.
    #[error("the value is longer than the bytes that hold it")]
    Truncated,
    /// The marker 0xc1, to which MessagePack gives no meaning.
    #[error("0xc1 is not a MessagePack marker")]
    ReservedMarker,
    /// Arrays and maps in each other beyond the limit.
    #[error("values are nested deeper than {nesting_max}")]
    TooDeep {
        /// The limit that was in force, in levels.
        nesting_max: usize,
    },
    /// Decoding would take more memory than is allowed for a payload of this size.
    #[error("decoding would take more than {memory_bytes_max} bytes of memory")]
    TooMuchMemory {
        /// The limit that was in force, in bytes.
        memory_bytes_max: usize,
    },
    /// Bytes are left over where one value was expected.
    #[error("{bytes} bytes follow the value")]
    Trailing {
        /// How many bytes are left over.
        bytes: usize,
    },
    /// A value of another type than the message has in this place.
    #[error("expected {expected}")]
    Unexpected {
        /// What the message has in this place.
        expected: &'static str,
    },
    /// A string that is not UTF-8 where text is needed.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// What the string is.
        what: &'static str,
    },
    /// The value is well formed but does not fit the type it is decoded into. Says why, in serde's words, of which
    /// there are at most 256 bytes: they may quote what the peer sent.
    #[error("{0}")]
    Mismatch(String),
}

impl serde::de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Mismatch(bounded(message))
    }
}

impl From<DecodeError> for LightningError {
    fn from(error: DecodeError) -> Self {
        Self::Serialization(error.to_string())
    }
}

/// A value that cannot be put on the wire. Whoever made the value is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A payload is a map with string keys (a struct, a map); this value is something else.
    #[error("a payload has to be a struct or a map")]
    NotAMap,
    /// Arrays and maps in each other beyond what a peer would read, which is
    /// [`NESTING_MAX`](super::NESTING_MAX) levels.
    #[error("values are nested deeper than {nesting_max}")]
    TooDeep {
        /// The limit, in levels.
        nesting_max: usize,
    },
    /// A string, byte string, array or map longer than MessagePack can say (2^32 - 1).
    #[error("{length} bytes or elements are more than MessagePack can count")]
    TooLong {
        /// The length in question, in bytes or elements.
        length: usize,
    },
    /// A synapse type longer than [`SYNAPSE_TYPE_BYTES_MAX`](super::SYNAPSE_TYPE_BYTES_MAX).
    #[error("a synapse type of {bytes} bytes is too long")]
    SynapseTypeTooLong {
        /// The length of the name, in bytes.
        bytes: usize,
    },
    /// The encoded message does not fit into a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The value refused to be serialized. Says why, in its own words, of which there are at most 256 bytes.
    #[error("{0}")]
    Refused(String),
}

impl serde::ser::Error for EncodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Refused(bounded(message))
    }
}

impl From<EncodeError> for LightningError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Frame(error) => error.into(),
            error => Self::Serialization(error.to_string()),
        }
    }
}

/// The beginning of what `message` says. A mismatch quotes the string that does not fit, and that can be as long as a
/// frame; it is cut off while it is written, before it costs memory.
fn bounded(message: impl Display) -> String {
    let mut beginning = Beginning(String::new());
    // The error means that the limit was reached.
    let _ = write!(beginning, "{message}");
    beginning.0
}

struct Beginning(String);

impl Beginning {
    const BYTES_MAX: usize = 256;
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Self::BYTES_MAX - self.0.len();
        let fits = (0..=room.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        self.0.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_off_between_characters() {
        assert_eq!(bounded("short"), "short");
        assert_eq!(bounded("é".repeat(200)).len(), 256);
        assert_eq!(bounded(format_args!("x{}", "é".repeat(1_000_000))).len(), 255);
    }
}
