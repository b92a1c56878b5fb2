//! `traceparent` (W3C Trace Context level 2, section 3.2): rows P1, P2, P3 and P8.

use buttress::context::{SpanId, TraceContext, TraceFlags, TraceId, TraceparentError};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const TRACE_ID: &str = "0123456789abcdeffedcba9876543210";
const SPAN_ID: &str = "89abcdef01234567";

fn parse(value: &str) -> Result<TraceContext, TraceparentError> {
    TraceContext::parse(value.as_bytes())
}

fn with_version(version: &str) -> String {
    format!("{version}-{TRACE_ID}-{SPAN_ID}-01")
}

fn with_trace_id(trace_id: &str) -> String {
    format!("00-{trace_id}-{SPAN_ID}-01")
}

fn with_span_id(span_id: &str) -> String {
    format!("00-{TRACE_ID}-{span_id}-01")
}

fn with_flags(flags: &str) -> String {
    format!("00-{TRACE_ID}-{SPAN_ID}-{flags}")
}

fn headers<const N: usize>(pairs: [(&'static str, String); N]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, HeaderValue::from_str(&value).expect("the test gives a header value"));
    }
    headers
}

/// Each text that differs from `good` by `bad` standing in one place.
fn spoilt(good: &str, bad: char) -> impl Iterator<Item = String> {
    let good: Vec<char> = good.chars().collect();
    (0..good.len()).map(move |at| {
        let mut text = good.clone();
        text[at] = bad;
        String::from_iter(text)
    })
}

#[test]
fn a_well_formed_value_gives_its_three_fields() {
    let context = parse(&with_flags("01")).unwrap();
    assert_eq!(context.trace_id.to_string(), TRACE_ID);
    assert_eq!(context.span_id.to_string(), SPAN_ID);
    assert_eq!(context.flags, TraceFlags::SAMPLED);
}

// Headers

#[test]
fn a_request_without_the_header_has_no_trace_context() {
    assert_eq!(TraceContext::from_headers(&HeaderMap::new()), Ok(None));
}

#[test]
fn one_header_is_read() {
    let context = TraceContext::from_headers(&headers([("traceparent", with_flags("01"))])).unwrap().unwrap();
    assert_eq!(context.span_id.to_string(), SPAN_ID);
}

#[test]
fn names_that_only_look_alike_are_not_read() {
    let lookalikes = headers([("trace-parent", with_flags("01")), ("trace.parent", with_flags("01"))]);
    assert_eq!(TraceContext::from_headers(&lookalikes), Ok(None));
}

#[test]
fn the_case_of_the_header_name_does_not_matter() {
    let name = HeaderName::from_bytes(b"TrAcEpArEnT").unwrap();
    let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(&with_flags("01")).unwrap())]);
    assert!(TraceContext::from_headers(&headers).unwrap().is_some());
}

#[test]
fn two_different_headers_are_refused() {
    let twice = headers([("traceparent", with_flags("01")), ("traceparent", with_span_id("fedcba9876543210"))]);
    assert_eq!(TraceContext::from_headers(&twice), Err(TraceparentError::Repeated));
}

#[test]
fn two_equal_headers_are_refused() {
    let twice = headers([("traceparent", with_flags("01")), ("traceparent", with_flags("01"))]);
    assert_eq!(TraceContext::from_headers(&twice), Err(TraceparentError::Repeated));
}

#[test]
fn two_values_in_one_header_are_refused() {
    let twice = format!("{},{}", with_flags("01"), with_flags("01"));
    assert_eq!(parse(&twice), Err(TraceparentError::Length));
}

#[test]
fn an_empty_header_is_refused() {
    let empty = headers([("traceparent", String::new())]);
    assert_eq!(TraceContext::from_headers(&empty), Err(TraceparentError::Length));
}

// Version

#[test]
fn version_00_may_not_go_on_after_the_flags() {
    for tail in ["-", "-later-fields", ".", "0"] {
        assert_eq!(parse(&format!("{}{tail}", with_flags("01"))), Err(TraceparentError::Length), "{tail}");
    }
}

#[test]
fn a_higher_version_is_read_as_the_first_55_characters() {
    for higher in ["01", "cc", "fe"] {
        assert_eq!(parse(&with_version(higher)), parse(&with_version("00")), "{higher}");
    }
}

