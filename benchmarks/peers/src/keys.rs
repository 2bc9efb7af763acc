//! Identities out of numbers: the same in every process, and no secrets.

use btlightning_ours::Sr25519Signer;

/// An sr25519 seed and the hotkey that belongs to it.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The seed.
    pub seed: [u8; 32],
    /// The public key in SS58.
    pub hotkey: String,
}

/// The keys of server number `index`.
pub fn miner(index: u32) -> Keys {
    keys(1, index)
}

/// The keys of a client.
pub fn validator(identity: u32) -> Keys {
    keys(2, identity)
}

fn keys(role: u8, number: u32) -> Keys {
    let mut seed = [role; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Keys { seed, hotkey: Sr25519Signer::from_seed(seed).hotkey().to_string() }
}
