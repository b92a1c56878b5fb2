//! Looking up headers where there are few: walking past some names costs less than hashing one.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Among more headers a look-up by hash costs less.
const FEW: usize = 8;

/// The first value of this header. Always inlined, since a name that is known is compared by its number, and not by its text.
#[inline(always)]
pub(crate) fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    if headers.len() > FEW {
        return headers.get(name);
    }
    for (known, value) in headers {
        if known == name {
            return Some(value);
        }
    }
    None
}

/// The first value of this header, and whether there is another.
#[inline]
pub(crate) fn first_two<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> (Option<&'a HeaderValue>, Option<&'a HeaderValue>) {
    if headers.len() > FEW {
        let mut values = headers.get_all(name).iter();
        return (values.next(), values.next());
    }
    let mut first = None;
    for (known, value) in headers {
        if known == name {
            if first.is_some() {
                return (first, Some(value));
            }
            first = Some(value);
        }
    }
    (first, None)
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HOST};

    use super::*;

    #[test]
    fn the_same_is_found_among_few_headers_and_among_many() {
        let value = |nth: usize| HeaderValue::from(nth);
        for others in [0, 2, FEW, 2 * FEW] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, value(1));
            for nth in 0..others {
                headers.insert(HeaderName::try_from(format!("x-{nth}")).unwrap(), value(0));
            }
            assert_eq!(first(&headers, &HOST), Some(&value(1)));
            assert_eq!(first_two(&headers, &HOST), (Some(&value(1)), None));
            assert_eq!(first_two(&headers, &ACCEPT), (None, None));
            headers.append(HOST, value(2));
            assert_eq!(first(&headers, &HOST), Some(&value(1)));
            assert_eq!(first_two(&headers, &HOST), (Some(&value(1)), Some(&value(2))));
        }
    }
}
