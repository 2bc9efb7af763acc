//! Whom a client wants: addresses, backoff, reconciliation.
//!
//! Nothing here dials. [`reconcile()`] says what to do about a new list of miners, [`Backoff`] when to try again.

pub mod address;
pub mod backoff;
pub mod reconcile;
pub mod wanted;

pub use address::{AddressError, PeerAddr, QuicAxonInfo};
pub use backoff::{Backoff, BackoffPolicy, Pause};
pub use reconcile::{Close, CloseReason, Plan, Slot, reconcile};
pub use wanted::{Rejected, RejectedWhy, WantedPeers};
