//! What the peers want installed for the whole process.

use std::borrow::Cow;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;

/// Where spans are kept until they are exported in batches.
pub enum Spans {
    Sdk(SdkTracerProvider),
    Fastrace,
}

impl Spans {
    /// The SDK of OpenTelemetry with a processor that makes batches.
    pub fn of_the_sdk(exporter: impl SpanExporter + 'static) -> Self {
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
        global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]));
        global::set_tracer_provider(provider.clone());
        Self::Sdk(provider)
    }

    /// The same behind `tracing`.
    pub fn through_tracing(exporter: impl SpanExporter + 'static) -> Self {
        let spans = Self::of_the_sdk(exporter);
        if let Self::Sdk(provider) = &spans {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("compare"));
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
                .expect("each row has a process of its own");
        }
        spans
    }

    pub fn of_fastrace(exporter: impl SpanExporter + 'static) -> Self {
        let resource = Cow::Owned(Resource::builder_empty().build());
        let scope = InstrumentationScope::builder("compare").build();
        let reporter = fastrace_opentelemetry::OpenTelemetryReporter::new(exporter, resource, scope);
        fastrace::set_reporter(reporter, fastrace::collector::Config::default());
        Self::Fastrace
    }

    /// Has them exported.
    pub fn settle(&self) {
        match self {
            Self::Sdk(provider) => provider.force_flush().expect("the exporter forgets at once"),
            Self::Fastrace => fastrace::flush(),
        }
    }
}

/// Of a provider that is read by hand, which nobody does.
pub fn meter() -> Meter {
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build();
    global::set_meter_provider(provider.clone());
    provider.meter("compare")
}
