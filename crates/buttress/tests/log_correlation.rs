//! Ids on log lines, whatever writes the lines: nothing but `log_fields`, a logger of `log`, each format of
//! `tracing-subscriber`. Row P11. What a format does with them in detail: `log_lines.rs`.
#![cfg(all(feature = "log", feature = "tracing-subscriber", feature = "trace"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use buttress::context::{self, Context, ContextFormat, Correlated};
use buttress::trace::{Operation, Sampler, Spans, TraceLayer};
use http::{Request, Response};
use log::{Level, LevelFilter, Log, Record};
use tower::{Layer, ServiceExt, service_fn};
use tracing::dispatcher::with_default;
use tracing_subscriber::fmt::format::{self, JsonFields};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn taken(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// Writes one line of the message.
type Say = Box<dyn Fn(&str) + Send + Sync>;

/// `env_logger`, which writes key-values behind the message.
fn env_logger(lines: &Lines, form: fn(env_logger::Logger) -> Correlated<env_logger::Logger>) -> Say {
    let target = env_logger::Target::Pipe(Box::new(lines.clone()));
    let inner = env_logger::Builder::new().filter_level(LevelFilter::Info).target(target).build();
    let logger = form(inner);
    Box::new(move |message| {
        logger.log(&Record::builder().level(Level::Info).target("shop").args(format_args!("{message}")).build());
    })
}

fn tracing<S: tracing::Subscriber + Send + Sync + 'static>(subscriber: S) -> Say {
    let dispatch = tracing::Dispatch::new(subscriber);
    Box::new(move |message| with_default(&dispatch, || tracing::info!("{message}")))
}

/// Each way to write a line.
fn ways(lines: &Lines) -> Vec<(&'static str, Say)> {
    let plain = lines.clone();
    let writer = || {
        let lines = lines.clone();
        move || lines.clone()
    };
    let text = || tracing_subscriber::fmt().with_ansi(false).with_writer(writer());
    let json = text().event_format(ContextFormat::json(format::format().json())).fmt_fields(JsonFields::new());
    vec![
        ("plain", Box::new(move |message| writeln!(plain.clone(), "{message} {}", context::log_fields()).unwrap())),
        ("log, text", env_logger(lines, Correlated::text)),
        ("log, key-values", env_logger(lines, Correlated::key_values)),
        ("full", tracing(text().event_format(ContextFormat::text(format::format())).finish())),
        ("compact", tracing(text().event_format(ContextFormat::text(format::format().compact())).finish())),
        ("pretty", tracing(text().event_format(ContextFormat::text(format::format().pretty())).finish())),
        ("JSON", tracing(json.finish())),
    ]
}

/// Whether a line, or a record of several, has these ids.
fn has(line: &str, context: &Context) -> bool {
    let (trace_id, span_id) = (context.trace_id(), context.span_id());
    line.contains(&format!("trace_id={trace_id} span_id={span_id}"))
        || line.contains(&format!(r#""trace_id":"{trace_id}","span_id":"{span_id}""#))
}

#[tokio::test]
async fn a_line_of_a_request_has_its_ids_sampled_or_not() {
    let lines = Lines::default();
    for (name, say) in ways(&lines) {
        let say = Arc::new(say);
        for sampler in [Sampler::always_on(), Sampler::always_off()] {
            let (said, seen) = (Arc::clone(&say), Arc::new(Mutex::new(None)));
            let handler = Arc::clone(&seen);
            let layer = TraceLayer::server(Spans::new()).sampler(sampler.clone());
            let service = layer.layer(service_fn(move |_: Request<()>| {
                said("order placed");
                *handler.lock().unwrap() = context::current();
                async { Ok::<_, Infallible>(Response::new(String::new())) }
            }));
            service.oneshot(Request::new(())).await.unwrap();
            let request = seen.lock().unwrap().clone().unwrap();
            let line = lines.taken();
            assert!(line.contains("order placed"), "{name}, {sampler:?}: {line}");
            assert!(has(&line, &request), "{name}, {sampler:?}: {line}");
        }
    }
}

#[test]
fn a_line_of_an_operation_has_the_ids_of_the_operation_sampled_or_not() {
    let lines = Lines::default();
    for (name, say) in ways(&lines) {
        for sampler in [Sampler::always_on(), Sampler::always_off()] {
            let spans = Spans::new();
            let request = Context::root();
            let (operation, after) = request.clone().enter(|| {
                let charge = Operation::new("charge", &spans).sampler(sampler.clone()).infallible();
                let operation = charge.call(|| {
                    say("inside");
                    context::current().unwrap()
                });
                let inside = lines.taken();
                assert!(has(&inside, &operation), "{name}, {sampler:?}: {inside}");
                say("after");
                (operation, lines.taken())
            });
            assert_eq!(operation.trace_id(), request.trace_id());
            assert_ne!(operation.span_id(), request.span_id());
            assert!(has(&after, &request), "{name}, {sampler:?}: {after}");
        }
    }
}

#[test]
fn a_line_outside_of_everything_has_no_ids() {
    let lines = Lines::default();
    for (name, say) in ways(&lines) {
        say("started");
        let line = lines.taken();
        assert!(line.contains("started") && !line.contains("trace_id") && !line.contains("span_id"), "{name}: {line}");
    }
}

/// Keeps the key-values of the last record.
#[derive(Default)]
struct KeyValues(Mutex<Vec<(String, String)>>);

impl Log for &KeyValues {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        struct Collect(Vec<(String, String)>);
        impl<'kvs> log::kv::VisitSource<'kvs> for Collect {
            fn visit_pair(
                &mut self,
                key: log::kv::Key<'kvs>,
                value: log::kv::Value<'kvs>,
            ) -> Result<(), log::kv::Error> {
                self.0.push((key.to_string(), value.to_string()));
                Ok(())
            }
        }
        let mut collected = Collect(Vec::new());
        record.key_values().visit(&mut collected).unwrap();
        assert_eq!(record.key_values().count(), collected.0.len());
        let found = record.key_values().get("trace_id".into()).map(|value| value.to_string());
        assert_eq!(found.as_ref(), collected.0.iter().find(|(key, _)| key == "trace_id").map(|(_, value)| value));
        *self.0.lock().unwrap() = collected.0;
    }

    fn flush(&self) {}
}

#[test]
fn a_record_keeps_its_own_key_values_behind_the_ids() {
    let kept = KeyValues::default();
    let logger = Correlated::key_values(&kept);
    let own = [("room", 7)];
    let say = || logger.log(&Record::builder().args(format_args!("joined")).key_values(&own).build());
    let context = Context::root();
    context.enter(say);
    let ids = [("trace_id", context.trace_id().to_string()), ("span_id", context.span_id().to_string())];
    let expected: Vec<_> = ids.into_iter().chain([("room", "7".to_owned())]).collect();
    let seen = kept.0.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|(key, value)| (key.as_str(), value.clone())).collect::<Vec<_>>(), expected);
    say();
    assert_eq!(*kept.0.lock().unwrap(), [("room".to_owned(), "7".to_owned())]);
}

#[test]
fn the_inner_logger_says_what_is_written() {
    let kept = KeyValues::default();
    let logger = Correlated::text(&kept);
    let of = |level| log::Metadata::builder().level(level).build();
    assert!(logger.enabled(&of(Level::Info)) && !logger.enabled(&of(Level::Debug)));
}
