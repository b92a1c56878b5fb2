//! Which requests? One condition for trust, sampling and capture.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::RequestHead;

/// A condition on the head of a request.
///
/// ```
/// use buttress::observe::When;
///
/// let internal = When::peer("10.0.0.0/8")?;
/// let scrapes = When::path("/metrics").and(When::method(http::Method::GET));
/// assert!(When::peer("10.0.0.0/80").is_err());
/// # let _ = (internal, scrapes);
/// # Ok::<(), buttress::observe::ParseNetworkError>(())
/// ```
#[derive(Clone)]
pub struct When(Condition);

#[derive(Clone)]
enum Condition {
    Peer(Network),
    Method(Method),
    Header(HeaderName, Option<HeaderValue>),
    Path(String),
    Closure(Arc<dyn Fn(&RequestHead<'_>) -> bool + Send + Sync>),
    All(Arc<[When]>),
}

impl When {
    /// The peer's address is in this network (`10.0.0.0/8`, `fd00::/8`) or is this address. Without a known peer it is
    /// not.
    ///
    /// # Errors
    ///
    /// [`ParseNetworkError`] when the text is no address and no network.
    pub fn peer(network: &str) -> Result<Self, ParseNetworkError> {
        Network::parse(network).map(|network| Self(Condition::Peer(network)))
    }

    /// The method is this one.
    pub fn method(method: Method) -> Self {
        Self(Condition::Method(method))
    }

    /// The header is there, whatever its value.
    pub fn has_header(name: HeaderName) -> Self {
        Self(Condition::Header(name, None))
    }

    /// The header has this value.
    pub fn header(name: HeaderName, value: HeaderValue) -> Self {
        Self(Condition::Header(name, Some(value)))
    }

    /// The path is this one or below it: `/api` holds for `/api` and `/api/orders`, not for `/apiary`.
    pub fn path(prefix: impl Into<String>) -> Self {
        let prefix: String = prefix.into();
        Self(Condition::Path(prefix.trim_end_matches('/').to_owned()))
    }

    /// Whatever the closure says.
    pub fn closure(condition: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Condition::Closure(Arc::new(condition)))
    }

    /// Both this and another.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Condition::All(Arc::new([self, other])))
    }

    /// Whether it holds for this request.
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        match &self.0 {
            Condition::Peer(network) => head.peer().is_some_and(|peer| network.contains(peer.ip())),
            Condition::Method(method) => head.method == method,
            Condition::Header(name, None) => head.headers.contains_key(name),
            Condition::Header(name, Some(value)) => head.headers.get_all(name).iter().any(|found| found == value),
            Condition::Path(prefix) => head
                .uri
                .path()
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Condition::Closure(condition) => condition(head),
            Condition::All(conditions) => conditions.iter().all(|condition| condition.holds(head)),
        }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Condition::Peer(network) => write!(f, "peer in {}/{}", network.address, network.prefix),
            Condition::Method(method) => write!(f, "method {method}"),
            Condition::Header(name, _) => write!(f, "header {name}"),
            Condition::Path(prefix) => write!(f, "path {prefix}"),
            Condition::Closure(_) => f.write_str("closure"),
            Condition::All(conditions) => f.debug_list().entries(conditions.iter()).finish(),
        }
    }
}

#[derive(Clone, Copy)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> Result<Self, ParseNetworkError> {
        let error = || ParseNetworkError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Self { address, prefix }).ok_or_else(error)
    }

    fn contains(&self, peer: IpAddr) -> bool {
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(peer)) => {
                same_prefix(u128::from(network.to_bits()) << 96, u128::from(peer.to_bits()) << 96, self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(peer)) => same_prefix(network.to_bits(), peer.to_bits(), self.prefix),
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, prefix: u8) -> bool {
    prefix == 0 || (a ^ b) >> (128 - u32::from(prefix)) == 0
}

/// The text is no IP address and no network in CIDR notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNetworkError(String);

impl fmt::Display for ParseNetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no IP address and no network such as 10.0.0.0/8 or fd00::/8", self.0)
    }
}

impl std::error::Error for ParseNetworkError {}
