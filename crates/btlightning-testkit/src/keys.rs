//! Secrets with names, so that a test can speak of alice and not of 32 bytes.

use crate::mix;

/// The seed of the key that tests call `name`. The same name is the same seed for ever; two names are two seeds.
///
/// It is no secret at all: anybody can compute it.
pub fn seed(name: &str) -> [u8; 32] {
    let mut state = mix::start(name.len() as u64);
    for byte in name.bytes() {
        state = mix::absorb(state, u64::from(byte));
    }
    mix::bytes(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_name_is_one_seed() {
        assert_eq!(seed("alice"), seed("alice"));
    }

    #[test]
    fn names_do_not_share_seeds() {
        let names =
            (0..1_000).map(|n| format!("miner-{n}")).chain(["".into(), "a".into(), "aa".into(), "\0".into()]);
        let seeds: HashSet<_> = names.map(|name| seed(&name)).collect();
        assert_eq!(seeds.len(), 1_004);
    }
}
