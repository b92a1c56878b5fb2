use std::time::Duration;

use buttress_queue::webhook::{Endpoint, EndpointError, Secret, SecretError, VerifyError, sign, verify};
use http::HeaderMap;
use proptest::prelude::*;

use crate::support::id;
use crate::world::{OTHER, SECRET, headers, secret, unix_seconds};

#[test]
fn the_library_of_the_specification_believes_us_and_we_believe_it() {
    let (payload, now) = (br#"{"type":"order.created"}"#, unix_seconds());
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    let ours = headers("msg_1", &now.to_string(), &sign(&[secret(SECRET)], &id("msg_1"), now, payload));
    theirs.verify(payload, &ours).unwrap();
    let signature = theirs.sign("msg_2", now as i64, payload).unwrap();
    let theirs = headers("msg_2", &now.to_string(), &signature);
    let verified = verify(&[secret(SECRET)], &theirs, payload, now, Duration::from_secs(300)).unwrap();
    assert_eq!((verified.id, verified.timestamp), (id("msg_2"), now));
}

#[test]
fn while_a_secret_is_changed_both_are_good() {
    let (old, new) = (secret(SECRET), secret(OTHER));
    let both = headers("msg_1", "1000", &sign(&[old.clone(), new.clone()], &id("msg_1"), 1000, b"{}"));
    for known in [vec![old.clone()], vec![new.clone()], vec![new, old]] {
        verify(&known, &both, b"{}", 1000, Duration::ZERO).unwrap();
    }
}

#[test]
fn what_is_missing_malformed_old_or_changed_is_not_believed() {
    let known = [secret(SECRET)];
    let good = sign(&known, &id("msg_1"), 1000, b"{}");
    let check = |headers: HeaderMap, payload: &[u8], now| {
        verify(&known, &headers, payload, now, Duration::from_secs(300)).unwrap_err()
    };
    assert_eq!(check(HeaderMap::new(), b"{}", 1000), VerifyError::Missing("webhook-id"));
    assert_eq!(check(headers("msg_1", "+1000", &good), b"{}", 1000), VerifyError::Malformed("webhook-timestamp"));
    assert_eq!(check(headers("msg_1", "1000", &good), b"{}", 1301), VerifyError::Stale { timestamp: 1000 });
    assert_eq!(check(headers("msg_1", "1000", &good), b"{}", 699), VerifyError::Stale { timestamp: 1000 });
    assert_eq!(check(headers("msg_1", "1000", &good), b"{ }", 1000), VerifyError::Signature);
    assert_eq!(check(headers("msg_2", "1000", &good), b"{}", 1000), VerifyError::Signature);
    assert_eq!(check(headers("msg_1", "1001", &good), b"{}", 1000), VerifyError::Signature);
    assert_eq!(check(headers("msg_1", "1000", "v1,AAAA v2,x v1a,y"), b"{}", 1000), VerifyError::Signature);
    let other = sign(&[secret(OTHER)], &id("msg_1"), 1000, b"{}");
    assert_eq!(check(headers("msg_1", "1000", &other), b"{}", 1000), VerifyError::Signature);
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(id in "\\PC{0,40}", time in "\\PC{0,24}", signature in "\\PC{0,80}", payload: Vec<u8>) {
        let mut headers = HeaderMap::new();
        for (name, value) in [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        prop_assert!(verify(&[secret(SECRET)], &headers, &payload, 1000, Duration::MAX).is_err());
    }
}

#[test]
fn a_secret_is_as_the_specification_says_and_is_not_told() {
    assert_eq!(Secret::parse("MfKQ").unwrap_err(), SecretError::Prefix);
    assert_eq!(Secret::parse("whsec_%").unwrap_err(), SecretError::Base64);
    assert_eq!(Secret::parse("whsec_MfKQ").unwrap_err(), SecretError::Length(3));
    assert_eq!(format!("{:?}", secret(SECRET)), "Secret(..)");
}

#[test]
fn a_destination_has_an_absolute_url_without_a_user() {
    let new = |url: &str| Endpoint::new(url.parse().unwrap(), secret(SECRET)).err();
    assert_eq!(new("/in"), Some(EndpointError::Relative));
    assert_eq!(new("ftp://example.com/in"), Some(EndpointError::Scheme));
    assert_eq!(new("https://bob:pw@example.com/in"), Some(EndpointError::Userinfo));
    assert_eq!(new("https://example.com/in"), None);
}
