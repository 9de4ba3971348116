//! Where a viewer really comes from, behind proxies or not.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::FORWARDED;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address. The headers count only as far as proxies in `trusted` vouch for them: from the
/// right, trusted addresses are passed over, and the first other one is the client. `X-Forwarded-For` is
/// read first, `Forwarded` only without it. An entry that is no address ends the walk at the proxy that
/// sent it. IPv4 addresses mapped into IPv6 come out as IPv4.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let (name, forwarded) = match headers.contains_key(X_FORWARDED_FOR) {
        true => (X_FORWARDED_FOR, false),
        false => (FORWARDED.as_str(), true),
    };
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    // A line that is not text becomes one entry that is no address.
    let entries = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    for entry in entries {
        if !is_trusted(&client) {
            break;
        }
        let node = if forwarded { forwarded_for(entry) } else { Some(entry) };
        let Some(address) = node.and_then(node_address) else { break };
        client = address;
    }
    client
}

/// The `for` of one `Forwarded` element, such as `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case("for").then_some(value)
    })
}

/// The address of a node written as proxies write it: bare, quoted, in brackets, with a port.
fn node_address(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let node = node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node);
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = (node.parse::<IpAddr>().ok())
        .or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| bracketed().map(IpAddr::V6))?;
    Some(address.to_canonical())
}

/// The addresses that count as one client under the cap per address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Group {
    prefix: u64,
    v4: bool,
}

/// The group of `address`: an IPv4 address alone, an IPv6 address with its /64, the least a site is given.
pub fn group(address: IpAddr) -> Group {
    match address.to_canonical() {
        IpAddr::V4(v4) => Group { prefix: u64::from(v4.to_bits()), v4: true },
        IpAddr::V6(v6) => Group { prefix: (v6.to_bits() >> 64) as u64, v4: false },
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The client of a request from `peer` with these headers, where 10/8 and fd00::/8 are trusted.
    fn seen(peer: &str, headers: &[(&'static str, &str)]) -> IpAddr {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        client(ip(peer), &map, &trusted)
    }

    #[test]
    fn headers_of_an_untrusted_peer_do_not_count() {
        assert_eq!(seen("203.0.113.9", &[("x-forwarded-for", "1.2.3.4")]), ip("203.0.113.9"));
        assert_eq!(seen("203.0.113.9", &[("forwarded", "for=1.2.3.4")]), ip("203.0.113.9"));
        assert_eq!(seen("10.0.0.1", &[]), ip("10.0.0.1"));
    }

    #[test]
    fn the_walk_ends_at_the_first_untrusted_address_from_the_right() {
        let forged = "6.6.6.6, 203.0.113.9, 10.1.1.1";
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", forged)]), ip("203.0.113.9"));
        let lines = [("x-forwarded-for", "6.6.6.6, 203.0.113.9"), ("x-forwarded-for", "10.1.1.1")];
        assert_eq!(seen("10.0.0.1", &lines), ip("203.0.113.9"));
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", "10.2.2.2,10.1.1.1")]), ip("10.2.2.2"));
    }

    #[test]
    fn a_malformed_entry_ends_the_walk_at_the_proxy_that_sent_it() {
        for bad in ["unknown", "", "_hidden", "1.2.3", "[::1", "1.2.3.4:99999", "弾幕"] {
            let line = format!("6.6.6.6, {bad}, 10.1.1.1");
            let expected = if bad.is_ascii() { "10.1.1.1" } else { "10.0.0.1" };
            assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", &line)]), ip(expected), "{bad}");
        }
    }

    #[test]
    fn ports_brackets_and_quotes_are_understood() {
        for (node, address) in [
            ("1.2.3.4:80", "1.2.3.4"),
            ("\"1.2.3.4:80\"", "1.2.3.4"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", node)]), ip(address), "{node}");
        }
    }

    #[test]
    fn forwarded_is_read_without_x_forwarded_for() {
        let line = "for=6.6.6.6, For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1, for=10.1.1.1";
        assert_eq!(seen("fd00::1", &[("forwarded", line)]), ip("2001:db8::1"));
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(seen("10.0.0.1", &both), ip("1.2.3.4"));
        assert_eq!(seen("10.0.0.1", &[("forwarded", "proto=https")]), ip("10.0.0.1"));
    }

    #[test]
    fn a_mapped_peer_is_the_ipv4_peer() {
        assert_eq!(seen("::ffff:10.0.0.1", &[("x-forwarded-for", "1.2.3.4")]), ip("1.2.3.4"));
        assert_eq!(seen("::ffff:203.0.113.9", &[]), ip("203.0.113.9"));
    }

    #[test]
    fn a_group_is_one_ipv4_address_or_one_ipv6_64() {
        assert_ne!(group(ip("1.2.3.4")), group(ip("1.2.3.5")));
        assert_eq!(group(ip("1.2.3.4")), group(ip("::ffff:1.2.3.4")));
        assert_eq!(group(ip("2001:db8::1")), group(ip("2001:db8::ffff:1")));
        assert_ne!(group(ip("2001:db8::1")), group(ip("2001:db8:0:1::1")));
        assert_ne!(group(ip("0.0.0.1")), group(ip("0:0:0:1::")));
    }
}
