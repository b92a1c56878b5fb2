//! `tracestate` (W3C Trace Context level 2, section 3.3): rows P3, P4, P6 and P8.

use std::collections::HashSet;

use buttress::context::{TraceContext, TraceState, TraceStateError};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

fn headers<T: AsRef<[u8]>>(values: impl IntoIterator<Item = T>) -> HeaderMap {
    let value = |value: T| HeaderValue::from_bytes(value.as_ref()).expect("the test gives a header value");
    values.into_iter().map(|text| (http::HeaderName::from_static("tracestate"), value(text))).collect()
}

fn read<const N: usize>(values: [&str; N]) -> Result<TraceState, TraceStateError> {
    TraceState::from_headers(&headers(values))
}

/// What is sent on after these headers came; panics where they are refused.
fn sent<const N: usize>(values: [&str; N]) -> String {
    read(values).expect("the test gives a valid state").as_str().to_owned()
}

fn members(count: usize) -> String {
    let members: Vec<String> = (0..count).map(|at| format!("k{at}=v{at}")).collect();
    members.join(",")
}

/// A member of this many characters.
fn member(key: &str, length: usize) -> String {
    format!("{key}={}", "v".repeat(length - key.len() - 1))
}

// Headers

#[test]
fn a_request_without_the_header_has_the_empty_state() {
    assert_eq!(read([]), Ok(TraceState::EMPTY));
}

#[test]
fn a_clean_header_is_sent_as_it_came() {
    assert_eq!(sent(["foo=1,bar=2"]), "foo=1,bar=2");
}

#[test]
fn names_that_only_look_alike_are_not_read() {
    let headers = HeaderMap::from_iter([
        (http::HeaderName::from_static("trace-state"), HeaderValue::from_static("foo=1")),
        (http::HeaderName::from_static("trace.state"), HeaderValue::from_static("foo=1")),
    ]);
    assert_eq!(TraceState::from_headers(&headers), Ok(TraceState::EMPTY));
}

#[test]
fn the_case_of_the_header_name_does_not_matter() {
    let name = http::HeaderName::from_bytes(b"TraceState").unwrap();
    let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("foo=1"))]);
    assert_eq!(TraceState::from_headers(&headers).unwrap().as_str(), "foo=1");
}

#[test]
fn several_headers_are_one_list_in_their_order() {
    assert_eq!(sent(["foo=1,bar=2", "rojo=1,congo=2", "baz=3"]), "foo=1,bar=2,rojo=1,congo=2,baz=3");
}

#[test]
fn an_empty_header_is_the_empty_state() {
    assert_eq!(read([""]), Ok(TraceState::EMPTY));
}

#[test]
fn an_empty_state_is_never_sent() {
    for nothing in ["", " ", "\t", ",", " , ,\t,"] {
        assert_eq!(read([nothing]).unwrap().header(), None, "{nothing:?}");
    }
    assert_eq!(read(["", ""]).unwrap().header(), None);
}

#[test]
fn empty_headers_between_others_are_passed_over() {
    assert_eq!(sent(["foo=1", ""]), "foo=1");
    assert_eq!(sent(["", "foo=1"]), "foo=1");
    assert_eq!(sent(["foo=1", "", "bar=2"]), "foo=1,bar=2");
}

#[test]
fn empty_members_are_passed_over() {
    assert_eq!(sent(["foo=1,"]), "foo=1");
    assert_eq!(sent([",foo=1"]), "foo=1");
    assert_eq!(sent(["foo=1,,,bar=2"]), "foo=1,bar=2");
    assert_eq!(sent(["foo=1, ,\t,bar=2"]), "foo=1,bar=2");
}

#[test]
fn spaces_and_tabs_around_members_are_dropped() {
    assert_eq!(sent(["foo=1 \t , \t bar=2, \t baz=3"]), "foo=1,bar=2,baz=3");
    assert_eq!(sent([" \tfoo=1", "bar=2\t "]), "foo=1,bar=2");
    assert_eq!(sent(["foo=1 "]), "foo=1");
    assert_eq!(sent(["\tfoo=1"]), "foo=1");
}

#[test]
fn line_breaks_are_no_white_space() {
    for bad in ["foo=1\n", "\nfoo=1", "foo=1\r\n,bar=2", "foo=1\u{c}"] {
        assert!(TraceState::parse([bad.as_bytes()]).is_err(), "{bad:?}");
    }
}

