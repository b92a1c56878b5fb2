//! What servers and callers say about time and attempts, as a client and a server meet it: any bytes.
#![no_main]

use std::time::Duration;

use buttress::retry::{DoNotRetry, Hint, Inbound};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");

/// Each line is the value of one of these.
const NAMES: [&str; 8] = [
    "retry-after",
    "date",
    "grpc-retry-pushback-ms",
    "grpc-timeout",
    "x-deadline-ms",
    "retry-attempt",
    "grpc-previous-rpc-attempts",
    "do-not-retry",
];

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for (name, value) in NAMES.into_iter().zip(input.split(|byte| *byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let (http, grpc, both) = (Hint::of_http(&headers), Hint::of_grpc(&headers), Hint::of(&headers));
    assert_eq!(both.is_some(), http.is_some() || grpc.is_some());
    for hint in [http, grpc].into_iter().flatten() {
        match (hint, both) {
            (Hint::After(one), Some(Hint::After(both))) => assert!(one <= both),
            (_, stricter) => assert_eq!(stricter, Some(Hint::Never)),
        }
    }
    assert!(Inbound::of(&headers, Some(&DEADLINE)).attempt >= 1);
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let _ = Inbound::of(&headers, None);
    assert_eq!(DoNotRetry::of(&headers, &Extensions::new()).is_some(), headers.contains_key("do-not-retry"));

    // Whatever number of seconds it is, it is read as that.
    if let Some(seconds) = input.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from(seconds))]);
        assert_eq!(Hint::of_http(&headers), Some(Hint::After(Duration::from_secs(seconds))));
    }
});
