//! Trace ids on the lines of `tracing-subscriber`: row P11.
#![cfg(feature = "tracing-subscriber")]

use std::io;
use std::sync::{Arc, Mutex};

use buttress::context::{Context, ContextFormat, TraceContext, TraceFlags};
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{self, JsonFields};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with the lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What the subscriber, given where to write, writes while the work runs.
fn written<S: Subscriber + Send + Sync>(subscriber: impl FnOnce(Lines) -> S, work: impl FnOnce()) -> String {
    let lines = Lines::default();
    tracing::subscriber::with_default(subscriber(lines.clone()), work);
    let bytes = lines.0.lock().expect("nobody panics with the lock");
    String::from_utf8(bytes.clone()).expect("lines are text")
}

fn text(lines: Lines) -> impl Subscriber + Send + Sync {
    let format = ContextFormat::text(format().without_time());
    tracing_subscriber::fmt().with_ansi(false).event_format(format).with_writer(lines).finish()
}

fn json(lines: Lines) -> impl Subscriber + Send + Sync {
    let format = ContextFormat::json(format().json().without_time());
    tracing_subscriber::fmt().event_format(format).fmt_fields(JsonFields::new()).with_writer(lines).finish()
}

/// JSON lines of nothing but the fields of an event.
fn bare_json(lines: Lines) -> impl Subscriber + Send + Sync {
    let bare = format().json().without_time().with_level(false).with_target(false).flatten_event(true);
    let bare = bare.with_current_span(false).with_span_list(false);
    let format = ContextFormat::json(bare);
    tracing_subscriber::fmt().event_format(format).fmt_fields(JsonFields::new()).with_writer(lines).finish()
}

fn format() -> format::Format {
    format::format()
}

fn context(flags: TraceFlags) -> Context {
    Context::from_trace(TraceContext { flags, ..TraceContext::random() })
}

/// The ids as a JSON line has them.
fn members(context: &Context) -> String {
    format!(r#""trace_id":"{}","span_id":"{}""#, context.trace_id(), context.span_id())
}

#[test]
fn a_text_line_starts_with_the_ids() {
    let context = context(TraceFlags::SAMPLED);
    let line = written(text, || context.enter(|| tracing::info!(room = 7, "joined")));
    let ids = format!("trace_id={} span_id={} ", context.trace_id(), context.span_id());
    assert_eq!(line, format!("{ids} INFO log_lines: joined room=7\n"));
}

#[test]
fn a_text_line_of_an_unsampled_request_has_the_ids() {
    let context = context(TraceFlags::NONE);
    let line = written(text, || context.enter(|| tracing::info!("joined")));
    assert!(line.starts_with(&format!("trace_id={} span_id={} ", context.trace_id(), context.span_id())), "{line}");
}

#[test]
fn a_json_line_has_the_ids_in_front() {
    let context = context(TraceFlags::SAMPLED);
    let line = written(json, || context.enter(|| tracing::info!(room = 7, "joined")));
    let rest = r#""level":"INFO","fields":{"message":"joined","room":7},"target":"log_lines""#;
    assert_eq!(line, format!("{{{},{rest}}}\n", members(&context)));
}

#[test]
fn a_json_line_of_an_unsampled_request_has_the_ids() {
    let context = context(TraceFlags::NONE);
    let line = written(json, || context.enter(|| tracing::info!("joined")));
    assert!(line.starts_with(&format!("{{{},", members(&context))), "{line}");
}

#[test]
fn a_json_line_with_nothing_but_the_ids_is_still_json() {
    let context = context(TraceFlags::NONE);
    let line = written(bare_json, || context.enter(|| tracing::info!({})));
    assert_eq!(line, format!("{{{}}}\n", members(&context)));
}

#[test]
fn lines_outside_of_everything_are_as_the_inner_format_writes_them() {
    let work = || tracing::info!("started");
    assert_eq!(written(text, work), " INFO log_lines: started\n");
    assert_eq!(
        written(json, work),
        "{\"level\":\"INFO\",\"fields\":{\"message\":\"started\"},\"target\":\"log_lines\"}\n"
    );
}

#[test]
fn a_line_within_a_tracing_span_has_the_ids_too() {
    let context = context(TraceFlags::NONE);
    let line = written(json, || {
        context.enter(|| tracing::info_span!("join", room = 7).in_scope(|| tracing::info!("joined")));
    });
    assert!(line.starts_with(&format!("{{{},", members(&context))), "{line}");
    assert!(line.contains(r#""span":{"room":7,"name":"join"}"#), "{line}");
}

#[test]
fn each_line_has_the_ids_of_the_context_it_was_written_in() {
    let (outer, inner) = (context(TraceFlags::NONE), context(TraceFlags::NONE));
    let lines = written(text, || {
        outer.enter(|| {
            inner.enter(|| tracing::info!("inner"));
            tracing::info!("outer");
        });
        tracing::info!("outside");
    });
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].contains(&inner.span_id().to_string()));
    assert!(lines[1].contains(&outer.span_id().to_string()));
    assert!(!lines[2].contains("trace_id"));
}

#[tokio::test]
async fn a_line_written_by_a_cancelled_future_has_the_ids() {
    struct Says;
    impl Drop for Says {
        fn drop(&mut self) {
            tracing::info!("cancelled");
        }
    }
    let context = context(TraceFlags::NONE);
    let says = Says;
    let scope = context.clone().scope(async move { drop(says) });
    let line = written(text, || drop(scope));
    assert!(line.contains(&context.span_id().to_string()), "{line}");
}