#[test]
fn a_bad_member_in_any_header_refuses_the_whole() {
    assert_eq!(read(["foo=1", "bar"]), Err(TraceStateError::Key));
    assert_eq!(read(["foo=1,Bar=2", "baz=3"]), Err(TraceStateError::Key));
    assert_eq!(read(["foo=1,bar="]), Err(TraceStateError::Value));
}

#[test]
fn a_bad_state_does_not_touch_the_traceparent() {
    let mut headers = headers(["foo@=1,Bar"]);
    headers.insert("traceparent", HeaderValue::from_static("00-0123456789abcdeffedcba9876543210-89abcdef01234567-01"));
    assert!(TraceState::from_headers(&headers).is_err());
    assert!(TraceContext::from_headers(&headers).unwrap().is_some());
}

// Repeated keys

#[test]
fn of_a_repeated_key_the_first_member_stays() {
    assert_eq!(sent(["foo=1,foo=2"]), "foo=1");
    assert_eq!(sent(["foo=1,bar=2,foo=1"]), "foo=1,bar=2");
    assert_eq!(sent(["foo=1", "bar=2,foo=3"]), "foo=1,bar=2");
}

#[test]
fn a_key_is_not_repeated_by_a_longer_one() {
    assert_eq!(sent(["foo=1,foo2=2,fo=3"]), "foo=1,foo2=2,fo=3");
}

#[test]
fn a_repeated_key_must_be_well_formed_too() {
    assert_eq!(read(["foo=1,foo="]), Err(TraceStateError::Value));
}

// Keys

#[test]
fn every_allowed_character_of_a_key_passes() {
    let all = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@=1";
    assert_eq!(sent([all]), all);
}

#[test]
fn every_other_character_in_a_key_is_refused() {
    for byte in 0..=u8::MAX {
        let allowed = byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
        let member = [b'k', byte, b'k', b'=', b'1'];
        assert_eq!(TraceState::parse([&member[..]]).is_ok(), allowed, "{byte}");
    }
}

#[test]
fn a_key_starts_with_a_letter_or_a_digit() {
    assert_eq!(sent(["a=1,0=2"]), "a=1,0=2");
    for bad in ["_k=1", "-k=1", "*k=1", "/k=1", "@k=1"] {
        assert_eq!(read([bad]), Err(TraceStateError::Key), "{bad}");
    }
}

#[test]
fn an_at_sign_may_stand_anywhere_but_in_front() {
    for good in ["tenant@vendor=1", "a@=1", "a@@b=1", "a@b@c=1", "0@0=1"] {
        assert_eq!(sent([good]), good);
    }
    assert_eq!(read(["@vendor=1"]), Err(TraceStateError::Key));
}

#[test]
fn white_space_before_the_equals_sign_is_refused() {
    assert_eq!(read(["foo =1"]), Err(TraceStateError::Key));
    assert_eq!(read(["foo\t=1"]), Err(TraceStateError::Key));
}

#[test]
fn upper_case_in_a_key_is_refused() {
    assert_eq!(read(["FOO=1"]), Err(TraceStateError::Key));
}

#[test]
fn a_member_without_a_key_is_refused() {
    assert_eq!(read(["=1"]), Err(TraceStateError::Key));
}

#[test]
fn a_member_without_an_equals_sign_is_refused() {
    assert_eq!(read(["foo"]), Err(TraceStateError::Key));
}

#[test]
fn a_key_has_at_most_256_characters() {
    let longest = format!("{}=1", "k".repeat(256));
    assert_eq!(sent([&longest]), longest);
    assert_eq!(read([&format!("{}=1", "k".repeat(257))]), Err(TraceStateError::Key));
}

#[test]
fn a_key_with_an_at_sign_has_no_limits_of_its_own() {
    let tenant = format!("{}@{}=1", "t".repeat(241), "v".repeat(14));
    assert_eq!(sent([&tenant]), tenant);
    let lopsided = format!("t@{}=1", "v".repeat(254));
    assert_eq!(sent([&lopsided]), lopsided);
    assert_eq!(read([&format!("{}@{}=1", "t".repeat(242), "v".repeat(14))]), Err(TraceStateError::Key));
}

// Values

