//! Which IP addresses the internet can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `ip` is written as an IP address that the internet can reach: neither private, loopback, link-local,
/// multicast, reserved nor set aside for documentation. An IPv4 address written as IPv6 counts as IPv4.
pub fn is_valid_ip(ip: &str) -> bool {
    ip.parse().is_ok_and(is_routable)
}

/// Whether the internet can reach `ip`, by IANA's registries of special-purpose addresses.
pub(crate) fn is_routable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_routable_v4(ip),
        IpAddr::V6(ip) => is_routable_v6(ip),
    }
}

fn is_routable_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_private()
        || (a == 100 && b & 0xc0 == 64)
        || ip.is_loopback()
        || ip.is_link_local()
        || (a == 192 && b == 0 && c == 0)
        || ip.is_documentation()
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        // Multicast, reserved and broadcast.
        || a >= 224;
    !special
}

fn is_routable_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Only this eighth of IPv6 has been given out; NAT64's prefix outside of it is a way to IPv4, not an address.
    let global_unicast = a & 0xe000 == 0x2000;
    // Protocol assignments (Teredo among them), documentation twice, and 6to4, which wraps an IPv4 address.
    let special = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || (a == 0x3fff && b < 0x1000) || a == 0x2002;
    global_unicast && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internet_reaches_what_has_been_given_out() {
        for ip in [
            "8.8.8.8",
            "1.2.3.4",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_valid_ip(ip), "{ip}");
        }
    }

    #[test]
    fn it_does_not_reach_the_rest() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.0.0.2",
            "169.254.1.1",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::8.8.8.8",
            "64:ff9b::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:808:808::1",
            "3fff::1",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!is_valid_ip(ip), "{ip}");
        }
    }

    #[test]
    fn a_text_that_is_no_address_is_not_valid() {
        for text in ["", " 8.8.8.8", "8.8.8", "localhost", "8.8.8.8:1", "[2606:4700::1111]", "08.8.8.8"] {
            assert!(!is_valid_ip(text), "{text}");
        }
    }
}
