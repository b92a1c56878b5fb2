//! Methods and versions by the names of OpenTelemetry's HTTP conventions.

use http::{Method, Version};

/// The methods of RFC 9110, PATCH (RFC 5789) and QUERY; others are `_OTHER`.
pub(crate) const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// Its place among [`METHODS`].
pub(crate) fn known_method(method: &Method) -> Option<usize> {
    METHODS.into_iter().position(|known| known == method.as_str())
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