#[test]
fn every_allowed_character_of_a_value_passes() {
    let value: String = (' '..='~').filter(|c| !",=".contains(*c)).collect();
    assert_eq!(sent([&format!("foo={value}")]), format!("foo={value}"));
}

#[test]
fn every_other_character_in_a_value_is_refused() {
    for byte in 0..=u8::MAX {
        let allowed = (b' '..=b'~').contains(&byte) && !b",=".contains(&byte);
        let member = [b'k', b'=', b'v', byte, b'v'];
        assert_eq!(TraceState::parse([&member[..]]).is_ok(), allowed, "{byte}");
    }
}

#[test]
fn an_equals_sign_in_a_value_is_refused() {
    assert_eq!(read(["foo=bar=baz"]), Err(TraceStateError::Value));
    assert_eq!(read(["foo=="]), Err(TraceStateError::Value));
}

#[test]
fn an_empty_value_is_refused() {
    assert_eq!(read(["foo="]), Err(TraceStateError::Value));
    assert_eq!(read(["foo=,bar=3"]), Err(TraceStateError::Value));
}

#[test]
fn a_value_of_spaces_is_empty() {
    assert_eq!(read(["foo=   "]), Err(TraceStateError::Value));
}

#[test]
fn spaces_in_front_of_a_value_belong_to_it() {
    let state = read(["foo=  1 2  ,bar=3"]).unwrap();
    assert_eq!(state.get("foo"), Some("  1 2"));
    assert_eq!(state.as_str(), "foo=  1 2,bar=3");
}

#[test]
fn a_tab_in_front_of_a_value_is_refused() {
    assert_eq!(read(["foo=\t1"]), Err(TraceStateError::Value));
}

#[test]
fn a_value_has_at_most_256_characters() {
    let longest = format!("foo={}", "v".repeat(256));
    assert_eq!(sent([&longest]), longest);
    assert_eq!(read([&format!("foo={}", "v".repeat(257))]), Err(TraceStateError::Value));
}

// Limits

#[test]
fn thirty_two_members_pass() {
    assert_eq!(sent([&members(32)]), members(32));
}

#[test]
fn thirty_three_members_are_refused() {
    assert_eq!(read([&members(33)]), Err(TraceStateError::Members));
}

#[test]
fn thirty_three_members_over_two_headers_are_refused() {
    assert_eq!(read([&members(32), "one-more=1"]), Err(TraceStateError::Members));
}

#[test]
fn empty_members_do_not_count() {
    assert_eq!(sent([&format!(",,{},,", members(32))]), members(32));
}

#[test]
fn at_least_512_characters_are_forwarded() {
    let state = format!("{},{}", member("a", 255), member("b", 256));
    assert_eq!(state.len(), 512);
    assert_eq!(sent([&state]), state);
}

#[test]
fn a_state_of_the_greatest_length_is_not_cut() {
    let state: Vec<String> = (0..8).map(|at| member(&format!("k{at}"), if at == 0 { 256 } else { 255 })).collect();
    let state = state.join(",");
    assert_eq!(state.len(), TraceState::MAX_LENGTH);
    assert_eq!(sent([&state]), state);
}

#[test]
fn members_over_128_characters_are_cut_first() {
    let short: Vec<String> = (0..16).map(|at| member(&format!("k{at:02}"), 120)).collect();
    let state = format!("{},{},{}", member("left", 129), short.join(","), member("right", 100));
    assert_eq!(sent([&state]), format!("{},{}", short.join(","), member("right", 100)));
}

#[test]
fn of_the_long_members_the_rightmost_is_cut_first() {
    let long: Vec<String> = (0..10).map(|at| member(&format!("k{at}"), 230)).collect();
    let state = format!("{},end=1", long.join(","));
    assert_eq!(sent([&state]), format!("{},end=1", long[..8].join(",")));
}

#[test]
fn a_member_of_128_characters_is_not_long() {
    let state: Vec<String> = (0..17).map(|at| member(&format!("k{at:02}"), 128)).collect();
    assert_eq!(sent([&state.join(",")]), state[..15].join(","));
}

#[test]
fn without_long_members_the_rightmost_is_cut() {
    let state: Vec<String> = (0..20).map(|at| member(&format!("k{at:02}"), 110)).collect();
    assert_eq!(sent([&state.join(",")]), state[..18].join(","));
}