#[test]
fn a_higher_version_may_go_on_after_a_dash() {
    for tail in ["-", "-later-fields", "-\u{e9}", "-=,;"] {
        assert_eq!(parse(&format!("{}{tail}", with_version("cc"))), parse(&with_version("00")), "{tail}");
    }
}

#[test]
fn a_higher_version_may_not_go_on_without_a_dash() {
    for tail in [".later-fields", "0", "00", ",", " -later-fields"] {
        assert_eq!(parse(&format!("{}{tail}", with_version("cc"))), Err(TraceparentError::Length), "{tail}");
    }
}

#[test]
fn a_higher_version_is_held_to_the_rules_of_the_fields() {
    let zero = "0".repeat(32);
    assert_eq!(parse(&format!("cc-{zero}-{SPAN_ID}-01")), Err(TraceparentError::TraceId));
    assert_eq!(parse(&format!("cc-{TRACE_ID}-{}-01", &zero[16..])), Err(TraceparentError::SpanId));
    assert_eq!(parse(&format!("cc-{TRACE_ID}-{SPAN_ID}-0x")), Err(TraceparentError::Flags));
    assert_eq!(parse(&format!("cc-{TRACE_ID}-{SPAN_ID}")), Err(TraceparentError::Length));
}

#[test]
fn version_ff_is_refused() {
    assert_eq!(parse(&with_version("ff")), Err(TraceparentError::Version));
    assert_eq!(parse(&format!("{}-later-fields", with_version("ff"))), Err(TraceparentError::Version));
}

