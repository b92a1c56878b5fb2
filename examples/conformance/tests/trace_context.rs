//! W3C Trace Context, level 2, against the example: what goes in as headers, and what comes out in the calls it makes.
//!
//! Each test names what the recommendation asks for; the requests are written byte by byte, since no HTTP library would
//! send most of them.

mod rig;

use rig::{PARENT_ID, Rig, TRACE_ID, TraceParent, traceparent};

#[tokio::test]
async fn without_a_traceparent_a_new_trace_is_started() {
    let rig = Rig::start().await;
    let sent = rig.traceparent(&[]).await;
    assert_eq!(sent.version, "00");
    assert_ne!(sent.trace_id, TRACE_ID);
    assert_eq!(sent.flags, 0x03, "sampled, and a trace id of random bits");
    assert_ne!(rig.traceparent(&[]).await.trace_id, sent.trace_id);
}

#[tokio::test]
async fn a_valid_trace_is_kept_and_each_call_has_a_parent_id_of_its_own() {
    let rig = Rig::start().await;
    let calls = rig.calls(2, &[("traceparent", &traceparent("01"))]).await;
    let [first, second] = calls.as_slice() else {
        panic!("two calls were asked for");
    };
    let (first, second) = (TraceParent::of(first), TraceParent::of(second));
    assert_eq!((first.trace_id.as_str(), second.trace_id.as_str()), (TRACE_ID, TRACE_ID));
    assert_ne!(first.parent_id, second.parent_id);
    assert!(first.parent_id != PARENT_ID && second.parent_id != PARENT_ID);
}

#[tokio::test]
async fn calls_without_a_traceparent_are_one_new_trace() {
    let rig = Rig::start().await;
    let calls = rig.calls(2, &[]).await;
    let [first, second] = [&calls[0], &calls[1]].map(TraceParent::of);
    assert_eq!(first.trace_id, second.trace_id);
    assert_ne!(first.parent_id, second.parent_id);
}

#[tokio::test]
async fn a_header_name_may_have_any_case() {
    let rig = Rig::start().await;
    for name in ["traceparent", "TRACEPARENT", "TraceParent", "tRaCePaReNt"] {
        let members = rig.members(&[(name, &traceparent("01")), ("TrAcEsTaTe", "foo=1")]).await;
        assert_eq!(members, ["foo=1"], "{name}");
    }
    for name in ["trace-parent", "trace_parent", "xtraceparent"] {
        assert_ne!(rig.traceparent(&[(name, &traceparent("01"))]).await.trace_id, TRACE_ID, "{name}");
    }
}

#[tokio::test]
async fn white_space_around_a_traceparent_does_not_count() {
    let rig = Rig::start().await;
    for value in [format!(" {}", traceparent("01")), format!("\t{} \t", traceparent("01"))] {
        assert_eq!(rig.traceparent(&[("traceparent", &value)]).await.trace_id, TRACE_ID, "{value:?}");
    }
}

#[tokio::test]
async fn a_repeated_traceparent_starts_a_new_trace() {
    let rig = Rig::start().await;
    let other = "00-11111111111111111111111111111111-2222222222222222-01";
    for second in [other, &traceparent("01")] {
        let sent = rig.traceparent(&[("traceparent", &traceparent("01")), ("traceparent", second)]).await;
        assert!(![TRACE_ID, &other[3..35]].contains(&sent.trace_id.as_str()), "{second}");
    }
    let joined = format!("{},{other}", traceparent("01"));
    assert_ne!(rig.traceparent(&[("traceparent", &joined)]).await.trace_id, TRACE_ID);
}