// Changing a state

#[test]
fn a_new_member_stands_leftmost() {
    let mut state = read(["foo=1,bar=2"]).unwrap();
    state.insert("ours", "3").unwrap();
    assert_eq!(state.as_str(), "ours=3,foo=1,bar=2");
}

#[test]
fn a_changed_member_moves_to_the_left() {
    let mut state = read(["foo=1,bar=2"]).unwrap();
    state.insert("bar", "3").unwrap();
    assert_eq!(state.as_str(), "bar=3,foo=1");
}

#[test]
fn a_member_can_be_put_into_the_empty_state() {
    let mut state = TraceState::EMPTY;
    state.insert("ours", "1").unwrap();
    assert_eq!(state.header().unwrap(), "ours=1");
}

#[test]
fn a_new_member_of_a_full_state_pushes_the_rightmost_out() {
    let mut state = read([&members(32)]).unwrap();
    state.insert("ours", "1").unwrap();
    assert_eq!(state.as_str(), format!("ours=1,{}", members(31)));
}

#[test]
fn a_changed_member_of_a_full_state_pushes_nobody_out() {
    let mut state = read([&members(32)]).unwrap();
    state.insert("k31", "1").unwrap();
    assert_eq!(state.as_str(), format!("k31=1,{}", members(31)));
}

#[test]
fn a_new_member_is_not_cut_although_it_is_the_only_long_one() {
    let old: Vec<String> = (0..18).map(|at| member(&format!("k{at:02}"), 110)).collect();
    let mut state = read([&old.join(",")]).unwrap();
    let value = "v".repeat(200);
    state.insert("ours", &value).unwrap();
    assert_eq!(state.as_str(), format!("ours={value},{}", old[..16].join(",")));
}

#[test]
fn a_member_outside_the_grammar_leaves_the_state_as_it_was() {
    let mut state = read(["foo=1"]).unwrap();
    for (key, value) in [("", "1"), ("Bar", "1"), ("b=r", "1"), ("b,r", "1"), (" bar", "1"), ("bar ", "1")] {
        assert!(state.insert(key, value).is_err(), "{key}");
    }
    for value in ["", " ", "1 ", "1\t", "a=b", "a,b", "\u{e9}", "\n"] {
        assert_eq!(state.insert("bar", value), Err(TraceStateError::Value), "{value:?}");
    }
    assert_eq!(state.as_str(), "foo=1");
}

#[test]
fn a_removed_member_is_gone_and_the_others_keep_their_order() {
    let mut state = read(["foo=1,bar=2,baz=3"]).unwrap();
    state.remove("bar");
    assert_eq!(state.as_str(), "foo=1,baz=3");
    state.remove("unknown");
    assert_eq!(state.as_str(), "foo=1,baz=3");
}

#[test]
fn removing_the_last_member_leaves_no_header() {
    let mut state = read(["foo=1"]).unwrap();
    state.remove("foo");
    assert_eq!(state.header(), None);
}

// By property

/// The rules once more, over text: each byte one character, each member one `String`.
fn reference(values: &[Vec<u8>]) -> Option<String> {
    let values: Vec<String> = values.iter().map(|value| value.iter().map(|byte| char::from(*byte)).collect()).collect();
    let mut kept: Vec<String> = Vec::new();
    let mut keys = HashSet::new();
    for member in values.join(",").split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        let key_is_fine = key.chars().all(|c| "abcdefghijklmnopqrstuvwxyz0123456789_-*/@".contains(c))
            && !key.starts_with(['_', '-', '*', '/', '@'])
            && (1..=256).contains(&key.chars().count());
        let value_is_fine =
            value.chars().all(|c| (' '..='~').contains(&c) && c != '=') && (1..=256).contains(&value.chars().count());
        if !key_is_fine || !value_is_fine {
            return None;
        }
        if keys.insert(key.to_owned()) {
            kept.push(member.to_owned());
        }
    }
    if kept.len() > 32 {
        return None;
    }
    while kept.join(",").len() > 2048 {
        let long = (0..kept.len()).rev().find(|at| kept[*at].len() > 128);
        kept.remove(long.unwrap_or(kept.len() - 1));
    }
    Some(kept.join(","))
}

