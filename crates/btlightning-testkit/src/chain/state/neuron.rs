//! A neuron: what the chain knows of one uid of one subnet.

use super::super::ss58::AccountId;
use parity_scale_codec::{Decode, Encode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the official SDKs write into [`Axon::protocol`], and so do ours.
pub const AXON_PROTOCOL: u8 = 4;

/// The most bytes of public key that a certificate has room for.
const CERTIFICATE_KEY_BYTES_MAX: usize = 64;

/// One uid of a subnet. Every field may be set as a test needs it; [`Neuron::new`] has what a fresh registration has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neuron {
    /// Who answers on the network.
    pub hotkey: AccountId,
    /// Who owns the hotkey.
    pub coldkey: AccountId,
    /// Where the neuron said that it listens; `None` if it never has.
    pub axon: Option<Axon>,
    /// Where the neuron said that its metrics are; `None` if it never has.
    pub prometheus: Option<Prometheus>,
    /// What the neuron published with `serve_axon_tls`.
    pub certificate: Option<Certificate>,
    /// The subnet's alpha that is staked to the hotkey, in rao (10^-9).
    pub stake: u64,
    /// Whether weights were set within the activity cutoff. Fresh registrations count as active.
    pub active: bool,
    /// Whether the neuron may set weights that count.
    pub validator_permit: bool,
    /// The block in which weights were last set, or the neuron registered.
    pub last_update: u64,
    /// The block in which the neuron registered; 0 is replaced by the block that the change becomes visible in.
    pub registered_at: u64,
    /// Alpha of the last epoch, in rao.
    pub emission: u64,
    /// A share of 65,535.
    pub rank: u16,
    /// A share of 65,535.
    pub trust: u16,
    /// A share of 65,535.
    pub consensus: u16,
    /// A share of 65,535.
    pub incentive: u16,
    /// A share of 65,535.
    pub dividends: u16,
    /// A share of 65,535.
    pub validator_trust: u16,
    /// The lowest is replaced first.
    pub pruning_score: u16,
    /// Uid and weight, as last set.
    pub weights: Vec<(u16, u16)>,
    /// Uid and bond.
    pub bonds: Vec<(u16, u16)>,
}

impl Neuron {
    /// A neuron that has just registered: active, no permit, no stake, no axon.
    pub fn new(hotkey: AccountId, coldkey: AccountId) -> Self {
        Self {
            hotkey,
            coldkey,
            axon: None,
            prometheus: None,
            certificate: None,
            stake: 0,
            active: true,
            validator_permit: false,
            last_update: 0,
            registered_at: 0,
            emission: 0,
            rank: 0,
            trust: 0,
            consensus: 0,
            incentive: 0,
            dividends: 0,
            validator_trust: 0,
            pruning_score: u16::MAX,
            weights: Vec::new(),
            bonds: Vec::new(),
        }
    }

    /// The same with an axon at `address`, see [`Axon::at`].
    #[must_use]
    pub fn serving(mut self, address: SocketAddr) -> Self {
        self.axon = Some(Axon::at(address));
        self
    }

    /// The same with a validator permit and stake, in rao of alpha.
    #[must_use]
    pub fn validating(mut self, stake: u64) -> Self {
        self.validator_permit = true;
        self.stake = stake;
        self
    }
}

/// `AxonInfo`: where a neuron said that it listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Axon {
    /// The block in which it said so. 0 is "never", and is not held against the rate limit.
    pub block: u64,
    /// Of the neuron's software; nothing checks it.
    pub version: u32,
    /// IPv4 in the lowest 32 bits, or all of IPv6.
    pub ip: u128,
    /// The external port.
    pub port: u16,
    /// 4 or 6.
    pub ip_type: u8,
    /// Nothing checks it; see [`AXON_PROTOCOL`].
    pub protocol: u8,
    /// Unused.
    pub placeholder1: u8,
    /// Unused.
    pub placeholder2: u8,
}

impl Axon {
    /// An axon at `address`, as the official SDKs publish one: version 1, [`AXON_PROTOCOL`].
    ///
    /// Its block is 0; set it where a test is about the rate limit.
    pub fn at(address: SocketAddr) -> Self {
        let (ip, ip_type) = match address.ip() {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), 4),
            IpAddr::V6(ip) => (u128::from(ip), 6),
        };
        Self { version: 1, ip, port: address.port(), ip_type, protocol: AXON_PROTOCOL, ..Self::default() }
    }

    /// What a neuron publishes that no longer listens: ip 0, port 1, [`AXON_PROTOCOL`].
    pub fn reset() -> Self {
        Self { port: 1, ip_type: 4, protocol: AXON_PROTOCOL, ..Self::default() }
    }

    /// The address, if `ip_type` says how to read it and it can be read so.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = match self.ip_type {
            4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(self.ip).ok()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.ip)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, self.port))
    }
}

/// `PrometheusInfo`: where a neuron said that its metrics are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Prometheus {
    /// The block in which it said so.
    pub block: u64,
    /// Of the neuron's software.
    pub version: u32,
    /// IPv4 in the lowest 32 bits, or all of IPv6.
    pub ip: u128,
    /// The port.
    pub port: u16,
    /// 4 or 6.
    pub ip_type: u8,
}

/// `NeuronCertificate`: a key that a neuron published for those who connect to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    /// At most 64 bytes.
    pub public_key: Vec<u8>,
    /// Nothing checks it.
    pub algorithm: u8,
}

impl Certificate {
    /// What the chain makes of the bytes that `serve_axon_tls` is given: the algorithm, then the key. `None`, if there
    /// are none or too many, which the chain does not report.
    pub fn from_call(bytes: &[u8]) -> Option<Self> {
        let (&algorithm, public_key) = bytes.split_first()?;
        (public_key.len() <= CERTIFICATE_KEY_BYTES_MAX)
            .then(|| Self { public_key: public_key.to_vec(), algorithm })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axon_gives_back_the_address_it_was_made_of() {
        for address in ["203.0.113.7:8091", "[2001:db8::7]:8091", "0.0.0.0:1"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(Axon::at(address).address(), Some(address));
        }
        assert_eq!(Axon { ip: 1 << 40, ip_type: 4, ..Axon::default() }.address(), None);
        assert_eq!(Axon { ip: 1, ip_type: 5, ..Axon::default() }.address(), None);
    }

    #[test]
    fn a_certificate_has_an_algorithm_and_at_most_64_bytes() {
        assert_eq!(Certificate::from_call(&[]), None);
        assert!(Certificate::from_call(&[1]).unwrap().public_key.is_empty());
        assert_eq!(Certificate::from_call(&[1; 65]).unwrap().public_key, [1; 64]);
        assert_eq!(Certificate::from_call(&[1; 66]), None);
    }
}
