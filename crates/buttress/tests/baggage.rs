//! `baggage` (W3C Baggage): rows P7 and P8.

use buttress::context::{Baggage, BaggageError};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

fn headers<T: AsRef<[u8]>>(values: impl IntoIterator<Item = T>) -> HeaderMap {
    let value = |value: T| HeaderValue::from_bytes(value.as_ref()).expect("the test gives a header value");
    values.into_iter().map(|text| (HeaderName::from_static("baggage"), value(text))).collect()
}

fn read<const N: usize>(values: [&str; N]) -> Baggage {
    Baggage::from_headers(&headers(values))
}

/// What is sent on after these headers came.
fn sent<const N: usize>(values: [&str; N]) -> String {
    read(values).as_str().to_owned()
}

fn members(count: usize) -> String {
    let members: Vec<String> = (0..count).map(|at| format!("k{at}=v{at}")).collect();
    members.join(",")
}

/// A member of this many bytes.
fn member(key: &str, length: usize) -> String {
    format!("{key}={}", "v".repeat(length - key.len() - 1))
}

// Headers

#[test]
fn a_request_without_the_header_has_the_empty_baggage() {
    assert_eq!(read([]), Baggage::EMPTY);
}

#[test]
fn a_clean_header_is_sent_as_it_came() {
    for clean in ["a=1", "a=1,b=2", "a=1;p=2;q,b=2", " a = 1 ; p = 2 ,\tb=2", "a=", "a=1,a=2"] {
        assert_eq!(sent([clean]), clean);
    }
}

#[test]
fn several_headers_are_one_list_in_their_order() {
    assert_eq!(sent(["b=2,a=1", "d=4", "c=3"]), "b=2,a=1,d=4,c=3");
}

#[test]
fn an_empty_baggage_is_never_sent() {
    for nothing in ["", " ", ",", " ,\t,", "no-equals-sign", "=1"] {
        assert_eq!(read([nothing]).header(), None, "{nothing:?}");
    }
}

#[test]
fn empty_members_are_dropped() {
    assert_eq!(sent(["a=1,,b=2,"]), "a=1,b=2");
    assert_eq!(sent(["a=1", "", "b=2"]), "a=1,b=2");
}

#[test]
fn white_space_around_key_and_value_belongs_to_neither() {
    let baggage = read([" \ta \t= \t1 \t; \tp \t"]);
    let member = baggage.iter().next().unwrap();
    assert_eq!((member.key, member.raw_value, member.properties), ("a", "1", "p"));
}

#[test]
fn a_line_break_makes_a_key_malformed() {
    for bad in ["a\n=1", "\ra=1", "a\u{c}=1"] {
        assert_eq!(Baggage::parse([bad.as_bytes()]), Baggage::EMPTY, "{bad:?}");
    }
}

#[test]
fn a_line_break_in_a_value_is_percent_encoded() {
    assert_eq!(Baggage::parse([b"a=1\n".as_slice()]).as_str(), "a=1%0A");
    assert_eq!(Baggage::parse([b"a=1;\rp".as_slice()]).as_str(), "a=1;%0Dp");
}

// Keys

#[test]
fn every_character_of_a_token_may_stand_in_a_key() {
    let key = "abcxyzABCXYZ0189!#$%&'*+-.^_`|~";
    assert_eq!(read([&format!("{key}=1")]).get(key).as_deref(), Some("1"));
}

#[test]
fn a_member_whose_key_is_no_token_is_dropped() {
    for bad in ["a b=1", "a(=1", "a/b=1", "\"a\"=1", "a@b=1", "caf\u{e9}=1", "a;b=1", "{a}=1", "=1"] {
        assert_eq!(sent([&format!("x=1,{bad},y=2")]), "x=1,y=2", "{bad}");
    }
}

#[test]
fn a_member_without_an_equals_sign_is_dropped() {
    assert_eq!(sent(["x=1,flag,y=2"]), "x=1,y=2");
}

#[test]
fn a_key_is_not_percent_decoded() {
    let baggage = read(["a%20b=1"]);
    assert_eq!(baggage.get("a%20b").as_deref(), Some("1"));
    assert_eq!(baggage.get("a b"), None);
}

