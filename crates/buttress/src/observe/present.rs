//! Which headers a request has, found in one pass: most look-ups are for headers that are not there.

use http::HeaderMap;

/// A set of names of headers that may hold too many, and never too few.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present(u64);

/// Looking at more headers would cost as much as looking some up.
const MOST: usize = 16;

impl Present {
    /// Any header may be there.
    pub(crate) const UNKNOWN: Self = Self(u64::MAX);

    /// Those that a request has.
    #[inline]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if headers.len() > MOST {
            return Self::UNKNOWN;
        }
        Self(headers.keys().fold(0, |present, name| present | bit(name.as_str())))
    }

    /// These, in lower case.
    pub(crate) const fn names(mut names: &[&str]) -> Self {
        let mut bits = 0;
        while let [name, rest @ ..] = names {
            bits |= bit(name);
            names = rest;
        }
        Self(bits)
    }

    /// Whether one of these may be there; false only when none is.
    #[inline]
    pub(crate) const fn may_have(self, names: Self) -> bool {
        self.0 & names.0 != 0
    }
}

/// By length and last letter; with this factor no common header shares a bit with one that is asked for here.
#[inline]
const fn bit(name: &str) -> u64 {
    let last = match name.as_bytes() {
        [.., last] => *last as usize,
        [] => 0,
    };
    1 << ((name.len() + 37 * last) % 64)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};

    use super::*;

    #[test]
    fn what_is_there_may_be_there_and_what_is_not_is_not_mistaken_for_it() {
        let mut headers = HeaderMap::new();
        for name in [HOST, USER_AGENT, ACCEPT] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let asked = Present::names(&["content-type", "forwarded", "x-trace-id"]);
        let present = Present::of(&headers);
        assert!(["host", "user-agent", "accept"].iter().all(|name| present.may_have(Present::names(&[name]))));
        assert!(!present.may_have(asked));
        headers.append(CONTENT_TYPE, HeaderValue::from_static("x"));
        assert!(Present::of(&headers).may_have(asked));
    }

    #[test]
    fn anything_may_be_there_where_there_is_too_much_to_look_at() {
        let mut headers = HeaderMap::new();
        for _ in 0..=MOST {
            headers.append(HOST, HeaderValue::from_static("x"));
        }
        assert!(Present::of(&headers).may_have(Present::names(&["content-type"])));
    }
}
