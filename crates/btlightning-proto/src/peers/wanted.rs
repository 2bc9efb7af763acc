//! [`WantedPeers`], a list of miners that has been read: every entry can be dialled, every hotkey is there once.

use std::collections::HashMap;

use super::{AddressError, PeerAddr, QuicAxonInfo};
use crate::identity::{Hotkey, HotkeyError};

/// The miners that a client wants, in the caller's order.
///
/// A miner has one address. If a list names a hotkey twice, the later entry counts: lists grow at the end, so the
/// later is the newer. Several hotkeys may share an address. Addresses are in their canonical spelling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedPeers(Vec<(Hotkey, PeerAddr)>);

impl WantedPeers {
    /// Reads a list as the chain or a caller gives it. Whatever is not wanted after all comes back with the reason, in
    /// the order of the list, so nothing is lost without a word.
    pub fn parse(axons: Vec<QuicAxonInfo>) -> (Self, Vec<Rejected>) {
        let parsed: Vec<_> = axons.iter().map(parse_axon).collect();
        let last_of: HashMap<Hotkey, usize> = parsed
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| entry.as_ref().ok().map(|(hotkey, _)| (*hotkey, index)))
            .collect();

        let mut wanted = Vec::new();
        let mut rejected = Vec::new();
        for (index, (axon, entry)) in axons.into_iter().zip(parsed).enumerate() {
            match entry {
                Err(why) => rejected.push(Rejected { axon, why }),
                Ok((hotkey, _)) if last_of.get(&hotkey) != Some(&index) => {
                    rejected.push(Rejected { axon, why: RejectedWhy::Superseded });
                }
                Ok(entry) => wanted.push(entry),
            }
        }
        (Self(wanted), rejected)
    }

    /// The miners and their addresses.
    pub fn as_slice(&self) -> &[(Hotkey, PeerAddr)] {
        &self.0
    }
}

fn parse_axon(axon: &QuicAxonInfo) -> Result<(Hotkey, PeerAddr), RejectedWhy> {
    let hotkey = axon.hotkey.parse().map_err(RejectedWhy::Hotkey)?;
    let addr = axon.addr_key().canonical().map_err(RejectedWhy::Address)?;
    Ok((hotkey, addr))
}

/// An entry of a list that is not wanted after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The entry as it was given.
    pub axon: QuicAxonInfo,
    /// What is the matter with it.
    pub why: RejectedWhy,
}

/// Why an entry of a list is not wanted after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectedWhy {
    /// Its hotkey is not one.
    #[error(transparent)]
    Hotkey(HotkeyError),
    /// Its address cannot be dialled.
    #[error("address cannot be dialled: {0}")]
    Address(#[source] AddressError),
    /// The same hotkey comes again later in the list.
    #[error("the same hotkey comes again later in the list")]
    Superseded,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hotkey(n: u8) -> Hotkey {
        Hotkey::from_public_key([n; 32]).unwrap()
    }

    fn axon(hotkey: &str, ip: &str, port: u16) -> QuicAxonInfo {
        QuicAxonInfo::new(hotkey.into(), ip.into(), port, 4)
    }

    #[test]
    fn whatever_cannot_be_wanted_is_named() {
        let key = hotkey(1).to_string();
        let (wanted, rejected) = WantedPeers::parse(vec![
            axon("not a hotkey", "192.0.2.1", 1),
            axon(&key, "0.0.0.0", 1),
            axon(&key, "::ffff:192.0.2.1", 1),
        ]);
        assert_eq!(wanted.as_slice(), [(hotkey(1), PeerAddr::new("192.0.2.1", 1))]);
        let why: Vec<_> = rejected.iter().map(|rejected| rejected.why).collect();
        assert_eq!(
            why,
            [RejectedWhy::Hotkey(HotkeyError::NotBase58), RejectedWhy::Address(AddressError::Unspecified)]
        );
    }

    #[test]
    fn of_a_hotkey_at_two_addresses_the_later_counts() {
        let key = hotkey(1).to_string();
        let (wanted, rejected) = WantedPeers::parse(vec![
            axon(&key, "192.0.2.1", 1),
            axon(&hotkey(2).to_string(), "192.0.2.1", 1),
            axon(&key, "192.0.2.2", 1),
        ]);
        let expected =
            [(hotkey(2), PeerAddr::new("192.0.2.1", 1)), (hotkey(1), PeerAddr::new("192.0.2.2", 1))];
        assert_eq!(wanted.as_slice(), expected);
        assert_eq!(rejected, [Rejected { axon: axon(&key, "192.0.2.1", 1), why: RejectedWhy::Superseded }]);
    }

    #[test]
    fn an_invalid_later_entry_does_not_push_a_valid_one_out() {
        let key = hotkey(1).to_string();
        let (wanted, _) = WantedPeers::parse(vec![axon(&key, "192.0.2.1", 1), axon(&key, "192.0.2.1", 0)]);
        assert_eq!(wanted.as_slice().len(), 1);
    }
}
