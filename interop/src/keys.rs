//! Keys with names.

use blake2::{Blake2b512, Digest};
use schnorrkel::{ExpansionMode, MiniSecretKey};

/// A seed and the hotkey that belongs to it, spelt by nobody but this file: neither package's SS58 is trusted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The sr25519 mini secret.
    pub seed: [u8; 32],
    /// The public key in SS58 with the prefix 42.
    pub hotkey: String,
    /// The public key.
    pub public: [u8; 32],
}

impl Keys {
    /// The public key in SS58 as another network spells it: with this prefix, of those below 64.
    pub fn spelt_with(&self, prefix: u8) -> String {
        ss58(prefix, &self.public)
    }
}

/// The keys of whom a test calls `name`: the same for ever, and no secret.
pub fn keys(name: &str) -> Keys {
    let mut seed = [0; 32];
    seed.copy_from_slice(&Blake2b512::digest(name)[..32]);
    let public = MiniSecretKey::from_bytes(&seed)
        .expect("any 32 bytes are a mini secret")
        .expand_to_public(ExpansionMode::Ed25519)
        .to_bytes();
    Keys { seed, hotkey: ss58(42, &public), public }
}

fn ss58(prefix: u8, public: &[u8; 32]) -> String {
    let mut bytes = vec![prefix];
    bytes.extend_from_slice(public);
    let checksum = Blake2b512::new().chain_update(b"SS58PRE").chain_update(&bytes).finalize();
    bytes.extend_from_slice(&checksum[..2]);
    bs58::encode(bytes).into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_known_key_is_spelt_as_everyone_spells_it() {
        let alice = hex("d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d");
        assert_eq!(ss58(42, &alice), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    }

    fn hex(text: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex");
        }
        bytes
    }
}