#[test]
fn keys_differ_by_case() {
    let baggage = read(["Key=1,key=2"]);
    assert_eq!(baggage.get("Key").as_deref(), Some("1"));
    assert_eq!(baggage.get("key").as_deref(), Some("2"));
}

// Values

#[test]
fn a_value_is_percent_decoded_as_utf_8() {
    let baggage = read(["a=%41%c3%A9%E2%82%ac%F0%9F%98%80"]);
    assert_eq!(baggage.get("a").as_deref(), Some("A\u{e9}\u{20ac}\u{1f600}"));
}

#[test]
fn a_decoded_comma_does_not_end_the_member() {
    let baggage = read(["a=1%2Cb=2%3Bc"]);
    assert_eq!(baggage.get("a").as_deref(), Some("1,b=2;c"));
    assert_eq!(baggage.iter().count(), 1);
}

#[test]
fn bad_utf_8_becomes_the_replacement_character() {
    assert_eq!(read(["a=x%ffy"]).get("a").as_deref(), Some("x\u{fffd}y"));
    assert_eq!(read(["a=%C3"]).get("a").as_deref(), Some("\u{fffd}"));
    assert_eq!(read(["a=%C3%28"]).get("a").as_deref(), Some("\u{fffd}("));
}

#[test]
fn an_equals_sign_may_stand_in_a_value() {
    let baggage = read(["a=x=y,b==,c=Zg=="]);
    assert_eq!(baggage.get("a").as_deref(), Some("x=y"));
    assert_eq!(baggage.get("b").as_deref(), Some("="));
    assert_eq!(baggage.get("c").as_deref(), Some("Zg=="));
    assert_eq!(baggage.as_str(), "a=x=y,b==,c=Zg==");
}

#[test]
fn an_encoded_percent_sign_is_sent_encoded() {
    assert_eq!(sent(["share=50%25"]), "share=50%25");
    assert_eq!(sent(["share=50%25", "b=\u{e9}"]), "share=50%25,b=%C3%A9");
}

#[test]
fn a_bare_percent_sign_is_encoded() {
    assert_eq!(sent(["a=50%"]), "a=50%25");
    assert_eq!(sent(["a=%4"]), "a=%254");
    assert_eq!(sent(["a=%zz"]), "a=%25zz");
    assert_eq!(sent(["a=%%41"]), "a=%25%41");
    assert_eq!(read(["a=50%"]).get("a").as_deref(), Some("50%"));
}

#[test]
fn an_escape_is_not_read_across_the_end_of_a_value() {
    assert_eq!(sent(["a=%4;1p"]), "a=%254;1p");
    assert_eq!(sent(["a=%4 1"]), "a=%254%201");
}

