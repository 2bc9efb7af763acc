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
    /// The value is well formed but does not fit the type it is decoded into. Says why, in serde's words. They may quote
    /// what the peer sent, so that what is not printable is escaped, and there are at most 256 bytes.
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

/// The longest text of serde's, or of the user's types, that an error repeats, in bytes.
const WORDS_BYTES_MAX: usize = 256;

fn bounded(message: impl Display) -> String {
    printable_within(message, WORDS_BYTES_MAX)
}

/// The beginning of what `message` says, of so many bytes at most, fit for one line of a log. It may quote what a peer
/// sent, which can be as long as a frame; it is cut off while it is written, before it costs memory.
pub(super) fn printable_within(message: impl Display, bytes_max: usize) -> String {
    let mut beginning = Beginning { text: String::new(), bytes_max };
    // The error means that the limit was reached.
    let _ = write!(beginning, "{message}");
    beginning.text
}

struct Beginning {
    text: String,
    bytes_max: usize,
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        let room = self.bytes_max - self.text.len();
        // Quotes end no line, and serde has escaped those that it quotes.
        if matches!(c, '"' | '\'' | '\\') {
            if room == 0 {
                return Err(fmt::Error);
            }
            self.text.push(c);
        } else {
            let escaped = c.escape_debug();
            if room < escaped.clone().map(char::len_utf8).sum() {
                return Err(fmt::Error);
            }
            self.text.extend(escaped);
        }
        Ok(())
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
        // An escape is whole, or not there.
        assert_eq!(bounded("\u{202e}".repeat(100)), "\\u{202e}".repeat(32));
        assert_eq!(bounded("\u{7f}".repeat(100)), "\\u{7f}".repeat(42));
    }

    #[test]
    fn a_message_is_one_line_of_what_can_be_printed() {
        assert_eq!(bounded("a\nb\r\x1b[31m\u{202e}\0"), "a\\nb\\r\\u{1b}[31m\\u{202e}\\0");
        assert_eq!(bounded("`no` \"such\" it's é 你 \\n"), "`no` \"such\" it's é 你 \\n");
    }
}
