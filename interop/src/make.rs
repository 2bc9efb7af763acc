//! Which package a peer is made of, and its errors compared by class.

/// Whose code a peer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// This project's.
    Ours,
    /// The published package's.
    Theirs,
}

impl Make {
    /// `ours` or `theirs`, where the two differ on purpose.
    pub fn pick<T>(self, ours: T, theirs: T) -> T {
        match self {
            Self::Ours => ours,
            Self::Theirs => theirs,
        }
    }
}

/// The variants of either package's `LightningError`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Class {
    Connection,
    Handshake,
    Signing,
    Serialization,
    Transport,
    Handler,
    Config,
    Stream,
}

/// An error of which the class can be told.
pub trait Classified: std::error::Error {
    /// Its variant.
    fn class(&self) -> Class;
    /// The text in the variant.
    fn words(&self) -> &str;
}

macro_rules! classified {
    ($($error:ty),*) => {$(
        impl Classified for $error {
            fn class(&self) -> Class {
                match self {
                    Self::Connection(_) => Class::Connection,
                    Self::Handshake(_) => Class::Handshake,
                    Self::Signing(_) => Class::Signing,
                    Self::Serialization(_) => Class::Serialization,
                    Self::Transport(_) => Class::Transport,
                    Self::Handler(_) => Class::Handler,
                    Self::Config(_) => Class::Config,
                    Self::Stream(_) => Class::Stream,
                }
            }

            fn words(&self) -> &str {
                match self {
                    Self::Connection(words)
                    | Self::Handshake(words)
                    | Self::Signing(words)
                    | Self::Serialization(words)
                    | Self::Transport(words)
                    | Self::Handler(words)
                    | Self::Config(words)
                    | Self::Stream(words) => words,
                }
            }
        }
    )*};
}

classified!(btlightning_ours::LightningError, btlightning_published::LightningError);
