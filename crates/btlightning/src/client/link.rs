//! A connection that has proven whose it is.

use std::time::Instant;

use btlightning_proto::identity::Hotkey;
use quinn::Connection;

use crate::transport::io::Lane;

/// A live connection and whose it is.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// Where the connection lives.
    pub(crate) lane: Lane,
    /// The only hotkey that this connection is good for.
    pub(crate) proven: Hotkey,
    pub(crate) since: Instant,
}
