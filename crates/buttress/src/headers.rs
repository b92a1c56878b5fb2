//! Looking up headers where there are few: walking past some names costs less than hashing one.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Among more headers a look-up by hash costs less.
const FEW: usize = 8;

/// The first value of this header.
#[inline]
pub(crate) fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    match headers.len() <= FEW {
        true => walk(headers, name).next(),
        false => headers.get(name),
    }
}

/// The first value of this header, and whether there is another.
#[inline]
pub(crate) fn first_two<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> (Option<&'a HeaderValue>, Option<&'a HeaderValue>) {
    if headers.len() <= FEW {
        let mut values = walk(headers, name);
        return (values.next(), values.next());
    }
    let mut values = headers.get_all(name).iter();
    (values.next(), values.next())
}

#[inline]
fn walk<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
    // By their texts, whose lengths nearly always differ.
    let name = name.as_str();
    headers.iter().filter(move |(known, _)| known.as_str() == name).map(|(_, value)| value)
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
