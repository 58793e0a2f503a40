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
    use crate::onion::directory::check_url;

    /// The IANA IPv4 special-purpose address registry and the multicast and reserved blocks, each with its RFC.
    const V4: [(&str, u32); 16] = [
        ("0.0.0.0", 8),          // this network, RFC 791
        ("10.0.0.0", 8),         // private, RFC 1918
        ("100.64.0.0", 10),      // shared, RFC 6598
        ("127.0.0.0", 8),        // loopback, RFC 1122
        ("169.254.0.0", 16),     // link-local, RFC 3927
        ("172.16.0.0", 12),      // private, RFC 1918
        ("192.0.0.0", 24),       // protocol assignments, RFC 6890
        ("192.0.2.0", 24),       // documentation, RFC 5737
        ("192.88.99.0", 24),     // 6to4 relays, RFC 7526
        ("192.168.0.0", 16),     // private, RFC 1918
        ("198.18.0.0", 15),      // benchmarking, RFC 2544
        ("198.51.100.0", 24),    // documentation, RFC 5737
        ("203.0.113.0", 24),     // documentation, RFC 5737
        ("224.0.0.0", 4),        // multicast, RFC 5771
        ("240.0.0.0", 4),        // reserved, RFC 1112
        ("255.255.255.255", 32), // broadcast, RFC 919
    ];

    /// The IANA IPv6 special-purpose address registry and RFC 4291, each with its RFC.
    const V6: [(&str, u32); 20] = [
        ("::", 128),         // unspecified, RFC 4291
        ("::1", 128),        // loopback, RFC 4291
        ("::", 96),          // v4-compatible, RFC 4291
        ("::ffff:0:0", 96),  // v4-mapped, RFC 4291
        ("64:ff9b::", 96),   // NAT64, RFC 6052
        ("64:ff9b:1::", 48), // local NAT64, RFC 8215
        ("100::", 64),       // discard, RFC 6666
        ("100:0:0:1::", 64), // dummy prefix, RFC 9780
        ("2001::", 23),      // protocol assignments, RFC 2928
        ("2001::", 32),      // Teredo, RFC 4380
        ("2001:2::", 48),    // benchmarking, RFC 5180
        ("2001:10::", 28),   // ORCHID, RFC 4843
        ("2001:20::", 28),   // ORCHIDv2, RFC 7343
        ("2001:db8::", 32),  // documentation, RFC 3849
        ("2002::", 16),      // 6to4, RFC 3056
        ("3fff::", 20),      // documentation, RFC 9637
        ("5f00::", 16),      // segment routing, RFC 9602
        ("fc00::", 7),       // unique local, RFC 4193
        ("fe80::", 9),       // link-local and site-local, RFC 4291 and 3879
        ("ff00::", 8),       // multicast, RFC 4291
    ];

    /// First and last address.
    fn range_v4((first, bits): (&str, u32)) -> (u32, u32) {
        let first = first.parse::<Ipv4Addr>().unwrap().to_bits();
        (first, first | u32::MAX.checked_shr(bits).unwrap_or(0))
    }

    fn range_v6((first, bits): (&str, u32)) -> (u128, u128) {
        let first = first.parse::<Ipv6Addr>().unwrap().to_bits();
        (first, first | u128::MAX.checked_shr(bits).unwrap_or(0))
    }

    /// The IPv6 addresses that stand for an IPv4 one.
    fn forms(address: Ipv4Addr) -> [Ipv6Addr; 5] {
        let bits = u128::from(address.to_bits());
        let behind = |prefix: &str| Ipv6Addr::from_bits(prefix.parse::<Ipv6Addr>().unwrap().to_bits() | bits);
        let in_6to4 = Ipv6Addr::from_bits((0x2002_u128 << 112) | (bits << 80) | 1);
        [behind("::"), behind("::ffff:0:0"), behind("64:ff9b::"), behind("64:ff9b:1::"), in_6to4]
    }

    fn refused(address: IpAddr) {
        assert!(!is_public(address), "{address}");
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        assert!(check_url(&format!("https://{host}"), false).is_err(), "{host}");
    }

    #[test]
    fn case_28_no_special_range_is_public_in_any_form() {
        for range in V4 {
            let (first, last) = range_v4(range);
            for bits in [first, first + (last - first) / 2, last] {
                let address = Ipv4Addr::from_bits(bits);
                refused(address.into());
                forms(address).into_iter().for_each(|form| refused(form.into()));
            }
        }
        for range in V6 {
            let (first, last) = range_v6(range);
            for bits in [first, first + (last - first) / 2, last] {
                refused(Ipv6Addr::from_bits(bits).into());
            }
        }
    }

    #[test]
    fn what_lies_beside_a_range_is_public_unless_it_is_in_another_one() {
        let special =
            |bits: u32| V4.map(range_v4).iter().any(|(first, last)| (*first..=*last).contains(&bits));
        let mut beside = 0;
        for (first, last) in V4.map(range_v4) {
            let both = [first.checked_sub(1), last.checked_add(1)];
            for bits in both.into_iter().flatten().filter(|bits| !special(*bits)) {
                let address = Ipv4Addr::from_bits(bits);
                assert!(is_public(address.into()), "{address}");
                assert!(check_url(&format!("https://{address}"), false).is_ok(), "{address}");
                // A form that hides the address it stands for stays refused.
                forms(address).into_iter().for_each(|form| refused(form.into()));
                beside += 1;
            }
        }
        assert_eq!(beside, 26, "of 32 sides six meet another range or an end");
        for text in
            ["2001:200::", "2001:db7:ffff::1", "2001:db9::", "2003::", "2606:4700::1111", "3fff:1000::"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["1fff:ffff::1", "4000::", "8000::1"] {
            refused(text.parse().unwrap());
        }
    }
}
