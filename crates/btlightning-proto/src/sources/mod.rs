//! Where validators come from: a list of addresses that learns, and how those who are not on it may still knock.
//!
//! Validators do not publish their addresses, so a miner can only note them as they prove themselves. [`Roster`] keeps
//! these notes and decides when they are complete enough to turn everybody else away. [`VisitorGate`] then lets a few
//! unknown addresses a minute in to try, so that a validator that has moved is not locked out.
//!
//! The list decides who is dropped without a packet, so every doubt passes: nothing that fails, is lost, or is told
//! wrong may end in an enforced list that is empty.

pub mod bucket;
pub mod policy;
pub mod record;
pub mod roster;
pub mod visitors;

pub use bucket::TokenBucket;
pub use policy::RosterPolicy;
pub use record::{HotkeyRecord, RosterRecord, SeenAddress};
pub use roster::{Decision, Mode, Observed, Reason, Roster, SourceEntry};
pub use visitors::{VisitorGate, VisitorLimits};

/// The most hotkeys that a [`Roster`] keeps; of more permitted ones, those with the most stake.
pub const HOTKEYS_MAX: usize = 4096;

/// The most addresses that a [`Roster`] keeps of one hotkey; a newer one takes the place of the one seen least recently.
pub const ADDRESSES_PER_HOTKEY_MAX: usize = 4;

/// A clock that reads less, in Unix seconds, has not been set: 2025-01-01. Machines without one of their own start in
/// 1970.
pub const CLOCK_SECS_MIN: u64 = 1_735_689_600;
