//! [`LightningError`], the error of the published calls, and the parts that the newer calls' precise errors
//! ([`CallError`](crate::CallError), [`DialError`](crate::DialError)) are made of.

pub use btlightning_proto::error::{LightningError, Result};
pub use btlightning_proto::identity::{HandshakeError, HotkeyError};
pub use btlightning_proto::peers::AddressError;
pub use btlightning_proto::wire::{DecodeError, EncodeError, FrameError};
