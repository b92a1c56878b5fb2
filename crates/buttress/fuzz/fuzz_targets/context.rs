//! The three parsers of the context, as a server meets them: any bytes, over one header or several.
#![no_main]

use buttress::context::{Baggage, TraceContext, TraceState};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // A line break cannot stand in a header: it separates one from the next. The whole is given to the parsers too,
    // since they also read what did not come over HTTP.
    check(&[input]);
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    if lines.len() > 1 {
        check(&lines);
    }
});

fn check(values: &[&[u8]]) {
    traceparent(values);
    tracestate(values);
    baggage(values);
}

fn headers(name: &'static str, values: &[&[u8]]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?);
    }
    Some(headers)
}

fn traceparent(values: &[&[u8]]) {
    for value in values {
        let Ok(context) = TraceContext::parse(value) else { continue };
        let sent = context.encode();
        assert_eq!(TraceContext::parse(&sent), Ok(context));
        let text = value.trim_ascii();
        assert_eq!(text[2..53], sent[2..53]);
        assert!(text.starts_with(b"00") <= (text.len() == sent.len()));
    }
    let Some(headers) = headers("traceparent", values) else { return };
    match (TraceContext::from_headers(&headers), values) {
        (seen, [value]) => assert_eq!(seen, TraceContext::parse(value).map(Some)),
        (seen, []) => assert_eq!(seen, Ok(None)),
        (seen, _) => assert!(seen.is_err()),
    }
}

fn tracestate(values: &[&[u8]]) {
    let parsed = TraceState::parse(values.iter().copied());
    if let Some(headers) = headers("tracestate", values) {
        assert_eq!(TraceState::from_headers(&headers), parsed);
    }
    let Ok(mut state) = parsed else { return };
    check_state(&state);
    state.insert("ours", "1").expect("a valid member");
    assert_eq!(state.iter().next(), Some(("ours", "1")));
    check_state(&state);
    state.remove("ours");
    assert_eq!(state.get("ours"), None);
    check_state(&state);
}

fn check_state(state: &TraceState) {
    let sent = state.as_str();
    let members: Vec<(&str, &str)> = state.iter().collect();
    assert!(sent.len() <= TraceState::MAX_LENGTH && members.len() <= TraceState::MAX_MEMBERS);
    for (at, (key, value)) in members.iter().enumerate() {
        assert!((1..=256).contains(&key.len()) && (1..=256).contains(&value.len()));
        assert!(!value.ends_with(' ') && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(members[..at].iter().all(|(older, _)| older != key));
    }
    assert_eq!(TraceState::parse([sent.as_bytes()]).as_ref(), Ok(state));
    assert_eq!(state.header().is_none(), sent.is_empty());
    if let Some(header) = state.header() {
        passes_as_it_is("tracestate", header, |headers| TraceState::from_headers(headers).ok()?.header().cloned());
    }
}

fn baggage(values: &[&[u8]]) {
    let mut baggage = Baggage::parse(values.iter().copied());
    check_baggage(&baggage);
    if let Some(headers) = headers("baggage", values) {
        let from_headers = Baggage::from_headers(&headers);
        assert!(from_headers.iter().eq(baggage.iter()));
        check_baggage(&from_headers);
    }
    let before = baggage.clone();
    match baggage.insert("ours", "50% \"\u{e9}\",;\\") {
        Ok(()) => {
            assert_eq!(baggage.get("ours").as_deref(), Some("50% \"\u{e9}\",;\\"));
            assert_eq!(baggage.iter().filter(|member| member.key == "ours").count(), 1);
        }
        Err(_) => assert_eq!(baggage, before),
    }
    check_baggage(&baggage);
    baggage.remove("ours");
    assert_eq!(baggage.get("ours"), None);
    check_baggage(&baggage);
}

fn check_baggage(baggage: &Baggage) {
    let sent = baggage.as_str();
    assert!(sent.len() <= Baggage::MAX_LENGTH && baggage.iter().count() <= Baggage::MAX_MEMBERS);
    for member in baggage.iter() {
        assert!(!member.key.is_empty() && !member.key.contains([' ', '\t', ';', '"']));
        assert!(member.raw_value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)));
        let _ = member.value();
    }
    assert!(Baggage::parse([sent.as_bytes()]).iter().eq(baggage.iter()));
    assert_eq!(baggage.header().is_none(), sent.is_empty());
    if let Some(header) = baggage.header() {
        passes_as_it_is("baggage", header, |headers| Baggage::from_headers(headers).header().cloned());
    }
}

/// What we send once is clean: the next hop sends the identical bytes.
fn passes_as_it_is(name: &'static str, sent: &HeaderValue, read: impl Fn(&HeaderMap) -> Option<HeaderValue>) {
    let headers = HeaderMap::from_iter([(HeaderName::from_static(name), sent.clone())]);
    assert_eq!(read(&headers).as_ref(), Some(sent));
}
