//! [`Axon`], where a miner says it is, in the chain's spelling.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::is_routable;
use crate::miners::QUIC_PROTOCOL;

/// Where a miner is to be found: what validators dial, not what the server binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axon {
    /// The address that validators dial.
    pub ip: IpAddr,
    /// The UDP port that validators dial; that of a port forwarding, if there is one.
    pub port: u16,
    /// Which protocol is spoken. Default: 4.
    pub protocol: u8,
    /// A version of the miner's software. The chain does not interpret it, and an axon that differs in nothing else is not
    /// published anew. Default: 1.
    pub version: u32,
}

/// What the chain refuses in an axon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AxonError {
    /// The loopback address itself, or broadcast.
    #[error("the chain takes no axon at {0}")]
    Address(IpAddr),
    /// Port 0.
    #[error("the chain takes no axon at port 0")]
    Port,
}

impl Axon {
    /// A QUIC server at this address.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip, port, protocol: QUIC_PROTOCOL, version: 1 }
    }

    /// What official tools leave behind when an axon is taken down: address zero and port 1. The chain has no way to remove
    /// one.
    pub fn reset() -> Self {
        Self::new(Ipv4Addr::UNSPECIFIED.into(), 1)
    }

    /// Whether this is an axon that was taken down.
    pub fn is_reset(&self) -> bool {
        self.ip.to_canonical().is_unspecified()
    }

    /// Whether the internet can reach the address.
    pub fn is_routable(&self) -> bool {
        is_routable(self.ip)
    }

    /// # Errors
    /// [`AxonError`] for what the chain would refuse.
    pub(crate) fn checked(self) -> Result<Self, AxonError> {
        // An IPv4 address within IPv6 would be announced as one that no IPv4 validator can dial.
        let ip = self.ip.to_canonical();
        let refused: [IpAddr; 3] =
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), Ipv4Addr::BROADCAST.into()];
        if refused.contains(&ip) {
            return Err(AxonError::Address(ip));
        }
        if self.port == 0 {
            return Err(AxonError::Port);
        }
        Ok(Self { ip, ..self })
    }

    /// The address as the chain counts it, and 4 or 6.
    pub(super) fn number_and_type(&self) -> (u128, u8) {
        match self.ip {
            IpAddr::V4(ip) => (u32::from(ip).into(), 4),
            IpAddr::V6(ip) => (ip.into(), 6),
        }
    }

    /// Whether both say the same to whoever dials.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        (self.ip, self.port, self.protocol) == (other.ip, other.port, other.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axon(ip: &str, port: u16) -> Axon {
        Axon::new(ip.parse().unwrap(), port)
    }

    #[test]
    fn exactly_what_the_chain_refuses_is_refused() {
        for ip in ["127.0.0.1", "::1", "255.255.255.255", "::ffff:127.0.0.1"] {
            assert!(matches!(axon(ip, 8443).checked(), Err(AxonError::Address(_))), "{ip}");
        }
        assert_eq!(axon("8.8.8.8", 0).checked(), Err(AxonError::Port));
        for ip in ["127.0.0.2", "10.0.0.1", "0.0.0.0", "fe80::1", "8.8.8.8", "2606:4700::1111"] {
            axon(ip, 8443).checked().unwrap();
        }
        assert_eq!(Axon::reset().checked(), Ok(Axon::reset()));
        assert!(Axon::reset().is_reset() && !axon("10.0.0.1", 1).is_reset());
    }

    #[test]
    fn an_address_is_counted_as_the_chain_counts_it() {
        assert_eq!(axon("1.2.3.4", 1).number_and_type(), (0x0102_0304, 4));
        assert_eq!(axon("2001:db8::1", 1).number_and_type(), (0x2001_0db8_0000_0000_0000_0000_0000_0001, 6));
        assert_eq!(axon("::ffff:1.2.3.4", 1).checked().unwrap().number_and_type(), (0x0102_0304, 4));
    }
}
