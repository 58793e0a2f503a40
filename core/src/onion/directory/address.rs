//! Which addresses a node of a public directory may have.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is on the public Internet: neither private, loopback, link-local, shared (carrier NAT),
/// multicast, documentation, benchmarking nor reserved, and no IPv6 address that stands for an IPv4 one
/// (v4-mapped, v4-compatible, NAT64, 6to4, Teredo). After the IANA special-purpose address registries.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..]                        // this network, private, loopback
            | [100, 64..=127, ..]                 // carrier NAT
            | [169, 254, ..]                      // link-local
            | [172, 16..=31, ..]                  // private
            | [192, 0, 0 | 2, _]                  // protocol assignments, documentation
            | [192, 88, 99, _]                    // 6to4 relays
            | [192, 168, ..]                      // private
            | [198, 18 | 19, ..]                  // benchmarking
            | [198, 51, 100, _]                   // documentation
            | [203, 0, 113, _]                    // documentation
            | [224..=255, ..] // multicast, reserved, broadcast
    )
}

/// Only global unicast (2000::/3) without its special parts.
fn is_public_v6(address: Ipv6Addr) -> bool {
    !matches!(
        address.segments(),
        [0..=0x1fff | 0x4000..=0xffff, ..]        // everything else: loopback, mapped, NAT64, local, multicast
            | [0x2001, 0..=0x01ff, ..]            // protocol assignments, Teredo, benchmarking, ORCHID
            | [0x2001, 0x0db8, ..]                // documentation
            | [0x2002, ..]                        // 6to4
            | [0x3fff, 0..=0x0fff, ..] // documentation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn their_neighbours_are_public() {
        for text in [
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.1",
            "2001:200::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
