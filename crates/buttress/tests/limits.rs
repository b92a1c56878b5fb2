//! Nothing grows without a bound, what is lost is counted, and sinks cannot hurt each other.
#![cfg(feature = "trace")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::context;
use buttress::trace::{Capture, Connection, FlushError, JsonLines, Operation, SpanRecord, SpanSink, Spans, TraceLayer};
use http::{HeaderName, Request};
use support::{answer, attribute, exchange, get, span_of};
use tower::{Layer, ServiceExt, service_fn};

/// The span of a handler that does this with its context.
async fn handled(work: impl Fn(&context::Context) + Clone + Send + 'static) -> Arc<SpanRecord> {
    let spans = Spans::new();
    let service = TraceLayer::server(spans.clone()).layer(service_fn(move |_: Request<()>| {
        work(&context::current().unwrap());
        async { Ok::<_, std::convert::Infallible>(answer(200)) }
    }));
    drop(service.oneshot(get("/", &[])).await);
    spans.latest(1)[0].clone()
}

#[tokio::test]
async fn a_span_has_64_attributes_and_counts_the_others() {
    let span = handled(|context| (0..100).for_each(|n| context.set_attribute(format!("n{n}"), n))).await;
    assert_eq!(span.attributes.len(), 64);
    let own = span.attributes.iter().filter(|(key, _)| !key.starts_with('n') || key.starts_with("net")).count();
    assert_eq!(span.dropped_attributes as usize, 100 - (64 - own));
    assert_eq!(attribute(&span, "http.request.method").unwrap(), "GET", "the conventions come first");
}

#[tokio::test]
async fn values_are_cut_at_256_characters_and_counted() {
    let span = handled(|context| {
        context.set_attribute("long", "é".repeat(257));
        context.set_attribute("fits", "é".repeat(256));
        context.set_name("n".repeat(300));
    })
    .await;
    assert_eq!(attribute(&span, "long").unwrap().chars().count(), 256);
    assert_eq!(attribute(&span, "fits").unwrap().chars().count(), 256);
    assert_eq!(span.name.len(), 256);
    assert_eq!(span.cut_values, 2);
}

#[tokio::test]
async fn captured_headers_and_targets_are_cut_too() {
    let long = "x".repeat(1000);
    let capture = Capture::new().request_header(HeaderName::from_static("x-long"));
    let request = get(&format!("/{long}?{long}"), &[("x-long", &long), ("user-agent", &long)]);
    let span = span_of(|spans| TraceLayer::server(spans).capture(capture), request, answer(200)).await;
    assert_eq!(attribute(&span, "url.path").unwrap().len(), 256);
    assert_eq!(attribute(&span, "url.query").unwrap().len(), 256);
    assert_eq!(attribute(&span, "user_agent.original").unwrap().len(), 256);
    assert_eq!(attribute(&span, "http.request.header.x-long").unwrap().len(), 256 + "[\"\"]".len());
    assert_eq!(span.cut_values, 4);
}

#[tokio::test]
async fn a_header_of_many_values_is_cut_after_64_of_them() {
    let capture = Capture::new().request_header(HeaderName::from_static("x-many"));
    let request = get("/", &[("x-many", "v"); 100]);
    let span = span_of(|spans| TraceLayer::server(spans).capture(capture), request, answer(200)).await;
    assert_eq!(attribute(&span, "http.request.header.x-many").unwrap().matches("\"v\"").count(), 64);
    assert_eq!(span.cut_values, 1);
}

#[tokio::test]
async fn a_span_has_128_events_and_counts_the_others() {
    let span = handled(|context| (0..200).for_each(|n| context.add_event("tick", [("n", n)]))).await;
    assert_eq!((span.events.len(), span.dropped_events), (128, 72));
}

#[tokio::test]
async fn attributes_of_events_have_the_same_limits() {
    let span = handled(|context| {
        context.add_event("many", (0..70).map(|n| (format!("n{n}"), n)));
        context.add_event("long", [("text", "x".repeat(300))]);
    })
    .await;
    assert_eq!((span.events[0].attributes.len(), span.events[0].dropped_attributes), (64, 6));
    assert_eq!(span.events[1].attributes[0].1.to_string().len(), 256);
    assert_eq!(span.cut_values, 1);
}

