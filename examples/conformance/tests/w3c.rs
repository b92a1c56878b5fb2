//! W3C Trace Context over real sockets: what comes in, and what the calls carry out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

const TRACE: &str = "12345678901234567890123456789012";
const VALID: &str = "00-12345678901234567890123456789012-1234567890123456-00";

/// The example, killed at the end of the test.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_conformance"))
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().trim_start_matches("listening on http://").trim_end_matches("/test").to_owned();
        Self { child, address }
    }

    /// Sends these header lines, as they are, and answers with the heads of the calls that come of it.
    fn calls(&self, header_lines: &[&str], count: usize) -> Vec<Head> {
        let callee = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/callee", callee.local_addr().expect("it is bound"));
        let call = format!(r#"{{"url":"{url}","arguments":[1]}}"#);
        let body = format!("[{}]", vec![call; count].join(","));
        let answering = thread::spawn(move || answer(&callee, count));

        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let lines: String = header_lines.iter().map(|line| format!("{line}\r\n")).collect();
        write!(
            stream,
            "POST /test HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{lines}content-length: {}\r\n\r\n{body}",
            body.len(),
        )
        .expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answering.join().expect("every call came")
    }

    fn call(&self, header_lines: &[&str]) -> Head {
        self.calls(header_lines, 1).remove(0)
    }

    fn call_with_state(&self, states: &[&str]) -> Head {
        let traceparent = format!("traceparent: {VALID}");
        let mut lines = vec![traceparent];
        lines.extend(states.iter().map(|state| format!("tracestate: {state}")));
        let head = self.call(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(head.trace_id(), TRACE, "a trace state never touches the traceparent");
        head
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes so many requests, one a connection or several on one, and answers each with 200.
fn answer(callee: &TcpListener, count: usize) -> Vec<Head> {
    let mut heads = Vec::new();
    while heads.len() < count {
        let (stream, _) = callee.accept().expect("a call comes");
        let mut reader = BufReader::new(stream);
        while heads.len() < count {
            let Some(head) = Head::read(&mut reader) else { break };
            heads.push(head);
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("it is answered");
        }
    }
    heads
}

#[derive(Debug)]
struct Head(Vec<(String, String)>);

impl Head {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut headers = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
                if name == "content-length" {
                    length = value.parse().expect("a number");
                }
                headers.push((name, value));
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body of its length");
        assert_eq!(body, b"[1]");
        Some(Self(headers))
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The fields of the one `traceparent`.
    fn traceparent(&self) -> [&str; 4] {
        let values = self.all("traceparent");
        assert_eq!(values.len(), 1, "{self:?}");
        let fields: Vec<&str> = values[0].split('-').collect();
        let fields: [&str; 4] = fields.try_into().expect("four fields");
        assert_eq!(fields.map(str::len), [2, 32, 16, 2]);
        assert!(fields.concat().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        fields
    }

    fn trace_id(&self) -> &str {
        self.traceparent()[1]
    }

    fn flags(&self) -> u8 {
        u8::from_str_radix(self.traceparent()[3], 16).expect("two hex digits")
    }

    fn tracestate(&self) -> String {
        let values = self.all("tracestate");
        assert!(values.iter().all(|value| !value.is_empty()), "an empty header is never sent");
        values.join(",")
    }
}

#[test]
fn a_request_without_a_trace_starts_one_with_the_random_flag() {
    let head = Example::start().call(&[]);
    assert_ne!(head.trace_id(), "0".repeat(32));
    assert_eq!(head.flags() & 0b10, 0b10);
    assert_eq!(head.tracestate(), "");
}

#[test]
fn a_trace_goes_on_with_a_parent_of_its_own_for_each_call() {
    let example = Example::start();
    let heads = example.calls(&[&format!("traceparent: {VALID}")], 3);
    let mut parents: Vec<&str> = heads.iter().map(|head| head.traceparent()[2]).collect();
    assert!(heads.iter().all(|head| head.trace_id() == TRACE && head.traceparent()[0] == "00"));
    parents.push("1234567890123456");
    parents.sort_unstable();
    parents.dedup();
    assert_eq!(parents.len(), 4);
}

#[test]
fn the_name_of_the_header_has_any_case_but_no_other_spelling() {
    let example = Example::start();
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert_eq!(example.call(&[&format!("{name}: {VALID}")]).trace_id(), TRACE, "{name}");
    }
    for name in ["trace-parent", "trace.parent", "trace_parent"] {
        assert_ne!(example.call(&[&format!("{name}: {VALID}")]).trace_id(), TRACE, "{name}");
    }
}

#[test]
fn flags_are_kept_where_they_are_known_and_zeroed_elsewhere() {
    let example = Example::start();
    for (sent, kept) in [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("fc", 0), ("09", 1)] {
        let head = example.call(&[&format!("traceparent: 00-{TRACE}-1234567890123456-{sent}")]);
        assert_eq!((head.trace_id(), head.flags()), (TRACE, kept), "{sent}");
    }
}

#[test]
fn a_malformed_traceparent_starts_a_new_trace_and_drops_the_trace_state() {
    let example = Example::start();
    let span = "1234567890123456";
    for value in [
        format!("00-{TRACE}-{span}-01."),
        format!("00-{TRACE}-{span}-01-what-the-future-will-be-like"),
        format!("cc-{TRACE}-{span}-01.what-the-future-will-be-like"),
        format!("ff-{TRACE}-{span}-01"),
        format!(".0-{TRACE}-{span}-01"),
        format!("0.-{TRACE}-{span}-01"),
        format!("000-{TRACE}-{span}-01"),
        format!("0-{TRACE}-{span}-01"),
        format!("00-{}-{span}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-.{}-{span}-01", &TRACE[1..]),
        format!("00-+{}-{span}-01", &TRACE[1..]),
        format!("00-{}3-{span}-01", TRACE),
        format!("00-{}-{span}-01", &TRACE[1..]),
        format!("00-{TRACE}-.234567890123456-01"),
        format!("00-{TRACE}-12345678901234567-01"),
        format!("00-{TRACE}-123456789012345-01"),
        format!("00-{TRACE}-{span}-.0"),
        format!("00-{TRACE}-{span}-0."),
        format!("00-{TRACE}-{span}-001"),
        format!("00-{TRACE}-{span}-1"),
        format!("00-{TRACE}-{span}"),
        format!("00-ABCDEF78901234567890123456789012-{span}-01"),
    ] {
        let head = example.call(&[&format!("traceparent: {value}"), "tracestate: foo=1"]);
        assert_ne!(head.trace_id(), TRACE, "{value}");
        assert_ne!(head.traceparent()[1], "0".repeat(32));
        assert_eq!(head.tracestate(), "", "{value}");
    }
}

#[test]
fn two_traceparents_are_none() {
    let example = Example::start();
    let other = VALID.replace("9012-1", "9011-1");
    let head = example.call(&[&format!("traceparent: {VALID}"), &format!("traceparent: {other}")]);
    assert!(!VALID.contains(head.trace_id()) && !other.contains(head.trace_id()));
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    let example = Example::start();
    for rest in ["", "-what-the-future-will-be-like"] {
        let head = example.call(&[&format!("traceparent: cc-{TRACE}-1234567890123456-01{rest}")]);
        assert_eq!(head.traceparent()[..2], ["00", TRACE]);
    }
}

#[test]
fn white_space_around_a_traceparent_is_no_part_of_it() {
    let example = Example::start();
    for value in [format!("  {VALID}"), format!("\t{VALID}\t"), format!("{VALID} \t ")] {
        assert_eq!(example.call(&[&format!("traceparent:{value}")]).trace_id(), TRACE, "{value:?}");
    }
}

#[test]
fn a_trace_state_without_a_traceparent_is_dropped() {
    let head = Example::start().call(&["tracestate: foo=1"]);
    assert_eq!(head.tracestate(), "");
}

#[test]
fn trace_state_headers_are_combined_in_order_without_their_empty_members() {
    let example = Example::start();
    for (states, combined) in [
        (&["foo=1"][..], "foo=1"),
        (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
        (&["foo=1", ""], "foo=1"),
        (&["", "foo=1"], "foo=1"),
        (&[""], ""),
        (&["foo=1,", ",bar=2,,"], "foo=1,bar=2"),
        (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
        (&["\t foo=1 \t"], "foo=1"),
        (&["foo=  1"], "foo=  1"),
    ] {
        assert_eq!(example.call_with_state(states).tracestate(), combined, "{states:?}");
    }
}

#[test]
fn of_a_repeated_key_one_member_stays() {
    let example = Example::start();
    for states in [&["foo=1,foo=1"][..], &["foo=1,foo=2"], &["foo=1", "foo=1"], &["foo=1", "foo=2"]] {
        assert_eq!(example.call_with_state(states).tracestate(), "foo=1", "{states:?}");
    }
}

#[test]
fn every_allowed_character_is_kept() {
    let example = Example::start();
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@a-z0-9_-*/";
    let value: String = (0x20u8..=0x7e).map(char::from).filter(|c| !matches!(c, ',' | '=')).collect();
    let state = format!("{key}={value}");
    assert_eq!(example.call_with_state(&[&state]).tracestate(), state);
}

#[test]
fn a_malformed_member_drops_the_whole_trace_state() {
    let example = Example::start();
    let long_key = format!("foo=1,{}=1", "z".repeat(257));
    let long_value = format!("foo=1,bar={}", "v".repeat(257));
    for state in [
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "@foo=1,bar=2",
        "foo=bar=baz",
        "foo=,bar=3",
        "foo",
        "=1",
        "foo=b\u{e9}r",
        &long_key,
        &long_value,
    ] {
        assert_eq!(example.call_with_state(&[state]).tracestate(), "", "{state}");
    }
}

#[test]
fn members_have_their_limits_of_number_and_length() {
    let example = Example::start();
    let members = |count: usize| (1..=count).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",");
    assert_eq!(example.call_with_state(&[&members(32)]).tracestate(), members(32));
    assert_eq!(example.call_with_state(&[&members(33)]).tracestate(), "");
    let longest = format!("{}={}", "z".repeat(256), "v".repeat(256));
    assert_eq!(example.call_with_state(&["foo=1", &longest]).tracestate(), format!("foo=1,{longest}"));
}

#[test]
fn at_least_512_characters_are_sent_on_and_longer_states_lose_whole_members() {
    let example = Example::start();
    let short = |n: usize| format!("k{n:02}={}", "s".repeat(100));
    let state = (0..5).map(short).collect::<Vec<_>>().join(",");
    assert!(state.len() > 512);
    assert_eq!(example.call_with_state(&[&state]).tracestate(), state);

    let long = format!("long={}", "l".repeat(250));
    let many = (0..28).map(short).collect::<Vec<_>>().join(",");
    let sent = example.call_with_state(&[&format!("{long},{many}")]).tracestate();
    assert!(sent.len() >= 512 && !sent.contains("long="), "{sent}");
    assert!(sent.split(',').enumerate().all(|(n, member)| member == short(n)), "{sent}");
}
