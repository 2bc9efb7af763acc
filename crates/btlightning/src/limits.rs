//! What the client's and the server's configurations check alike.

use crate::error::{LightningError, Result};

/// The smallest frame limit that may be set, in bytes: 1 MiB.
const FRAME_PAYLOAD_BYTES_LEAST: usize = 1024 * 1024;

/// The largest frame limit that may be set, in bytes: what the length field of a frame can say.
const FRAME_PAYLOAD_BYTES_MOST: usize = u32::MAX as usize;

/// A `Config` error with the words of `otherwise`, unless `holds`.
pub(crate) fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(LightningError::Config(otherwise())) }
}

/// Checks `max_frame_payload_bytes`.
pub(crate) fn require_frame_limit(bytes: usize) -> Result<()> {
    require(bytes >= FRAME_PAYLOAD_BYTES_LEAST, || {
        format!("max_frame_payload_bytes ({bytes}) must be at least {FRAME_PAYLOAD_BYTES_LEAST} (1 MB)")
    })?;
    require(bytes <= FRAME_PAYLOAD_BYTES_MOST, || {
        format!("max_frame_payload_bytes ({bytes}) must not exceed {FRAME_PAYLOAD_BYTES_MOST} (u32::MAX)")
    })
}

/// A builder's methods, each of which sets the field of its name in `self.config`, a `$config`.
macro_rules! setters {
    ($config:ident; $($name:ident: $type:ty;)*) => {$(
        #[doc = concat!("Sets [`", stringify!($config), "::", stringify!($name), "`].")]
        pub fn $name(mut self, val: $type) -> Self {
            self.config.$name = val;
            self
        }
    )*};
}

pub(crate) use setters;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_limit_has_two_ends() {
        for bytes in [FRAME_PAYLOAD_BYTES_LEAST, FRAME_PAYLOAD_BYTES_MOST] {
            require_frame_limit(bytes).unwrap();
        }
        for bytes in [0, FRAME_PAYLOAD_BYTES_LEAST - 1, FRAME_PAYLOAD_BYTES_MOST + 1] {
            let error = require_frame_limit(bytes).unwrap_err();
            assert!(error.to_string().contains("max_frame_payload_bytes"), "{error}");
        }
    }
}
