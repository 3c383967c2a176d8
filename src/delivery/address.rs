//! Addresses to which webhooks may go: those of the internet, unless an endpoint allows others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the kind of an address that is not public; `None` for one of the internet. An IPv6
/// address that leads to one of IPv4 is never public: names of the internet have none.
pub fn not_public(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) => not_public_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some((v4, form)) => Some(not_public_v4(v4).unwrap_or(form)),
            None => not_public_v6(v6),
        },
    }
}

fn not_public_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        (0, ..) => Some("an address of this network"),
        (127, ..) => Some("a loopback address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (169, 254, _) => Some("a link-local address"),
        (100, 64..=127, _) => Some("an address behind a provider's NAT"),
        (192, 0, 0) => Some("a reserved address"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("an address of documentation"),
        (198, 18..=19, _) => Some("an address of benchmarks"),
        (192, 88, 99) => Some("a 6to4 address"),
        (224..=239, ..) => Some("a multicast address"),
        (240..=255, ..) => Some("a reserved address"),
        _ => None,
    }
}

/// Only 2000::/3 is given out, so any other address is not of the internet.
fn not_public_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let [first, second, ..] = ip.segments();
    match first {
        0 if ip.is_unspecified() => Some("an unspecified address"),
        0 if ip.is_loopback() => Some("a loopback address"),
        0xfc00..=0xfdff => Some("a private address"),
        0xfe80..=0xfebf => Some("a link-local address"),
        0xfec0..=0xfeff => Some("a private address"),
        0xff00.. => Some("a multicast address"),
        0x2001 if second == 0 => Some("a Teredo address"),
        0x2001 if second == 0x0db8 => Some("an address of documentation"),
        // 2001::/23 is for protocols.
        0x2001 if second < 0x0200 => Some("a reserved address"),
        0x3fff if second < 0x1000 => Some("an address of documentation"),
        0x2000..=0x3fff => None,
        _ => Some("a reserved address"),
    }
}

/// Returns the IPv4 address to which an IPv6 address leads, and the form of the IPv6 address.
fn embedded(ip: Ipv6Addr) -> Option<(Ipv4Addr, &'static str)> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        // `::` and `::1` are addresses of IPv6.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low] => Some((of(high, low), "an IPv4-compatible address")),
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some((of(high, low), "an IPv4-mapped address")),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some((of(high, low), "an IPv4-translated address")),
        [0x64, 0xff9b, .., high, low] => Some((of(high, low), "a NAT64 address")),
        [0x2002, high, low, ..] => Some((of(high, low), "a 6to4 address")),
        [.., 0 | 0x200, 0x5efe, high, low] => Some((of(high, low), "an ISATAP address")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for text in ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1"]
            .into_iter()
            .chain(["11.0.0.1", "169.253.0.1", "192.167.0.1", "223.255.255.255", "2606:4700::1111"])
            .chain([
                "2a00:1450:4001::1",
                "2001:4860::8888",
                "192.0.1.1",
                "198.17.0.1",
                "198.20.0.1",
            ])
        {
            assert_eq!(not_public(text.parse().unwrap()), None, "{text}");
        }
        for (text, what) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("0.0.0.0", "this network"),
            ("0.1.2.3", "this network"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.169.254", "link-local"),
            ("100.64.0.1", "NAT"),
            ("100.127.255.255", "NAT"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("192.0.0.8", "reserved"),
            ("192.0.2.1", "documentation"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.255", "documentation"),
            ("198.18.0.1", "benchmarks"),
            ("198.19.255.255", "benchmarks"),
            ("192.88.99.1", "6to4"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fc00::1", "private"),
            ("fd12:3456::1", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "private"),
            ("ff02::1", "multicast"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::127.0.0.1", "loopback"),
            ("::ffff:0:169.254.169.254", "link-local"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("64:ff9b::8.8.8.8", "NAT64"),
            ("64:ff9b:1::8.8.8.8", "NAT64"),
            ("64:ff9b:1:a00:1::", "this network"),
            ("::ffff:8.8.8.8", "IPv4-mapped"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("2002:7f00:1::", "loopback"),
            ("2002:a00:1::", "private"),
            ("2002:808:808::", "6to4"),
            ("2001:0:808:808::1", "Teredo"),
            ("2001:db8::1", "documentation"),
            ("2606:4700::5efe:10.0.0.1", "private"),
            ("3fff::1", "documentation"),
            ("2001:20::1", "reserved"),
            ("100::1", "reserved"),
            ("4000::1", "reserved"),
        ] {
            let found = not_public(text.parse().unwrap());
            assert!(found.is_some_and(|found| found.contains(what)), "{text}: {found:?}");
        }
    }
}
