//! What an attribute on a function costs a call, over the same function without it: ours, `tracing::instrument`, `fastrace::trace`.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin function [-- --json]`

#[path = "compare/forget.rs"]
mod forget;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use buttress::Telemetry;
use buttress::settings::Settings;
use buttress::trace::Sampler;
use buttress_benches::subject::{Body, Subject};
use buttress_benches::{Counting, allocations, count, finish, print, time};
use buttress_otel::ExportSink;
use fastrace::prelude::{Span, SpanContext};
use forget::Forget;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Runtime;
use tracing_subscriber::layer::SubscriberExt;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls at a time, below one parent; then their spans are taken away.
const CALLS: usize = 512;
const COUNTED: usize = 1 << 12;
const ROUNDS: usize = 40;

type Charged = Result<u64, std::io::Error>;

/// The same two functions, with or without something on them.
macro_rules! charges {
    ($name:ident, $id:ident $(, #[$attribute:meta])?) => {
        mod $name {
            use super::Charged;

            $(#[$attribute])?
            #[inline(never)]
            pub fn charge($id: u64) -> Charged {
                Ok(std::hint::black_box($id) + 1)
            }

            $(#[$attribute])?
            pub async fn charge_later($id: u64) -> Charged {
                Ok(std::hint::black_box($id) + 1)
            }
        }
    };
}

charges!(bare, id);
charges!(ours, id, #[buttress::observe(name = "charge", fields(id))]);
charges!(by_tracing, id, #[tracing::instrument(name = "charge", skip_all, fields(id))]);
charges!(by_fastrace, id, #[fastrace::trace(name = "charge", properties = { "id": "{id}" })]);

/// One of them, called so often.
type Calls = fn(usize);

macro_rules! calls {
    ($name:ident) => {
        [
            |times| (0..times as u64).for_each(|id| drop(black_box($name::charge(black_box(id))))),
            |times| (0..times as u64).for_each(|id| drop(black_box(finish($name::charge_later(black_box(id)))))),
        ]
    };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Unsampled,
    Sampled,
}

type Settle = Box<dyn Fn() + Sync>;
/// Makes what is called below a parent.
type Below = Box<dyn Fn(&mut dyn FnMut()) + Sync>;

struct Row {
    name: String,
    subject: &'static str,
    calls: Calls,
    mode: Mode,
    install: fn(Mode) -> (Below, Settle),
}

struct Called {
    calls: Calls,
    below: Below,
    settle: Settle,
}

impl Subject for Called {
    fn name(&self) -> &'static str {
        "function"
    }

    fn enter(&self, body: &mut Body<'_>) {
        body(&mut |times| (self.below)(&mut || (self.calls)(times)));
    }

    fn settle(&self) {
        (self.settle)();
    }
}

fn rows() -> Vec<Row> {
    let subjects: [(&str, [Calls; 2], fn(Mode) -> (Below, Settle)); 6] = [
        ("bare", calls!(bare), |_| nothing()),
        ("buttress", calls!(ours), |mode| buttress(mode, "")),
        ("buttress, spans only", calls!(ours), |mode| buttress(mode, "BUTTRESS_METRICS_ENABLED")),
        ("buttress, not installed", calls!(ours), |_| nothing()),
        ("tracing", calls!(by_tracing), tracing_opentelemetry),
        ("fastrace", calls!(by_fastrace), fastrace),
    ];
    let mut rows = Vec::new();
    for (nth, kind) in ["function", "async_function"].into_iter().enumerate() {
        for (mode, text) in [(Mode::Off, "off"), (Mode::Unsampled, "unsampled"), (Mode::Sampled, "sampled")] {
            for (subject, calls, install) in subjects {
                let is_only_off = ["bare", "buttress, not installed"].contains(&subject);
                if mode == Mode::Off && subject != "buttress, spans only" || mode != Mode::Off && !is_only_off {
                    rows.push(Row { name: format!("{kind}.{text}"), subject, calls: calls[nth], mode, install });
                }
            }
        }
    }
    rows
}

fn nothing() -> (Below, Settle) {
    (Box::new(|run| run()), Box::new(|| {}))
}

/// `without` is the setting that is false.
fn buttress(mode: Mode, without: &'static str) -> (Below, Settle) {
    let without = if mode == Mode::Off { "BUTTRESS_ENABLED" } else { without };
    let settings = Settings::read("bench", |name| (name == without).then(|| "false".to_owned()));
    let runtime = Runtime::new().expect("there are threads");
    let sink = runtime.block_on(async { ExportSink::new(Forget, Resource::builder_empty().build()) });
    let sampler = if mode == Mode::Sampled { Sampler::always_on() } else { Sampler::always_off() };
    let telemetry = Telemetry::new(settings.expect("the settings are fine")).with_sink(sink).with_sampler(sampler);
    telemetry.install().expect("each row has a process of its own");
    let (spans, parent) = (telemetry.spans().clone(), telemetry.operation("request").infallible());
    let settle = move || runtime.block_on(spans.flush(Duration::from_secs(60))).expect("nothing is slow");
    (Box::new(move |run| parent.call(run)), Box::new(settle))
}

fn tracing_opentelemetry(mode: Mode) -> (Below, Settle) {
    use opentelemetry_sdk::trace::Sampler;
    if mode == Mode::Off {
        return nothing();
    }
    let sampler = if mode == Mode::Sampled { Sampler::AlwaysOn } else { Sampler::AlwaysOff };
    let provider = SdkTracerProvider::builder().with_sampler(sampler).with_batch_exporter(Forget).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("function"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .expect("each row has a process of its own");
    let settle = move || provider.force_flush().expect("the exporter forgets at once");
    (Box::new(|run| tracing::info_span!("request").in_scope(run)), Box::new(settle))
}

fn fastrace(mode: Mode) -> (Below, Settle) {
    if mode == Mode::Off {
        return nothing();
    }
    let resource = Cow::Owned(Resource::builder_empty().build());
    let scope = InstrumentationScope::builder("function").build();
    let reporter = fastrace_opentelemetry::OpenTelemetryReporter::new(Forget, resource, scope);
    fastrace::set_reporter(reporter, fastrace::collector::Config::default());
    let below = move |run: &mut dyn FnMut()| {
        let root = Span::root("request", SpanContext::random().sampled(mode == Mode::Sampled));
        let _parent = root.set_local_parent();
        run();
    };
    (Box::new(below), Box::new(fastrace::flush))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--count", name, subject] => count::child(&made(name, subject), CALLS, COUNTED / CALLS),
        ["--measure", name, subject] => measure(&made(name, subject)),
        others => table(others.contains(&"--json")),
    }
}

fn made(name: &str, subject: &str) -> Called {
    let row = rows().into_iter().find(|row| row.name == name && row.subject == subject).expect("there is such a row");
    let (below, settle) = (row.install)(row.mode);
    Called { calls: row.calls, below, settle }
}

/// In a child: allocations and nanoseconds of a call.
fn measure(subject: &Called) {
    let mut nanos = Vec::new();
    for _ in 0..ROUNDS {
        nanos.extend(time::alone(subject, CALLS, CALLS));
        subject.settle();
    }
    let mut counted = 0;
    subject.enter(&mut |work| counted = allocations(|| work(CALLS)));
    println!("{} {}", counted as f64 / CALLS as f64, time::least(&nanos));
}

/// Each row in processes of its own, which take turns.
fn table(json: bool) {
    let rows = rows();
    let mut figures: Vec<[f64; 2]> = vec![[f64::INFINITY; 2]; rows.len()];
    for _ in 0..5 {
        for (row, figures) in rows.iter().zip(&mut figures) {
            let told = measured(row);
            (0..2).for_each(|nth| figures[nth] = figures[nth].min(told[nth]));
        }
    }
    let mut bare: HashMap<&str, [f64; 3]> = HashMap::new();
    for (row, [allocations, nanos]) in rows.iter().zip(figures) {
        let instructions = count::instructions(&["--count", &row.name, row.subject], COUNTED).unwrap_or(f64::NAN);
        let (kind, all) = (row.name.split('.').next().unwrap_or_default(), [instructions, allocations, nanos]);
        if row.subject == "bare" {
            bare.insert(kind, all);
            continue;
        }
        for (nth, unit) in ["instructions", "allocations", "ns"].into_iter().enumerate() {
            print(json, &format!("{}.{unit}", row.name), row.subject, all[nth] - bare[kind][nth], unit, None);
        }
    }
}

fn measured(row: &Row) -> [f64; 2] {
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new(this).args(["--measure", &row.name, row.subject]).output().expect("it starts once more");
    let told = String::from_utf8_lossy(&output.stdout);
    let mut numbers = told.split_whitespace().map(|number| number.parse().expect("the child answers with numbers"));
    std::array::from_fn(|_| numbers.next().expect("the child answers with two numbers"))
}