fn agrees_with_the_reference(values: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let parsed = TraceState::parse(values.iter().map(Vec::as_slice)).ok();
    prop_assert_eq!(parsed.as_ref().map(|state| state.as_str().to_owned()), reference(values));
    if let Some(state) = &parsed {
        keeps_the_limits(state)?;
    }
    // Not every byte can stand in a header.
    if values.iter().all(|value| HeaderValue::from_bytes(value).is_ok()) {
        prop_assert_eq!(TraceState::from_headers(&headers(values)).ok(), parsed);
    }
    Ok(())
}

fn keeps_the_limits(state: &TraceState) -> Result<(), TestCaseError> {
    let sent = state.as_str();
    prop_assert!(sent.len() <= TraceState::MAX_LENGTH);
    prop_assert!(state.iter().count() <= TraceState::MAX_MEMBERS);
    prop_assert_eq!(state.iter().map(|(key, _)| key).collect::<HashSet<_>>().len(), state.iter().count());
    prop_assert_eq!(state.header().is_none(), sent.is_empty());
    prop_assert_eq!(TraceState::parse([sent.as_bytes()]), Ok(state.clone()));
    Ok(())
}

fn good_member() -> impl Strategy<Value = String> {
    let value = prop_oneof![6 => "[ -+\\--<>-~]{0,12}[!-+\\--<>-~]", 2 => "v{100,140}", 1 => "v{240,256}"];
    ("[a-z0-9][a-z0-9_*/@-]{0,3}", value).prop_map(|(key, value)| format!("{key}={value}"))
}

fn some_member() -> impl Strategy<Value = String> {
    prop_oneof![30 => good_member(), 2 => "[ \t]{0,2}", 1 => "[a-z@=, \tA]{0,5}", 1 => "k=v{255,258}", 1 => "k{255,258}=v"]
}

/// Headers of members with white space around them.
fn headers_of(member: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let padded = ("[ \t]{0,1}", member, "[ \t]{0,1}").prop_map(|(before, member, after)| before + &member + &after);
    let header = prop::collection::vec(padded, 0..most).prop_map(|members| members.join(",").into_bytes());
    prop::collection::vec(header, 0..4)
}

proptest! {
    #[test]
    fn agrees_with_the_reference_on_any_bytes(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
    ) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn agrees_with_the_reference_on_the_characters_that_matter(
        values in prop::collection::vec("[ab@_=, \t\nA\u{7f}]{0,12}".prop_map(String::into_bytes), 0..4),
    ) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn agrees_with_the_reference_on_valid_members(values in headers_of(good_member(), 16)) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn agrees_with_the_reference_on_members_that_are_almost_right(values in headers_of(some_member(), 6)) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn a_clean_header_passes_as_the_identical_bytes(values in headers_of(good_member(), 12)) {
        let Some(clean) = reference(&values).filter(|clean| !clean.is_empty()) else { return Ok(()) };
        let came = headers([&clean]);
        let state = TraceState::from_headers(&came).expect("the reference took it");
        prop_assert_eq!(state.header(), came.get("tracestate"));
    }

    #[test]
    fn an_inserted_member_is_leftmost_and_the_limits_hold(
        values in headers_of(good_member(), 16), member in good_member(),
    ) {
        let Some(before) = reference(&values) else { return Ok(()) };
        let (key, value) = member.split_once('=').expect("a member");
        let mut state = TraceState::parse([before.as_bytes()]).expect("the reference took it");
        state.insert(key, value).expect("a good member");
        prop_assert_eq!(state.iter().next(), Some((key, value)));
        keeps_the_limits(&state)?;
        // The others are some of those from before, in their order.
        let mut old = before.split(',');
        for (key, value) in state.iter().skip(1) {
            let member = format!("{key}={value}");
            prop_assert!(old.any(|old| old == member));
        }
        state.remove(key);
        prop_assert_eq!(state.get(key), None);
    }

    #[test]
    fn inserting_anything_gives_a_valid_state_or_changes_nothing(key in ".{0,4}", value in ".{0,4}") {
        let mut state = TraceState::parse([b"foo=1".as_slice()]).expect("valid");
        match state.insert(&key, &value) {
            Ok(()) => prop_assert_eq!(state.get(&key), Some(&*value)),
            Err(_) => prop_assert_eq!(state.as_str(), "foo=1"),
        }
        keeps_the_limits(&state)?;
    }
}
