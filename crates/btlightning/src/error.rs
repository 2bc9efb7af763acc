//! [`LightningError`], the error of the published calls. The newer calls have precise ones:
//! [`CallError`](crate::client::CallError), [`DialError`](crate::client::DialError).

pub use btlightning_proto::error::{LightningError, Result};
