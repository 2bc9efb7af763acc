//! What miners can do to a validator.

mod beside;
mod memory;

use std::net::SocketAddr;
use std::time::Duration;

use btlightning_testkit::by_hand::{Manner, Miner};

use crate::run::Attack;
use crate::strangers::{address, key};
use crate::verdict::Failure;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    beside::SILENT,
    beside::REFUSING,
    beside::STALLING,
    beside::FLAPPING,
    beside::HALF_CLOSING,
    beside::TRICKLING,
    beside::CERTIFIED,
    memory::UNENDING,
    memory::FLOODING,
];

/// A call to a miner that behaves ends long before.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A miner, and how the validator knows it: its hotkey and its address.
struct Placed {
    miner: Miner,
    hotkey: String,
}

impl Placed {
    /// The `index`-th, at an address of its own.
    fn start(index: usize, manner: Manner) -> Result<Self, Failure> {
        let key = key(&format!("miner {index}"));
        let hotkey = key.hotkey().to_string();
        Ok(Self { miner: Miner::start(SocketAddr::new(address(10_000 + index), 0), key, manner)?, hotkey })
    }

    fn wanted(&self) -> (String, SocketAddr) {
        (self.hotkey.clone(), self.miner.addr)
    }
}