#[tokio::test]
async fn a_malformed_traceparent_starts_a_new_trace_and_loses_its_tracestate() {
    let rig = Rig::start().await;
    let rest = format!("{TRACE_ID}-{PARENT_ID}-01");
    let versions = ["ff", "0g", ".0", "0.", "0", "000", "", "CC", "+0", " 0"];
    let trace_ids = ["", "0", "+1234567890123456789012345678901", &TRACE_ID[1..], &TRACE_ID.replace('4', ".")];
    let long_trace_id = format!("{TRACE_ID}0");
    let parent_ids =
        ["", "+234567890123456", &PARENT_ID[1..], "ABCDEF0123456789", "123456789012345.", "0000000000000000"];
    let long_parent_id = format!("{PARENT_ID}0");
    let flags = ["", "0", "0g", ".0", "0.", "001", "+1", "0X", "FF"];

    let mut malformed = vec![
        String::new(),
        "00".to_owned(),
        format!("00-{TRACE_ID}-{PARENT_ID}"),
        format!("00_{TRACE_ID}_{PARENT_ID}_01"),
        format!("00-{}-{PARENT_ID}-01", "0".repeat(32)),
        format!("00-{}-{PARENT_ID}-01", TRACE_ID.to_uppercase()),
        format!("00-{rest}."),
        format!("00-{rest}-"),
        format!("00-{rest}-what-the-future-will-be-like"),
        // Of a later version too, only a dash may follow.
        format!("cc-{rest}.what-the-future-will-be-like"),
        format!("cc-{rest}0"),
    ];
    malformed.extend(versions.map(|version| format!("{version}-{rest}")));
    malformed.extend(
        trace_ids.into_iter().chain([long_trace_id.as_str()]).map(|trace_id| format!("00-{trace_id}-{PARENT_ID}-01")),
    );
    malformed.extend(
        parent_ids
            .into_iter()
            .chain([long_parent_id.as_str()])
            .map(|parent_id| format!("00-{TRACE_ID}-{parent_id}-01")),
    );
    malformed.extend(flags.map(|flags| format!("00-{TRACE_ID}-{PARENT_ID}-{flags}")));

    for value in &malformed {
        let headers = rig.call(&[("traceparent", value), ("tracestate", "foo=1")]).await;
        let sent = TraceParent::of(&headers);
        assert!(sent.trace_id != TRACE_ID && sent.parent_id != PARENT_ID, "{value:?} became {sent:?}");
        assert_eq!(headers.get("tracestate"), None, "{value:?}");
    }
}

#[tokio::test]
async fn of_a_later_version_the_known_part_is_used_and_version_00_is_sent() {
    let rig = Rig::start().await;
    for end in ["", "-", "-what-the-future-will-be-like"] {
        let value = format!("cc-{TRACE_ID}-{PARENT_ID}-01{end}");
        let sent = rig.traceparent(&[("traceparent", &value)]).await;
        assert_eq!((sent.version.as_str(), sent.trace_id.as_str()), ("00", TRACE_ID), "{value}");
    }
}

#[tokio::test]
async fn sampled_and_random_flags_are_kept_and_the_others_zeroed() {
    let rig = Rig::start().await;
    for flags in [0x00, 0x01, 0x02, 0x03, 0x04, 0x08, 0x80, 0xfc, 0xff] {
        let sent = rig.traceparent(&[("traceparent", &traceparent(&format!("{flags:02x}")))]).await;
        assert_eq!(sent.trace_id, TRACE_ID, "{flags:02x}");
        assert_eq!(sent.flags, flags & 0x03, "{flags:02x}");
    }
}

#[tokio::test]
async fn a_tracestate_without_a_traceparent_is_dropped() {
    let rig = Rig::start().await;
    assert_eq!(rig.call(&[("tracestate", "foo=1")]).await.get("tracestate"), None);
    assert_eq!(rig.call(&[("tracestate", "foo=1"), ("tracestate", "bar=2")]).await.get("tracestate"), None);
}

#[tokio::test]
async fn several_tracestate_headers_are_combined_in_order() {
    let rig = Rig::start().await;
    let (trace, state) = (("traceparent", traceparent("01")), "tracestate");
    let trace = (trace.0, trace.1.as_str());
    let members = rig.members(&[trace, (state, "foo=1,bar=2"), (state, "rojo=1,congo=2"), (state, "baz=3")]).await;
    assert_eq!(members, ["foo=1", "bar=2", "rojo=1", "congo=2", "baz=3"]);

    // Before the traceparent as well as after it.
    assert_eq!(rig.members(&[(state, "foo=1"), trace, (state, "bar=2")]).await, ["foo=1", "bar=2"]);
}

