//! Methods and versions by the names of OpenTelemetry's HTTP conventions.

use http::{Method, Version};

/// The methods of RFC 9110, PATCH (RFC 5789) and QUERY: what is known unless somebody says otherwise.
pub(crate) const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// Its place among [`METHODS`].
pub(crate) fn known_method(method: &Method) -> Option<usize> {
    Some(match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::PUT => 2,
        Method::DELETE => 3,
        Method::HEAD => 4,
        Method::OPTIONS => 5,
        Method::PATCH => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        Method::QUERY => 9,
        _ => return None,
    })
}

/// `network.protocol.version`
pub(crate) fn version_text(version: Version) -> Option<&'static str> {
    Some(match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_has_its_own_place() {
        for (at, name) in METHODS.into_iter().enumerate() {
            assert_eq!(known_method(&Method::from_bytes(name.as_bytes()).unwrap()), Some(at));
        }
        assert_eq!(known_method(&Method::from_bytes(b"get").unwrap()), None);
    }
}
