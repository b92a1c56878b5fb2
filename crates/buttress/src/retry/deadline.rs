//! The time by which an answer has to be there, on its way from tier to tier.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// `grpc-timeout`: up to eight digits and a unit.
pub(super) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(GRPC_TIMEOUT)?.as_bytes().split_last()?;
    if digits.len() > 8 {
        return None;
    }
    let value = number(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Whole milliseconds, of a header by any name.
pub(super) fn milliseconds(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let digits = headers.get(name)?.as_bytes();
    if digits.len() > 12 { None } else { number(digits).map(Duration::from_millis) }
}

/// Puts the time that is left where the next tier looks for it; rounded down, since the way there takes time too.
pub(super) fn tell(headers: &mut HeaderMap, left: Duration, is_grpc: bool, header: Option<&HeaderName>) {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    if is_grpc {
        // Eight digits of milliseconds are a day.
        let value =
            if millis < 100_000_000 { format!("{millis}m") } else { format!("{}S", (millis / 1000).min(99_999_999)) };
        headers.insert(GRPC_TIMEOUT, HeaderValue::try_from(value).expect("digits and a letter"));
    } else if let Some(name) = header {
        headers.insert(name.clone(), HeaderValue::from(millis));
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Option<Duration> {
        grpc_timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT, value.parse().unwrap())]))
    }

    #[test]
    fn every_unit_of_grpc_is_read_and_nothing_else() {
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("4S"), Some(Duration::from_secs(4)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("6u"), Some(Duration::from_micros(6)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for malformed in ["", "m", "5", "5x", "-5m", "123456789m", "1.5S", "+1S"] {
            assert_eq!(read(malformed), None, "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_as_the_same_or_a_little_less(millis in 0..10_000_000_000_u64) {
            let mut headers = HeaderMap::new();
            tell(&mut headers, Duration::from_millis(millis), true, None);
            let read = grpc_timeout(&headers).unwrap();
            prop_assert!(read <= Duration::from_millis(millis));
            prop_assert!(read + Duration::from_secs(1) > Duration::from_millis(millis));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(value: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, value)]);
                let _ = (grpc_timeout(&headers), milliseconds(&headers, &GRPC_TIMEOUT));
            }
        }
    }
}