#[tokio::test]
async fn empty_tracestate_headers_and_members_are_allowed() {
    let rig = Rig::start().await;
    let trace = &*traceparent("01");
    let state = |values: &[&'static str]| {
        let states = values.iter().map(|value| ("tracestate", *value));
        std::iter::once(("traceparent", trace)).chain(states).collect::<Vec<_>>()
    };
    assert_eq!(rig.members(&state(&["foo=1", ""])).await, ["foo=1"]);
    assert_eq!(rig.members(&state(&["", "foo=1"])).await, ["foo=1"]);
    assert_eq!(rig.members(&state(&["foo=1", " \t ", "bar=2"])).await, ["foo=1", "bar=2"]);
    assert_eq!(rig.members(&state(&["foo=1,,bar=2, ,"])).await, ["foo=1", "bar=2"]);
    for nothing in [&state(&[""]), &state(&["", " ,\t, "])] {
        let headers = rig.call(nothing).await;
        assert_eq!(TraceParent::of(&headers).trace_id, TRACE_ID);
        assert_eq!(headers.get("tracestate"), None, "an empty header is never sent");
    }
}

#[tokio::test]
async fn white_space_around_members_is_dropped_and_before_values_kept() {
    let rig = Rig::start().await;
    let members = rig.members_of("foo=1 \t , \t bar=2,\tbaz=3\t").await;
    assert_eq!(members, ["foo=1", "bar=2", "baz=3"]);
    assert_eq!(rig.members_of("foo=  1,bar=2").await, ["foo=  1", "bar=2"]);
}

#[tokio::test]
async fn of_a_repeated_key_one_member_goes_on() {
    let rig = Rig::start().await;
    assert_eq!(rig.members_of("foo=1,foo=1").await, ["foo=1"]);
    assert_eq!(rig.members_of("foo=1,bar=3,foo=2").await, ["foo=1", "bar=3"]);
    let headers = [("traceparent", &*traceparent("01")), ("tracestate", "foo=1"), ("tracestate", "foo=2")];
    assert_eq!(rig.members(&headers).await, ["foo=1"]);
}

#[tokio::test]
async fn every_allowed_character_passes() {
    let rig = Rig::start().await;
    let lower: String = ('a'..='z').chain('0'..='9').chain("_-*/".chars()).collect();
    let value: String = (' '..='~').filter(|character| !matches!(character, ',' | '=')).collect();
    for member in [format!("{lower}=1"), format!("0{lower}@a{lower}=1"), format!("foo={value}")] {
        assert_eq!(rig.members_of(&member).await, [member]);
    }
}

#[tokio::test]
async fn thirty_two_members_pass_and_one_more_drops_them_all() {
    let rig = Rig::start().await;
    let members: Vec<String> = (1..=33).map(|number| format!("bar{number:02}={number:02}")).collect();
    assert_eq!(rig.members_of(&members[..32].join(",")).await, members[..32]);
    assert_eq!(rig.members_of(&members.join(",")).await, [""; 0]);
    // Over several headers too.
    let (first, second) = (members[..16].join(","), members[16..].join(","));
    let headers = [("traceparent", &*traceparent("01")), ("tracestate", &first), ("tracestate", &second)];
    assert_eq!(rig.members(&headers).await, [""; 0]);
}

#[tokio::test]
async fn keys_and_values_have_256_characters_at_most() {
    let rig = Rig::start().await;
    let long = |count: usize| "z".repeat(count);
    for member in [format!("{}=1", long(256)), format!("{}@{}=1", long(241), long(14)), format!("foo={}", long(256))] {
        assert_eq!(rig.members_of(&member).await, [member]);
    }
    for member in [format!("{}=1", long(257)), format!("{}@{}=1", long(242), long(14)), format!("foo={}", long(257))] {
        assert_eq!(rig.members_of(&format!("bar=2,{member}")).await, [""; 0], "{member}");
    }
}

#[tokio::test]
async fn at_least_512_characters_are_passed_on() {
    let rig = Rig::start().await;
    let members: Vec<String> = (0..32).map(|number| format!("k{number:02}={}", "v".repeat(11))).collect();
    assert_eq!(members.join(",").len(), 511);
    assert_eq!(rig.members_of(&members.join(",")).await, members);
}

#[tokio::test]
async fn a_malformed_tracestate_is_dropped_and_the_trace_kept() {
    let rig = Rig::start().await;
    let malformed = [
        "foo",
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "foo bar=1",
        "=1",
        "@foo=1",
        "_foo=1",
        "-foo=1",
        "foo@=1,Bar=2",
        "f\u{f6}o=1",
        "foo=",
        "foo=,bar=3",
        "foo=bar=baz",
        "foo=b\u{e4}r",
        "foo=1\tbar",
        "foo=1;bar=2,baz",
        "foo=1,bar",
    ];
    for value in malformed {
        assert_eq!(rig.members_of(value).await, [""; 0], "{value:?}");
    }
}
