//! [`SourcePrefix`]: what of an address is counted as one.

use std::net::IpAddr;

/// What of an address is counted as one: an IPv4 address, however it is written; a /64 of IPv6, which is what one customer
/// of a network gets at the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourcePrefix(Prefix);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Prefix {
    V4([u8; 4]),
    V6Half([u16; 4]),
}

impl SourcePrefix {
    /// The prefix that `ip` is in.
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => Prefix::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Prefix::V6Half([a, b, c, d])
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str) -> SourcePrefix {
        SourcePrefix::of(ip.parse().unwrap())
    }

    #[test]
    fn ipv4_counts_by_address_and_ipv6_by_its_64() {
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