#[test]
fn a_version_of_other_characters_is_refused() {
    for bad in [".0", "0.", "+0", "-0", "0x", "0g", "CC", "cC", "  ", "\u{e9}"] {
        assert!(parse(&with_version(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_long_version_is_refused() {
    for bad in ["000", "0000", "ccc"] {
        assert!(parse(&with_version(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_short_version_is_refused() {
    assert!(parse(&with_version("0")).is_err());
    assert!(parse(&with_version("")).is_err());
}

// Trace id

#[test]
fn a_trace_id_of_zeros_is_refused() {
    assert_eq!(parse(&with_trace_id(&"0".repeat(32))), Err(TraceparentError::TraceId));
}

#[test]
fn a_trace_id_of_other_characters_is_refused() {
    for bad in ['.', '+', '-', 'g', 'A', ' ', '_'] {
        for id in spoilt(TRACE_ID, bad) {
            assert_eq!(parse(&with_trace_id(&id)), Err(TraceparentError::TraceId), "{id}");
        }
    }
}

#[test]
fn a_trace_id_in_upper_case_is_refused() {
    assert_eq!(parse(&with_trace_id(&TRACE_ID.to_uppercase())), Err(TraceparentError::TraceId));
}

#[test]
fn a_long_trace_id_is_refused() {
    assert!(parse(&with_trace_id(&format!("{TRACE_ID}0"))).is_err());
}

#[test]
fn a_short_trace_id_is_refused() {
    assert!(parse(&with_trace_id(&TRACE_ID[1..])).is_err());
    assert!(parse(&with_trace_id("")).is_err());
}

#[test]
fn a_short_trace_id_is_not_made_up_for_by_a_long_span_id() {
    assert!(parse(&format!("00-{}-{SPAN_ID}0-01", &TRACE_ID[1..])).is_err());
}

// Span id

#[test]
fn a_span_id_of_zeros_is_refused() {
    assert_eq!(parse(&with_span_id(&"0".repeat(16))), Err(TraceparentError::SpanId));
}

#[test]
fn a_span_id_of_other_characters_is_refused() {
    for bad in ['.', '+', '-', 'g', 'A', ' ', '_'] {
        for id in spoilt(SPAN_ID, bad) {
            assert_eq!(parse(&with_span_id(&id)), Err(TraceparentError::SpanId), "{id}");
        }
    }
}

#[test]
fn a_long_span_id_is_refused() {
    assert!(parse(&with_span_id(&format!("{SPAN_ID}0"))).is_err());
}

#[test]
fn a_short_span_id_is_refused() {
    assert!(parse(&with_span_id(&SPAN_ID[1..])).is_err());
    assert!(parse(&with_span_id("")).is_err());
}

// Flags

#[test]
fn flags_of_other_characters_are_refused() {
    for bad in [".0", "0.", "+1", "0x", "0G", "0A", " 1", "--"] {
        assert_eq!(parse(&with_flags(bad)), Err(TraceparentError::Flags), "{bad}");
    }
}

#[test]
fn long_flags_are_refused() {
    assert_eq!(parse(&with_flags("001")), Err(TraceparentError::Length));
}

#[test]
fn short_flags_are_refused() {
    assert_eq!(parse(&with_flags("1")), Err(TraceparentError::Length));
    assert_eq!(parse(&with_flags("")), Err(TraceparentError::Length));
}

#[test]
fn sampled_and_random_are_carried() {
    for known in ["00", "01", "02", "03"] {
        assert_eq!(parse(&with_flags(known)).unwrap().encode(), with_flags(known).as_bytes());
    }
}

#[test]
fn flags_that_level_2_does_not_name_are_sent_as_zero() {
    for (came, sent) in [("ff", "03"), ("fc", "00"), ("09", "01"), ("82", "02")] {
        assert_eq!(parse(&with_flags(came)).unwrap().encode(), with_flags(sent).as_bytes());
    }
}

#[test]
fn a_sampling_decision_leaves_the_random_flag_alone() {
    let random = TraceFlags::RANDOM;
    assert_eq!(random.with_sampled(true).to_byte(), 0b11);
    assert_eq!(random.with_sampled(true).with_sampled(false), random);
    assert!(!TraceFlags::NONE.with_sampled(true).is_random());
}

// Separators and white space

#[test]
fn each_separator_must_be_a_dash() {
    for at in [2, 35, 52] {
        for other in ["_", ".", " ", "0"] {
            let mut value = with_flags("01");
            value.replace_range(at..=at, other);
            assert_eq!(parse(&value), Err(TraceparentError::Separator), "{value}");
        }
    }
}

#[test]
fn spaces_and_tabs_around_the_value_are_ignored() {
    let value = with_flags("01");
    for around in [format!(" {value}"), format!("\t{value}"), format!("{value} "), format!(" \t{value}\t ")] {
        assert_eq!(parse(&around), parse(&value), "{around:?}");
    }
}

#[test]
fn line_breaks_around_the_value_are_refused() {
    let value = with_flags("01");
    for around in [format!("\n{value}"), format!("{value}\r\n"), format!("{value}\u{c}"), format!("{value}\0")] {
        assert!(parse(&around).is_err(), "{around:?}");
    }
}

#[test]
fn white_space_between_the_fields_is_refused() {
    assert!(parse(&format!("00- {TRACE_ID}-{SPAN_ID}-01")).is_err());
    assert!(parse(&format!("00 -{TRACE_ID}-{SPAN_ID}-01")).is_err());
}

// Sending

#[test]
fn what_is_sent_is_version_00() {
    assert_eq!(parse(&with_version("cc")).unwrap().encode(), with_version("00").as_bytes());
}

#[test]
fn the_header_holds_what_encode_says() {
    let context = parse(&with_flags("03")).unwrap();
    assert_eq!(context.to_header(), with_flags("03"));
}

#[test]
fn a_new_root_has_the_random_flag_and_is_not_sampled() {
    assert_eq!(TraceContext::random().flags, TraceFlags::RANDOM);
}

#[test]
fn two_new_roots_share_no_id() {
    let (one, other) = (TraceContext::random(), TraceContext::random());
    assert_ne!(one.trace_id, other.trace_id);
    assert_ne!(one.span_id, other.span_id);
}

#[test]
fn every_bit_of_a_random_id_is_drawn() {
    let (mut ones, mut zeros) = (0, 0);
    for _ in 0..1000 {
        let id = u128::from_be_bytes(TraceId::random().to_bytes());
        ones |= id;
        zeros |= !id;
    }
    assert_eq!((ones, zeros), (u128::MAX, u128::MAX));
}

#[test]
fn the_random_part_is_the_last_seven_bytes() {
    let id: TraceId = TRACE_ID.parse().unwrap();
    assert_eq!(format!("{:014x}", id.random_part()), TRACE_ID[18..]);
}

#[test]
fn ids_of_zeros_cannot_be_made() {
    assert_eq!(TraceId::from_bytes([0; 16]), None);
    assert_eq!(SpanId::from_bytes([0; 8]), None);
}

#[test]
fn an_error_says_which_part_was_wrong() {
    assert!(parse(&with_version("ff")).unwrap_err().to_string().contains("version"));
    assert!(parse(&with_span_id(&"0".repeat(16))).unwrap_err().to_string().contains("parent id"));
}

// By property

/// The rules once more, over the fields as text.
fn reference(value: &[u8]) -> Option<(String, String, u32)> {
    let text = String::from_utf8_lossy(value);
    let fields: Vec<&str> = text.trim_matches([' ', '\t']).split('-').collect();
    let [version, trace_id, span_id, flags, later @ ..] = fields.as_slice() else {
        return None;
    };
    let is_hex = |field: &str, length: usize| {
        field.chars().count() == length && field.chars().all(|c| "0123456789abcdef".contains(c))
    };
    let is_zero = |field: &str| field.chars().all(|c| c == '0');
    let allowed = is_hex(version, 2)
        && *version != "ff"
        && (*version != "00" || later.is_empty())
        && is_hex(trace_id, 32)
        && !is_zero(trace_id)
        && is_hex(span_id, 16)
        && !is_zero(span_id)
        && is_hex(flags, 2);
    allowed.then(|| {
        let last = flags.chars().last().and_then(|c| c.to_digit(16)).expect("a hex digit");
        (trace_id.to_string(), span_id.to_string(), last % 4)
    })
}

fn agrees_with_the_reference(value: &[u8]) -> Result<(), TestCaseError> {
    let parsed = TraceContext::parse(value).ok();
    let seen = parsed.map(|c| (c.trace_id.to_string(), c.span_id.to_string(), u32::from(c.flags.to_byte())));
    prop_assert_eq!(seen, reference(value));
    if let Some(context) = parsed {
        prop_assert_eq!(TraceContext::parse(&context.encode()), Ok(context));
        prop_assert_eq!(TraceContext::parse(context.to_header().as_bytes()), Ok(context));
    }
    Ok(())
}

/// Values that are right but for a field or two, so that both sides meet every rule.
fn almost_a_traceparent() -> impl Strategy<Value = String> {
    let version = prop_oneof![4 => "00", 4 => "[0-9a-f]{2}", 1 => "ff", 1 => ".{0,3}"];
    let trace_id = prop_oneof![8 => "[0-9a-f]{32}", 1 => "0{32}", 1 => "[0-9a-g]{31,33}", 1 => "[0-9A-F+]{32}"];
    let span_id = prop_oneof![8 => "[0-9a-f]{16}", 1 => "0{16}", 1 => "[0-9a-g]{15,17}", 1 => "[0-9A-F+]{16}"];
    let flags = prop_oneof![8 => "[0-9a-f]{2}", 1 => "[0-9a-f]{1,3}", 1 => "[0-9A-Z+]{2}"];
    let tail = prop_oneof![4 => "", 4 => "-[ -~]{0,9}", 1 => "[ -~]{1,3}"];
    ("[ \t]{0,2}", version, trace_id, span_id, flags, tail, "[ \t]{0,2}").prop_map(
        |(before, version, trace_id, span_id, flags, tail, after)| {
            format!("{before}{version}-{trace_id}-{span_id}-{flags}{tail}{after}")
        },
    )
}

proptest! {
    #[test]
    fn agrees_with_the_reference_on_any_bytes(value in prop::collection::vec(any::<u8>(), 0..80)) {
        agrees_with_the_reference(&value)?;
    }

    #[test]
    fn agrees_with_the_reference_on_values_that_are_almost_right(value in almost_a_traceparent()) {
        agrees_with_the_reference(value.as_bytes())?;
    }

    #[test]
    fn agrees_with_the_reference_when_one_byte_is_changed(at in 0_usize..55, byte in any::<u8>()) {
        let mut value = with_flags("01").into_bytes();
        value[at] = byte;
        agrees_with_the_reference(&value)?;
    }

    #[test]
    fn every_context_comes_back_from_its_header(trace_id in 1_u128.., span_id in 1_u64.., flags in 0_u8..4) {
        let context = TraceContext {
            trace_id: TraceId::from_bytes(trace_id.to_be_bytes()).expect("not zero"),
            span_id: SpanId::from_bytes(span_id.to_be_bytes()).expect("not zero"),
            flags: TraceFlags::from_byte(flags),
        };
        let text = format!("00-{trace_id:032x}-{span_id:016x}-{flags:02x}");
        prop_assert_eq!(&context.encode()[..], text.as_bytes());
        prop_assert_eq!(TraceContext::parse(text.as_bytes()), Ok(context));
    }
}
