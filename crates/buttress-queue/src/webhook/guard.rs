//! Destinations that users name must not reach into one's own network.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;

/// Whether an address is one of the public Internet: none of the special-purpose registries of IANA (RFC 6890), and no
/// address of these dressed as an address of IPv6.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || first == 0
        || first >= 224
        || (first == 100 && second & 0b1100_0000 == 64)
        || (first == 192 && second == 0 && third == 0)
        || (first == 192 && second == 88 && third == 99)
        || (first == 198 && second & 0b1111_1110 == 18);
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped, translated (RFC 6052) and 6to4: as the address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // Local translation, Teredo and what else IETF protocols have, documentation.
        [0x64, 0xff9b, ..] | [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is all that is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Whether a URL names an address that is not public. A name has to be resolved first, which is the resolver's to refuse.
pub(super) fn names_private_address(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse().is_ok_and(|address: IpAddr| !is_public(address))
}

/// Resolves names to public addresses only: for hyper-util's `HttpConnector::new_with_resolver`, so that the address that
/// was looked at is the address that is connected to.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuardedResolver;

impl<N: fmt::Display> tower_service::Service<N> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: N) -> Self::Future {
        let name = name.to_string();
        Box::pin(async move { public(tokio::net::lookup_host((name.as_str(), 0)).await?) })
    }
}

/// The public ones of the addresses that a name has.
fn public(found: impl Iterator<Item = SocketAddr>) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let public: Vec<_> = found.filter(|address| is_public(address.ip())).collect();
    match public.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::PermissionDenied, NotPublic)),
        false => Ok(public.into_iter()),
    }
}

/// A destination has no public address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the destination has no public address")
    }
}

impl std::error::Error for NotPublic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_internet_are_public() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "198.20.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_of_ones_own_network_are_not_however_they_are_dressed() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_looked_at() {
        for url in ["http://127.0.0.1/", "http://[::1]:80/", "https://169.254.169.254/latest"] {
            assert!(names_private_address(&url.parse().unwrap()), "{url}");
        }
        assert!(!names_private_address(&"https://example.com/".parse().unwrap()));
    }

    #[test]
    fn of_a_name_that_has_both_only_the_public_address_is_connected_to() {
        let both = ["127.0.0.1:80", "1.1.1.1:80", "[::ffff:10.0.0.1]:80"].map(|address| address.parse().unwrap());
        assert_eq!(public(both.into_iter()).unwrap().collect::<Vec<_>>(), [both[1]]);
    }

    #[tokio::test]
    async fn a_name_of_ones_own_machine_is_not_resolved() {
        let refused = tower_service::Service::call(&mut GuardedResolver, "localhost").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.get_ref().unwrap().is::<NotPublic>());
    }
}