#[tokio::test]
async fn what_was_lost_is_told_in_json() {
    let span = handled(|context| {
        (0..200).for_each(|n| context.set_attribute(format!("n{n}"), "x".repeat(300)));
        (0..129).for_each(|_| context.add_event("tick", [("n", 1)]));
    })
    .await;
    let json = serde_json::to_value(&*span).unwrap();
    for key in ["droppedAttributesCount", "cutValuesCount", "droppedEventsCount"] {
        assert!(json[key].as_u64().unwrap() > 0, "{key}");
    }
    let clean = serde_json::to_value(&*handled(|_| ()).await).unwrap();
    assert!(clean.get("droppedAttributesCount").is_none());
}

fn record(spans: &Spans, name: impl Into<std::borrow::Cow<'static, str>>) {
    drop(Connection::open(name, spans));
}

fn names(spans: &Spans, count: usize) -> Vec<String> {
    spans.latest(count).iter().map(|span| span.name.to_string()).collect()
}

#[test]
fn the_ring_keeps_the_latest_and_gives_the_newest_first() {
    let spans = Spans::with_capacity(64, 3);
    for n in 1..=5 {
        record(&spans, format!("span {n}"));
    }
    assert_eq!(names(&spans, 2), ["span 5", "span 4"]);
    assert_eq!(names(&spans, 9), ["span 5", "span 4", "span 3"]);
}

#[test]
fn a_span_that_leaves_the_ring_stays_as_it_is_for_who_holds_it_and_leaves_the_next_one_nothing() {
    let spans = Spans::with_capacity(64, 1);
    let finished = |name: &'static str, attribute: Option<&'static str>| {
        let running = Operation::new(name, &spans).begin();
        if let Some(attribute) = attribute {
            running.context().unwrap().set_attribute(attribute, name);
        }
        running.succeed();
        spans.latest(1)[0].clone()
    };
    // Nobody holds it when the next one comes; whoever holds that one keeps it.
    drop(finished("forgotten", Some("old")));
    let held = finished("held", Some("own"));
    let last = finished("last", None);
    assert_eq!((&*held.name, held.attribute("old"), held.attribute("own")), ("held", None, Some(&"held".into())));
    assert_eq!((&*last.name, last.attribute("own"), spans.latest(9).len()), ("last", None, 1));
}

#[test]
fn without_a_sink_recording_goes_on_and_the_newest_survive() {
    let spans = Spans::with_capacity(2, 10);
    for n in 1..=5 {
        record(&spans, format!("span {n}"));
    }
    assert_eq!(names(&spans, 9), ["span 5", "span 4"]);
    assert_eq!((spans.stats().recorded, spans.stats().exported), (5, 0));
}

#[tokio::test]
async fn flushing_without_a_sink_is_done_at_once() {
    assert_eq!(Spans::new().flush(Duration::ZERO).await, Ok(()));
}

/// Keeps the names of what it is given.
#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl Names {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl SpanSink for Names {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        self.0.lock().unwrap().extend(spans.iter().map(|span| span.name.to_string()));
    }
}

/// Stays in `export` until it is told to go on.
struct Stuck {
    arrived: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

impl SpanSink for Stuck {
    fn export(&self, _: &[Arc<SpanRecord>]) {
        let _ = self.arrived.lock().unwrap().send(());
        let _ = self.go_on.lock().unwrap().recv();
    }
}

/// A sink that is stuck in its first batch, and the end that lets it go on.
fn stuck(spans: &Spans) -> Sender<()> {
    let (arrived, arrival) = channel();
    let (go_on, told) = channel();
    spans.add_sink(Stuck { arrived: Mutex::new(arrived), go_on: Mutex::new(told) });
    record(spans, "first");
    arrival.recv().unwrap();
    go_on
}

#[test]
fn a_stuck_sink_loses_spans_but_never_holds_up_who_records_them() {
    let spans = Spans::with_capacity(4, 100);
    let go_on = stuck(&spans);
    for n in 0..10 {
        record(&spans, format!("span {n}"));
    }
    assert_eq!((spans.stats().recorded, spans.stats().dropped), (11, 6));
    drop(go_on);
}

#[tokio::test]
async fn flushing_gives_up_at_its_deadline() {
    let spans = Spans::new();
    let go_on = stuck(&spans);
    let error = spans.flush(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.to_string(), "not everything was delivered: the deadline passed");
    drop(go_on);
}

struct Panics(Arc<AtomicUsize>);

impl SpanSink for Panics {
    fn export(&self, _: &[Arc<SpanRecord>]) {
        self.0.fetch_add(1, Relaxed);
        panic!("a sink of somebody else");
    }
}

#[tokio::test]
async fn a_sink_that_panics_does_not_stop_the_others_nor_itself() {
    let (panics, names) = (Arc::new(AtomicUsize::new(0)), Arc::new(Names::default()));
    let spans = Spans::new().with_sink(Panics(panics.clone())).with_sink(names.clone());
    for round in 1..=2 {
        record(&spans, format!("span {round}"));
        spans.flush(Duration::from_secs(10)).await.unwrap();
    }
    assert_eq!(names.all(), ["span 1", "span 2"]);
    assert_eq!((panics.load(Relaxed), spans.stats().exported), (2, 2));
}

struct FlushFails;

impl SpanSink for FlushFails {
    fn export(&self, _: &[Arc<SpanRecord>]) {}