#[test]
fn characters_that_baggage_does_not_allow_are_encoded() {
    assert_eq!(sent([r#"a="x""#]), "a=%22x%22");
    assert_eq!(sent([r"a=x\y"]), "a=x%5Cy");
    assert_eq!(sent(["a=\u{e9}"]), "a=%C3%A9");
}

#[test]
fn a_space_within_a_value_is_encoded() {
    assert_eq!(sent(["a=x y"]), "a=x%20y");
    assert_eq!(sent(["a= x\ty "]), "a=x%09y");
    assert_eq!(read(["a=x y"]).get("a").as_deref(), Some("x y"));
}

#[test]
fn an_empty_value_is_a_value() {
    assert_eq!(read(["a="]).get("a").as_deref(), Some(""));
}

// Properties, order, repeated keys

#[test]
fn properties_are_kept() {
    let baggage = read(["a=1;p;q=2;r=x=y,b=2"]);
    let member = baggage.iter().next().unwrap();
    assert_eq!((member.raw_value, member.properties), ("1", "p;q=2;r=x=y"));
    assert_eq!(baggage.as_str(), "a=1;p;q=2;r=x=y,b=2");
}

#[test]
fn properties_are_kept_when_the_value_is_encoded() {
    assert_eq!(sent(["a=\u{e9};p;q=2"]), "a=%C3%A9;p;q=2");
}

#[test]
fn what_is_encoded_in_a_property_leaves_its_key_readable() {
    assert_eq!(sent([r#"a=1; p = "x y" ;q"#]), "a=1;p=%22x%20y%22;q");
}

#[test]
fn the_order_of_members_is_kept() {
    let baggage = read(["z=1,a=2", "m=3"]);
    assert_eq!(baggage.iter().map(|member| member.key).collect::<String>(), "zam");
}

#[test]
fn members_of_a_repeated_key_pass_and_the_first_is_the_value() {
    let baggage = read(["a=1,b=2,a=3"]);
    assert_eq!(baggage.as_str(), "a=1,b=2,a=3");
    assert_eq!(baggage.get("a").as_deref(), Some("1"));
}

// Limits

#[test]
fn sixty_four_members_pass() {
    assert_eq!(sent([&members(64)]), members(64));
}

#[test]
fn members_after_the_sixty_fourth_are_dropped() {
    assert_eq!(sent([&members(70)]), members(64));
}

#[test]
fn the_members_of_all_headers_are_counted() {
    assert_eq!(sent([&members(64), "one-more=1"]), members(64));
}

#[test]
fn dropped_members_do_not_count() {
    assert_eq!(sent([&format!("bad,,{}", members(64))]), members(64));
}

#[test]
fn a_baggage_of_8192_bytes_passes() {
    let longest = member("a", 8192);
    assert_eq!(sent([&longest]), longest);
    let two = [member("a", 4000), member("b", 4191)];
    assert_eq!(sent([&two[0], &two[1]]), two.join(","));
}

#[test]
fn a_member_beyond_8192_bytes_is_dropped_whole() {
    assert_eq!(read([&member("a", 8193)]), Baggage::EMPTY);
    let two = [member("a", 4000), member("b", 4192)];
    assert_eq!(sent([&two[0], &two[1]]), two[0]);
}

#[test]
fn a_member_that_fits_is_kept_after_one_that_did_not() {
    assert_eq!(sent(["a=1", &member("b", 8190), "c=3"]), "a=1,c=3");
}

#[test]
fn bytes_are_counted_as_they_are_sent() {
    let quotes = "\"".repeat(2730);
    assert_eq!(sent([&format!("a={quotes}")]).len(), 8192);
    assert_eq!(read([&format!("a={quotes}\"")]), Baggage::EMPTY);
}

// Changing a baggage

#[test]
fn a_new_member_stands_at_the_end() {
    let mut baggage = read(["a=1 , b=2"]);
    baggage.insert("c", "3").unwrap();
    assert_eq!(baggage.as_str(), "a=1,b=2,c=3");
}

#[test]
fn a_changed_member_stays_in_its_place() {
    let mut baggage = read(["a=1,b=2;p,c=3"]);
    baggage.insert("b", "x").unwrap();
    assert_eq!(baggage.as_str(), "a=1,b=x,c=3");
}

#[test]
fn of_a_repeated_key_one_changed_member_is_left() {
    let mut baggage = read(["a=1,b=2,a=3,b=4"]);
    baggage.insert("b", "x").unwrap();
    assert_eq!(baggage.as_str(), "a=1,b=x,a=3");
}

#[test]
fn any_text_can_be_a_value() {
    for text in ["", " ", "50%", "%41", "a,b;c=d", "\"\\", "caf\u{e9}\n", "\u{1f600}"] {
        let mut baggage = Baggage::EMPTY;
        baggage.insert("a", text).unwrap();
        assert_eq!(baggage.get("a").as_deref(), Some(text), "{}", baggage.as_str());
    }
}

#[test]
fn a_key_that_is_no_token_is_refused() {
    let mut baggage = read(["x=1"]);
    for bad in ["", " ", "a b", "a=b", "a,b", "a;b", "caf\u{e9}"] {
        assert_eq!(baggage.insert(bad, "1"), Err(BaggageError::Key), "{bad}");
    }
    assert_eq!(baggage.as_str(), "x=1");
}

#[test]
fn a_sixty_fifth_member_is_refused() {
    let mut baggage = read([&members(64)]);
    assert_eq!(baggage.insert("one-more", "1"), Err(BaggageError::Limit));
    assert_eq!(baggage.as_str(), members(64));
    assert_eq!(baggage.insert("k63", "x"), Ok(()));
}

#[test]
fn a_member_that_makes_the_baggage_too_long_is_refused() {
    let mut baggage = read(["a=1"]);
    assert_eq!(baggage.insert("b", &"v".repeat(8187)), Err(BaggageError::Limit));
    assert_eq!(baggage.insert("b", &"v".repeat(1 << 20)), Err(BaggageError::Limit));
    assert_eq!(baggage.as_str(), "a=1");
    assert_eq!(baggage.insert("b", &"v".repeat(8186)), Ok(()));
    assert_eq!(baggage.as_str().len(), 8192);
}

#[test]
fn a_removed_member_is_gone_each_time_it_stood_there() {
    let mut baggage = read(["a=1,b=2,a=3"]);
    baggage.remove("a");
    assert_eq!(baggage.as_str(), "b=2");
    baggage.remove("b");
    assert_eq!(baggage.header(), None);
}

#[test]
fn only_the_members_that_are_asked_for_are_retained() {
    let mut baggage = read(["user=1;p,tenant=2,plan=3"]);
    baggage.retain(|key| key != "tenant");
    assert_eq!(baggage.as_str(), "user=1;p,plan=3");
}

#[test]
fn retain_asks_once_for_each_member() {
    let mut baggage = read(["a=1,b=2,c=3,d=4"]);
    let mut asked = Vec::new();
    baggage.retain(|key| {
        asked.push(key.to_owned());
        asked.len() != 3
    });
    assert_eq!(asked, ["a", "b", "c", "d"]);
    assert_eq!(baggage.as_str(), "a=1,b=2,d=4");
}

#[test]
fn debug_shows_keys_and_no_values() {
    assert_eq!(format!("{:?}", read(["user=alice;p=secret,plan=gold"])), r#"{"user", "plan"}"#);
}

// By property

/// The rules once more, over text: each byte one character, each member one `String`.
fn reference(values: &[Vec<u8>]) -> String {
    let values: Vec<String> = values.iter().map(|value| value.iter().map(|byte| char::from(*byte)).collect()).collect();
    let mut sent = String::new();
    let mut count = 0;
    for member in values.join(",").split(',').map(trim) {
        let Some((key, rest)) = member.split_once('=') else { continue };
        if trim(key).is_empty()
            || !trim(key).chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
        {
            continue;
        }
        let (value, properties) = rest.split_once(';').map_or((rest, None), |(value, rest)| (value, Some(rest)));
        let mut texts = vec![trim(value).to_owned()];
        for property in properties.into_iter().flat_map(|properties| properties.split(';')) {
            // Only the first `=` of a property may have white space around it.
            match property.split_once('=') {
                Some((key, value)) => texts.push(format!("{}={}", trim(key), trim(value))),
                None => texts.push(trim(property).to_owned()),
            }
        }
        let encoded: Vec<String> = texts.iter().map(|text| encode(text)).collect();
        let next = if encoded == texts {
            member.to_owned()
        } else {
            let filled = encoded[1..].iter().filter(|text| !text.is_empty());
            let properties: String = filled.map(|text| format!(";{text}")).collect();
            format!("{}={}{properties}", trim(key), encoded[0])
        };
        let longer = if sent.is_empty() { next } else { format!("{sent},{next}") };
        if count < 64 && longer.len() <= 8192 {
            sent = longer;
            count += 1;
        }
    }
    sent
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn encode(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_digit = |at: usize| chars.get(at).is_some_and(char::is_ascii_hexdigit);
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let is_bare = *c == '%' && !(is_digit(at + 1) && is_digit(at + 2));
        if ('!'..='~').contains(c) && !"\",;\\".contains(*c) && !is_bare {
            out.push(*c);
        } else {
            out += &format!("%{:02X}", *c as u32);
        }
    }
    out
}

fn agrees_with_the_reference(values: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let baggage = Baggage::parse(values.iter().map(Vec::as_slice));
    prop_assert_eq!(baggage.as_str(), reference(values));
    keeps_the_limits(&baggage)?;
    // Not every byte can stand in a header.
    if values.iter().all(|value| HeaderValue::from_bytes(value).is_ok()) {
        let from_headers = Baggage::from_headers(&headers(values));
        prop_assert!(from_headers.iter().eq(baggage.iter()));
        keeps_the_limits(&from_headers)?;
    }
    Ok(())
}

fn keeps_the_limits(baggage: &Baggage) -> Result<(), TestCaseError> {
    let sent = baggage.as_str();
    prop_assert!(sent.len() <= Baggage::MAX_LENGTH);
    prop_assert!(baggage.iter().count() <= Baggage::MAX_MEMBERS);
    prop_assert_eq!(baggage.header().is_none(), sent.is_empty());
    prop_assert!(sent.is_ascii());
    // Read again, nothing is dropped or encoded a second time.
    let again = Baggage::parse([sent.as_bytes()]);
    prop_assert!(again.iter().eq(baggage.iter()));
    prop_assert_eq!(&Baggage::from_headers(&headers(baggage.header())), baggage);
    Ok(())
}

fn good_member() -> impl Strategy<Value = String> {
    let value = prop_oneof![8 => "([!#-+--:<-\\[\\]-~&&[^%]]|%[0-9a-fA-F]{2}){0,8}", 1 => "v{300,600}"];
    let property = " ?; ?[a-z]{1,2}( ?= ?[!#-+--:<-\\[\\]-~&&[^%]]{0,4})?";
    ("[a-zA-Z!%'*.|~]{1,3} ?= ?", value, prop::collection::vec(property, 0..3))
        .prop_map(|(key, value, properties)| key + &value + &properties.concat())
}

fn some_member() -> impl Strategy<Value = String> {
    let value = "([ -~]|%[0-9a-fA-F]{2}){0,8}";
    let encoded = (value, "\"{1000,3000}").prop_map(|(value, quotes)| format!("k={value}{quotes}"));
    let member = ("[a-z]{1,2}", value).prop_map(|(key, value)| format!("{key}={value}"));
    prop_oneof![10 => member, 5 => good_member(), 2 => "[a=; \t%4]{0,8}", 1 => encoded, 1 => "k=v{4000,8200}"]
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
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
    ) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn agrees_with_the_reference_on_the_characters_that_matter(
        values in prop::collection::vec("[ab4=;,% \t\n\"\u{e9}]{0,16}".prop_map(String::into_bytes), 0..4),
    ) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn agrees_with_the_reference_on_valid_members(values in headers_of(good_member(), 40)) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn agrees_with_the_reference_on_members_that_are_almost_right(values in headers_of(some_member(), 8)) {
        agrees_with_the_reference(&values)?;
    }

    #[test]
    fn a_clean_header_passes_as_the_identical_bytes(
        members in prop::collection::vec(good_member(), 1..16), separator in " ?, ?",
    ) {
        let clean = members.join(&separator);
        prop_assume!(clean.len() <= Baggage::MAX_LENGTH);
        let came = headers([&clean]);
        let baggage = Baggage::from_headers(&came);
        prop_assert_eq!(baggage.header(), came.get("baggage"));
    }

    #[test]
    fn an_inserted_value_comes_back_over_the_wire(
        values in headers_of(good_member(), 12), key in "[a-zA-Z!%'*.|~]{1,3}", value in ".{0,20}",
    ) {
        let mut baggage = Baggage::parse(values.iter().map(Vec::as_slice));
        prop_assume!(baggage.as_str().len() < 8000 && baggage.iter().count() < 64);
        baggage.insert(&key, &value).expect("there is room");
        let received = Baggage::parse([baggage.as_str().as_bytes()]);
        prop_assert_eq!(received.get(&key).map(String::from), Some(value));
        prop_assert_eq!(received.iter().filter(|member| member.key == key).count(), 1);
        keeps_the_limits(&baggage)?;
    }

    #[test]
    fn inserting_anything_gives_a_valid_baggage_or_changes_nothing(key in ".{0,4}", length in 0_usize..9000) {
        let mut baggage = Baggage::parse([b"foo=1".as_slice()]);
        if baggage.insert(&key, &"\"".repeat(length)).is_err() {
            prop_assert_eq!(baggage.as_str(), "foo=1");
        }
        keeps_the_limits(&baggage)?;
    }
}
