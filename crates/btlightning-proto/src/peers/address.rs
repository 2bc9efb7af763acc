//! Where miners are: [`PeerAddr`] and [`QuicAxonInfo`], the published forms, and the one step that makes a socket
//! address of them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::error::LightningError;

/// A miner as the chain lists it. Nothing in it is checked; [`WantedPeers::parse`](super::WantedPeers::parse) does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuicAxonInfo {
    /// The miner's hotkey as SS58 text.
    pub hotkey: String,
    /// The IP address it announces, as text.
    pub ip: String,
    /// The UDP port it announces.
    pub port: u16,
    /// The protocol number it announces; 4 is QUIC. Not looked at when dialling.
    pub protocol: u8,
}

impl QuicAxonInfo {
    /// The same four fields.
    pub fn new(hotkey: String, ip: String, port: u16, protocol: u8) -> Self {
        Self { hotkey, ip, port, protocol }
    }

    /// The address as it is written, canonical or not.
    pub fn addr_key(&self) -> PeerAddr {
        PeerAddr::new(&self.ip, self.port)
    }
}

/// An address as text: `ip:port`, or `[ip]:port` for IPv6.
///
/// It compares by that text, so only canonical ones ([`PeerAddr::canonical`]) are equal whenever the address is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerAddr(String);

impl PeerAddr {
    /// The text for an IP address and a port. Never fails: whatever `ip` is becomes part of the text, and is refused
    /// when it comes to [`socket_addr`](Self::socket_addr).
    pub fn new(ip: &str, port: u16) -> Self {
        // Nothing is normalised, not even brackets that are there already: programs compare these texts with those of
        // the published package.
        if ip.contains(':') { Self(format!("[{ip}]:{port}")) } else { Self(format!("{ip}:{port}")) }
    }

    /// The address to dial, with an IPv4 address written as IPv6 turned into IPv4.
    ///
    /// Names are not looked up: the chain lists IP addresses, and resolving what a stranger wrote would send queries
    /// on their behalf.
    ///
    /// # Errors
    /// [`AddressError`] when there is nobody that a dial could reach.
    pub fn socket_addr(&self) -> Result<SocketAddr, AddressError> {
        let written: SocketAddr = self.0.parse().map_err(|_| AddressError::NotAnIp)?;
        let ip = written.ip().to_canonical();
        if written.port() == 0 {
            return Err(AddressError::PortZero);
        }
        if ip.is_unspecified() {
            return Err(AddressError::Unspecified);
        }
        if is_broadcast(ip) || ip.is_multicast() {
            return Err(AddressError::ToMany);
        }
        // A flow label or a scope means nothing beyond the host that wrote it.
        Ok(SocketAddr::new(ip, written.port()))
    }

    /// The same address in the spelling that is the same for everyone who means it.
    ///
    /// # Errors
    /// As [`socket_addr`](Self::socket_addr).
    pub fn canonical(&self) -> Result<Self, AddressError> {
        self.socket_addr().map(Self::from)
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::new(&addr.ip().to_canonical().to_string(), addr.port())
    }
}

impl AsRef<str> for PeerAddr {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why an address cannot be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is no IP address; names are not looked up.
    #[error("not an IP address")]
    NotAnIp,
    /// Port 0, which miners announce that serve nothing.
    #[error("port 0")]
    PortZero,
    /// `0.0.0.0` or `::`, which miners announce that serve nothing.
    #[error("unspecified address")]
    Unspecified,
    /// A multicast or broadcast address.
    #[error("multicast or broadcast address")]
    ToMany,
}

impl From<AddressError> for LightningError {
    fn from(err: AddressError) -> Self {
        Self::Connection(format!("address cannot be dialled: {err}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_addr(ip: &str, port: u16) -> Result<String, AddressError> {
        PeerAddr::new(ip, port).socket_addr().map(|addr| addr.to_string())
    }

    #[test]
    fn it_reads_as_published() {
        assert_eq!(PeerAddr::new("192.0.2.1", 8443).to_string(), "192.0.2.1:8443");
        assert_eq!(PeerAddr::new("2001:db8::1", 8443).as_ref(), "[2001:db8::1]:8443");
        assert_eq!(PeerAddr::new("[::1]", 5).as_ref(), "[[::1]]:5");
        assert_eq!(PeerAddr::new(" 192.0.2.1 ", 5).as_ref(), " 192.0.2.1 :5");
        assert_eq!(PeerAddr::new("", 0).as_ref(), ":0");
        let axon = QuicAxonInfo::new("5Hotkey".into(), "::1".into(), 1, 4);
        assert_eq!(axon.addr_key().as_ref(), "[::1]:1");
    }

    #[test]
    fn serde_writes_the_text() {
        let addr = PeerAddr::new("192.0.2.1", 8443);
        let bytes = rmp_serde::to_vec(&addr).unwrap();
        assert_eq!(bytes, rmp_serde::to_vec("192.0.2.1:8443").unwrap());
        assert_eq!(rmp_serde::from_slice::<PeerAddr>(&bytes).unwrap(), addr);
    }

    #[test]
    fn ip_text_becomes_a_socket_address() {
        assert_eq!(socket_addr("192.0.2.1", 8443), Ok("192.0.2.1:8443".into()));
        assert_eq!(socket_addr("127.0.0.1", 1), Ok("127.0.0.1:1".into()));
        assert_eq!(socket_addr("::1", 1), Ok("[::1]:1".into()));
        assert_eq!(socket_addr("::ffff:192.0.2.1", 1), Ok("192.0.2.1:1".into()));
    }

    #[test]
    fn what_reaches_nobody_is_refused() {
        for text in
            ["", "localhost", "miner.example.com", "192.0.2.1 ", "192.0.2", "1.2.3.4:5", "::g", "[::1]"]
        {
            assert_eq!(socket_addr(text, 1), Err(AddressError::NotAnIp), "{text}");
        }
        assert_eq!(socket_addr("192.0.2.1", 0), Err(AddressError::PortZero));
        for text in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert_eq!(socket_addr(text, 1), Err(AddressError::Unspecified), "{text}");
        }
        for text in ["224.0.0.1", "ff02::1", "::ffff:239.1.2.3", "255.255.255.255"] {
            assert_eq!(socket_addr(text, 1), Err(AddressError::ToMany), "{text}");
        }
    }

    #[test]
    fn spellings_of_one_address_have_one_canonical_form() {
        let canonical = |ip| PeerAddr::new(ip, 1).canonical().unwrap();
        assert_eq!(canonical("2001:db8:0:0::1"), canonical("2001:DB8::1"));
        assert_eq!(canonical("::ffff:192.0.2.1"), canonical("192.0.2.1"));
        assert_eq!(canonical("192.0.2.1").canonical(), Ok(canonical("192.0.2.1")));
    }
}
