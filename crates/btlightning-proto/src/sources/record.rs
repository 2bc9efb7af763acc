//! [`RosterRecord`], a roster as it is kept over restarts.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Mode;
use crate::identity::Hotkey;

/// What a [`Roster`](super::Roster) remembers, to be written down and read again. Whatever is in it,
/// [`Roster::restore`](super::Roster::restore) takes no more than its bounds allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterRecord {
    /// What was decided last.
    pub mode: Mode,
    /// How long it has been learning, in seconds.
    pub learned_secs: u64,
    /// When it was last told who holds a permit, in Unix seconds.
    pub permitted_at: Option<u64>,
    /// Its hotkeys, in the order of their bytes.
    pub hotkeys: Vec<HotkeyRecord>,
}

/// A hotkey of a [`RosterRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotkeyRecord {
    /// Who it is.
    pub hotkey: Hotkey,
    /// Its stake as the list of permits had it last.
    pub stake: u64,
    /// When it was first missing from the list of permits, in Unix seconds. `None` while it holds a permit.
    pub lost_at: Option<u64>,
    /// Where it was seen.
    pub addresses: Vec<SeenAddress>,
}

/// An address, and when a hotkey was seen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenAddress {
    /// The address in its canonical form: IPv4 within IPv6 is IPv4.
    pub ip: IpAddr,
    /// In Unix seconds.
    pub first_seen: u64,
    /// In Unix seconds.
    pub last_seen: u64,
}
