//! What a server says about when to come again.

use std::time::{Duration, SystemTime};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

/// When a server wants to be asked again.
///
/// ```
/// use std::time::Duration;
///
/// use buttress::hint::Hint;
/// use http::{HeaderMap, HeaderValue};
///
/// let mut answer = HeaderMap::new();
/// answer.insert("date", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
/// answer.insert("retry-after", HeaderValue::from_static("Sun, 06 Nov 1994 08:50:07 GMT"));
/// assert_eq!(Hint::of_http(&answer), Some(Hint::After(Duration::from_secs(30))));
///
/// answer.insert("grpc-retry-pushback-ms", HeaderValue::from_static("-1"));
/// assert_eq!(Hint::of_grpc(&answer), Some(Hint::Never));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Not before this much time has passed.
    After(Duration),
    /// Not again.
    Never,
}

impl Hint {
    /// `Retry-After` (RFC 9110, section 10.2.3) in seconds or as a date; none when it is missing or malformed.
    ///
    /// A date is read against the `Date` of the same answer, so that it does not matter how wrong either clock is; only
    /// without one is our own clock asked. A date that has passed means now.
    pub fn of_http(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(RETRY_AFTER)?.as_bytes().trim_ascii();
        if let Some(seconds) = digits(value) {
            return Some(Self::After(Duration::from_secs(seconds)));
        }
        let until = date(value)?;
        let now = headers.get(DATE).map(HeaderValue::as_bytes).and_then(date).unwrap_or_else(SystemTime::now);
        Some(Self::After(until.duration_since(now).unwrap_or_default()))
    }

    /// `grpc-retry-pushback-ms` (gRPC proposal A6): what is negative or no number means never.
    pub fn of_grpc(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(PUSHBACK)?.as_bytes().trim_ascii();
        Some(digits(value).map_or(Self::Never, |millis| Self::After(Duration::from_millis(millis))))
    }

    /// How long to wait; none for never.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) fn wait(self) -> Option<Duration> {
        match self {
            Self::After(wait) => Some(wait),
            Self::Never => None,
        }
    }

    /// Both, and the stricter of them.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        match (Self::of_grpc(headers), Self::of_http(headers)) {
            (Some(Self::Never), _) | (_, Some(Self::Never)) => Some(Self::Never),
            (Some(Self::After(one)), Some(Self::After(other))) => Some(Self::After(one.max(other))),
            (one, other) => one.or(other),
        }
    }
}

pub(crate) const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A number of digits alone; what is too large for a number is as large as can be.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(text.iter().fold(0, add))
}

fn date(text: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn after(seconds: u64) -> Option<Hint> {
        Some(Hint::After(Duration::from_secs(seconds)))
    }

    #[test]
    fn seconds_are_read_and_what_is_neither_seconds_nor_a_date_is_left_out() {
        assert_eq!(Hint::of_http(&headers(&[("retry-after", "120")])), after(120));
        assert_eq!(Hint::of_http(&headers(&[("retry-after", "0")])), after(0));
        assert_eq!(Hint::of_http(&headers(&[("retry-after", "99999999999999999999999")])), after(u64::MAX));
        for value in ["", "-1", "1.5", "soon", "1 2", "+3"] {
            assert_eq!(Hint::of_http(&headers(&[("retry-after", value)])), None, "{value:?}");
        }
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer_and_not_from_our_clock() {
        let hint =
            |until: &str| Hint::of_http(&headers(&[("date", "Fri, 01 Jan 2100 00:00:00 GMT"), ("retry-after", until)]));
        assert_eq!(hint("Fri, 01 Jan 2100 00:00:07 GMT"), after(7));
        assert_eq!(hint("Thu, 31 Dec 2099 23:59:59 GMT"), after(0));
        // Without a date our own clock decides: 1994 has passed.
        assert_eq!(Hint::of_http(&headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")])), after(0));
    }

    #[test]
    fn a_pushback_that_is_negative_or_malformed_means_never() {
        let hint = |value| Hint::of_grpc(&headers(&[(PUSHBACK, value)]));
        assert_eq!(hint("250"), Some(Hint::After(Duration::from_millis(250))));
        assert_eq!(hint("-1"), Some(Hint::Never));
        assert_eq!(hint("later"), Some(Hint::Never));
        assert_eq!(Hint::of_grpc(&HeaderMap::new()), None);
    }

    #[test]
    fn of_two_hints_the_stricter_holds() {
        assert_eq!(
            Hint::of(&headers(&[(PUSHBACK, "1500"), ("retry-after", "1")])),
            Some(Hint::After(Duration::from_millis(1500)))
        );
        assert_eq!(Hint::of(&headers(&[(PUSHBACK, "-1"), ("retry-after", "1")])), Some(Hint::Never));
        assert_eq!(Hint::of(&headers(&[("retry-after", "1")])), after(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(after: Vec<u8>, date: Vec<u8>, pushback: Vec<u8>) {
            let mut headers = HeaderMap::new();
            for (name, value) in [("retry-after", after), ("date", date), (PUSHBACK, pushback)] {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.insert(name, value);
                }
            }
            let _ = Hint::of(&headers);
        }

        #[test]
        fn every_number_of_seconds_is_that_many(seconds: u64) {
            prop_assert_eq!(Hint::of_http(&headers(&[("retry-after", &seconds.to_string())])), after(seconds));
        }

        #[test]
        fn every_date_within_a_century_is_as_far_away_as_it_is(now in 0..3_000_000_000_u64, later in 0..100_000_000_u64) {
            let at = |seconds| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            let headers = headers(&[("date", &at(now)), ("retry-after", &at(now + later))]);
            prop_assert_eq!(Hint::of_http(&headers), after(later));
        }
    }
}
