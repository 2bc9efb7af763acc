//! Pins: TLS keys by which miners are known before anything is sent to them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use btlightning_proto::identity::{Hotkey, TlsKeyPin};

/// How many miners can have a pin: as many as a subnet can have neurons. At 100 bytes each, that is 6.5 MB.
pub const TLS_KEY_PINS_MAX: usize = 65_536;

type Map = HashMap<Hotkey, TlsKeyPin>;

/// The pin of each miner that has one.
#[derive(Debug, Default)]
pub(crate) struct TlsKeyPins(RwLock<Layers>);

/// What the program said counts before what miners have published.
#[derive(Debug, Default)]
struct Layers {
    told: Map,
    published: Map,
    in_use: Arc<Map>,
}

impl TlsKeyPins {
    /// Replaces all pins that the program told. Returns those that were in use before.
    pub(crate) fn replace(&self, pins: Map) -> Arc<Map> {
        self.change(|layers| layers.told = pins)
    }

    /// Replaces all pins that miners have published. Returns those that were in use before.
    #[cfg(feature = "subtensor")]
    pub(crate) fn replace_published(&self, pins: Map) -> Arc<Map> {
        self.change(|layers| layers.published = pins)
    }

    fn change(&self, change: impl FnOnce(&mut Layers)) -> Arc<Map> {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut layers);
        let mut in_use = layers.published.clone();
        in_use.extend(&layers.told);
        std::mem::replace(&mut layers.in_use, Arc::new(in_use))
    }

    /// The pins as they are now.
    pub(crate) fn current(&self) -> Arc<Map> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).in_use.clone()
    }

    /// Whether a server that holds `key` may be `hotkey`.
    pub(crate) fn admit(&self, hotkey: &Hotkey, key: &TlsKeyPin) -> bool {
        self.current().get(hotkey).is_none_or(|pin| pin == key)
    }

    /// Whether a server that holds `key` may be any of `hotkeys`. Where none is named, nothing is known.
    pub(crate) fn admit_any(&self, hotkeys: &[Hotkey], key: &TlsKeyPin) -> bool {
        let pins = self.current();
        hotkeys.is_empty() || hotkeys.iter().any(|hotkey| pins.get(hotkey).is_none_or(|pin| pin == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_who_is_not_pinned_or_pinned_to_its_key() {
        let hotkey = |n: u8| Hotkey::from_public_key([n; 32]).unwrap();
        let pin = |n: u8| TlsKeyPin::from_bytes([n; 32]);
        let pins = TlsKeyPins::default();
        assert!(pins.admit(&hotkey(1), &pin(1)) && pins.admit_any(&[hotkey(1)], &pin(1)));

        pins.replace(HashMap::from([(hotkey(1), pin(1)), (hotkey(2), pin(2))]));
        assert!(pins.admit(&hotkey(1), &pin(1)) && pins.admit(&hotkey(3), &pin(1)));
        assert!(!pins.admit(&hotkey(1), &pin(2)));
        let any = |hotkeys: &[u8], key| {
            pins.admit_any(&hotkeys.iter().map(|n| hotkey(*n)).collect::<Vec<_>>(), &pin(key))
        };
        assert!(any(&[1, 2], 1) && any(&[1, 2], 2) && any(&[1, 2, 3], 9) && any(&[], 9));
        assert!(!any(&[1, 2], 3) && !any(&[1], 2));

        let before = pins.replace(HashMap::new());
        assert_eq!(before.len(), 2);
        assert!(any(&[1], 2), "the pins are replaced, not added to");
    }

    #[cfg(feature = "subtensor")]
    #[test]
    fn what_the_program_said_counts_before_what_is_published() {
        let hotkey = |n: u8| Hotkey::from_public_key([n; 32]).unwrap();
        let pin = |n: u8| TlsKeyPin::from_bytes([n; 32]);
        let pins = TlsKeyPins::default();
        pins.replace(HashMap::from([(hotkey(1), pin(1))]));
        pins.replace_published(HashMap::from([(hotkey(1), pin(9)), (hotkey(2), pin(2))]));
        assert!(pins.admit(&hotkey(1), &pin(1)) && !pins.admit(&hotkey(1), &pin(9)));
        assert!(pins.admit(&hotkey(2), &pin(2)) && !pins.admit(&hotkey(2), &pin(1)));
        pins.replace(HashMap::new());
        assert!(pins.admit(&hotkey(1), &pin(9)) && !pins.admit(&hotkey(1), &pin(1)));
    }
}