    fn flush(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        Box::pin(async { Err(FlushError::new("the collector is away")) })
    }
}

#[tokio::test]
async fn a_sink_that_cannot_deliver_fails_the_flush_after_the_others_had_theirs() {
    let names = Arc::new(Names::default());
    let spans = Spans::new().with_sink(FlushFails).with_sink(names.clone());
    record(&spans, "span");
    let error = spans.flush(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.to_string().contains("the collector is away"));
    assert_eq!(names.all(), ["span"]);
}

struct Tells(Mutex<Sender<String>>);

impl SpanSink for Tells {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        spans.iter().for_each(|span| self.0.lock().unwrap().send(span.name.to_string()).unwrap());
    }
}

#[test]
fn the_last_spans_reach_the_sinks_when_the_handle_is_dropped_without_a_flush() {
    let (tell, told) = channel();
    let spans = Spans::new().with_sink(Tells(Mutex::new(tell)));
    record(&spans, "last");
    drop(spans);
    assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), "last");
}

/// A disk that is full for a while, in the middle of a line.
#[derive(Clone, Default)]
struct Disk {
    written: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.full.load(Relaxed) {
            self.written.lock().unwrap().extend(bytes);
            return Ok(bytes.len());
        }
        let mut written = self.written.lock().unwrap();
        if written.ends_with(b"{half") {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        written.extend(b"{half");
        Ok(5)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn json_lines_count_what_a_full_disk_lost_and_go_on_on_a_line_of_their_own() {
    let disk = Disk::default();
    let sink = Arc::new(JsonLines::new(disk.clone()));
    let spans = Spans::new().with_sink(sink.clone());
    let write = async |name: &'static str| {
        record(&spans, name);
        spans.flush(Duration::from_secs(10)).await
    };
    assert_eq!(write("before").await, Ok(()));
    disk.full.store(true, Relaxed);
    let error = write("lost").await.unwrap_err();
    assert!(error.to_string().contains("1 spans could not be written"), "{error}");
    disk.full.store(false, Relaxed);
    let _ = write("after").await;

    let written = String::from_utf8(disk.written.lock().unwrap().clone()).unwrap();
    let spans: Vec<serde_json::Value> = written.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!((names, sink.failed()), (vec!["before", "after"], 1));
}

#[tokio::test]
async fn json_has_the_names_of_otlp() {
    let spans = Spans::new();
    exchange(TraceLayer::server(spans.clone()), get("/", &[]), answer(500)).await;
    let span = &spans.latest(1)[0];
    let json = serde_json::to_value(&**span).unwrap();
    assert_eq!(json["traceId"], span.trace_id.to_string());
    assert_eq!(json["spanId"], span.span_id.to_string());
    assert_eq!((json["kind"].as_u64(), json["status"]["code"].as_u64()), (Some(2), Some(2)));
    assert_eq!(json["startTimeUnixNano"], span.start_unix_nanos.to_string());
    assert_eq!(json["attributes"]["http.response.status_code"], 500);
    assert_eq!((json["outcome"].as_str(), json["ending"].as_str()), (Some("error"), Some("complete")));
    assert!(json.get("parentSpanId").is_none());
}
