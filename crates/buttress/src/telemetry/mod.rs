//! The handle that ties the parts together, for who wants them in three lines.

mod client;
#[cfg(feature = "macros")]
mod installed;
mod operations;
mod own;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::classify::HttpClassifier;
use crate::metrics::source::{ProcessSource, RuntimeMonitor};
use crate::metrics::{
    MetricsEndpoint, Performance, Registry, RequestBodySizeLayer, RequestMetrics, RequestMetricsLayer,
};
use crate::observe::ObserveLayer;
use crate::propagate::{B3, Hosts, InjectLayer, Propagate, PropagateLayer, TrustPolicy};
use crate::settings::{Exporter, Settings, SettingsError, TrustName};
use crate::signal::Signals;
use crate::stack::ClientStack;
use crate::trace::{
    Flow, Flows, FlushError, JsonLines, Operation, Sampler, SpanRecord, SpanSink, Spans, Trace, TraceLayer,
};

use operations::OperationMetrics;

#[cfg(feature = "macros")]
pub use installed::AlreadyInstalled;
#[cfg(feature = "macros")]
pub(crate) use installed::installed;

pub use client::{ClientLayer, ClientObserver, ClientService, WatchedClient};

/// Everything of one service: its settings, its spans, its layers. Clones share everything.
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress::Telemetry;
///
/// let telemetry = Telemetry::from_env("storefront")?;
/// let app: Router = Router::new().route("/orders", get(async || "none yet")).layer(telemetry.server());
/// # Ok::<(), buttress::settings::SettingsError>(())
/// ```
#[derive(Clone)]
pub struct Telemetry {
    settings: Arc<Settings>,
    sampler: Sampler,
    spans: Spans,
    metrics: Registry,
    signals: Signals,
    report: Option<Arc<OperationMetrics>>,
    flows: Flows,
    runtime: Arc<OnceLock<RuntimeMonitor>>,
    flushes: Arc<Mutex<Vec<Arc<dyn Flush>>>>,
}

/// Something besides spans that has to be delivered before the program ends: metrics, jobs, alerts.
pub trait Flush: Send + Sync + 'static {
    /// Resolves when everything so far has been delivered or given up.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when some of it could not be delivered.
    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>>;
}

/// Propagation, tracing and metrics of a server in one look at each request.
pub type ServerLayer = ObserveLayer<(Propagate, Trace, Option<RequestMetrics>), HttpClassifier>;

impl Telemetry {
    /// A service of this name, with the settings of the environment. Variables that are set without effect are told on
    /// standard error, a line for each: whoever wants them elsewhere reads [`Settings::warnings`] and calls
    /// [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for a variable whose value is not accepted.
    pub fn from_env(service_name: &str) -> Result<Self, SettingsError> {
        let settings = Settings::from_env(service_name)?;
        settings.warnings().for_each(|warning| eprintln!("buttress: {warning}"));
        Ok(Self::new(settings))
    }

    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        let spans = Spans::with_capacity(settings.span_queue.value, settings.span_ring.value);
        if settings.enabled.value && settings.traces_exporter.value == Exporter::Console {
            spans.add_sink(JsonLines::new(io::stdout()));
        }
        let metrics = Registry::with_config(settings.metrics_config());
        if settings.measures() {
            own::report(&spans, &metrics);
            metrics.add_source(ProcessSource::new(&metrics));
            metrics.start_ticking();
        }
        let report = settings.measures().then(|| Arc::new(OperationMetrics::new(&metrics)));
        let sampler = settings.sampler();
        let enabled = settings.enabled.value;
        let flows = Flows::new(&spans).sampler(sampler.clone()).enabled(enabled).reported_to(operations::told(&report));
        if settings.measures() {
            let flows = flows.clone();
            metrics.add_source(move |_now| flows.expire());
        }
        let this = Self {
            sampler,
            settings: Arc::new(settings),
            spans,
            metrics,
            signals: Signals::new(),
            report,
            flows,
            runtime: Arc::default(),
            flushes: Arc::default(),
        };
        this.watch_runtime();
        this
    }

    /// Samples servers and clients with this in place of the sampler of the settings, which can be one of its parts:
    ///
    /// ```
    /// use buttress::Telemetry;
    /// use buttress::observe::When;
    /// use buttress::trace::Sampler;
    ///
    /// let telemetry = Telemetry::from_env("storefront")?;
    /// let quiet = [(When::path("/healthz"), Sampler::always_off())];
    /// let sampler = Sampler::rules(quiet, telemetry.settings().sampler());
    /// let telemetry = telemetry.with_sampler(sampler);
    /// # let _ = telemetry;
    /// # Ok::<(), buttress::settings::SettingsError>(())
    /// ```
    #[must_use]
    pub fn with_sampler(mut self, sampler: Sampler) -> Self {
        self.flows = self.flows.sampler(sampler.clone());
        self.sampler = sampler;
        self
    }

    /// Adds a sink for finished spans.
    #[must_use]
    pub fn with_sink(self, sink: impl SpanSink) -> Self {
        self.spans.add_sink(sink);
        self
    }

    /// Has this delivered at [`shutdown`](Self::shutdown) too, and keeps it until then.
    #[must_use]
    pub fn with_flush(self, flush: impl Flush) -> Self {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(flush));
        self
    }

    /// The layer of a server: propagation, tracing and metrics, fused.
    pub fn server(&self) -> ServerLayer {
        self.watch_runtime();
        let metrics = self.settings.measures().then(|| self.request_metrics().observer());
        ObserveLayer::server((self.propagate().observer(), self.trace().observer(), metrics))
            .enabled(self.settings.enabled.value)
    }

    /// The propagation of [`server`](Self::server), to be changed and stacked by hand.
    pub fn propagate(&self) -> PropagateLayer {
        let Settings { propagators, trust, server_timing, enabled, .. } = &*self.settings;
        let propagators = propagators.value;
        let mut policy = match trust.value {
            TrustName::Internal => TrustPolicy::internal(),
            TrustName::Public => TrustPolicy::public(),
        };
        if !propagators.baggage {
            policy = policy.baggage(crate::propagate::BaggageTrust::Nothing);
        }
        PropagateLayer::new()
            .trust(policy)
            .tracecontext(propagators.tracecontext)
            .b3(propagators.b3 || propagators.b3multi)
            .server_timing(server_timing.value)
            .enabled(enabled.value)
    }

    /// The tracing of [`server`](Self::server), to be changed and stacked by hand.
    pub fn trace(&self) -> TraceLayer {
        TraceLayer::server(self.spans.clone())
            .sampler(self.sampler.clone())
            .known_methods(self.settings.known_methods.value.clone())
            .enabled(self.settings.enabled.value)
    }

    /// The metrics of [`server`](Self::server), to be changed and stacked by hand.
    pub fn request_metrics(&self) -> RequestMetricsLayer {
        RequestMetricsLayer::server(&self.metrics)
            .known_methods(self.settings.known_methods.value.clone())
            .enabled(self.settings.measures())
    }

    /// Counts what is read of requests' bodies; belongs right around the handlers, inside of [`server`](Self::server).
    pub fn request_body_sizes(&self) -> RequestBodySizeLayer {
        RequestBodySizeLayer::like(&self.request_metrics())
    }

    /// The stack of a client that calls the service `name`: retries within a budget, a circuit, and for each attempt a
    /// span, metrics, and its context in the headers.
    ///
    /// ```
    /// use buttress::Telemetry;
    /// use buttress::circuit_breaker::preset;
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{Empty, Full};
    /// use tower::{BoxError, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let telemetry = Telemetry::from_env("storefront")?;
    /// let http = service_fn(async |_| Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("charged"))));
    /// let payments = telemetry.client("payments").preset(preset::PAYMENT_API).service(http);
    /// let charge = Request::put("http://payments/charges/7").body(Empty::<Bytes>::new())?;
    /// assert_eq!(payments.oneshot(charge).await?.status(), 200);
    /// # Ok(()) }
    /// ```
    ///
    /// `name` is told as `server.address` for requests that do not name their server, as in front of a tonic channel. What
    /// circuit and retries do is among the [metrics](Self::metrics) and the [signals](Self::signals).
    pub fn client(&self, name: &str) -> ClientStack<ClientLayer> {
        let stack = ClientStack::new(name).signals(self.signals.clone()).observed_by(self.watched_client(name));
        if !self.settings.measures() {
            return stack;
        }
        let metrics = self.metrics.clone();
        stack.reported_by(move |circuits, retries| {
            circuits.report(&metrics);
            retries.report(&metrics);
        })
    }

    /// What [`client`](Self::client) sees, without what it does: a span and metrics for each request, and its context in
    /// the headers.
    pub fn watched_client(&self, name: &str) -> ClientLayer {
        let propagators = self.settings.propagators.value;
        let allow = |wanted: bool| if wanted { Hosts::any() } else { Hosts::none() };
        let mut inject =
            InjectLayer::new().tracecontext(propagators.tracecontext).baggage(allow(propagators.baggage)).host(name);
        if propagators.b3 {
            inject = inject.b3(B3::Single);
        }
        if propagators.b3multi {
            inject = inject.b3(B3::Multi);
        }
        let known = &self.settings.known_methods.value;
        let trace = TraceLayer::client(self.spans.clone())
            .sampler(self.sampler.clone())
            .known_methods(known.clone())
            .server_authority(name);
        let metrics = RequestMetricsLayer::client(&self.metrics).known_methods(known.clone()).server_authority(name);
        let metrics = self.settings.measures().then_some(metrics);
        ClientLayer { trace, metrics, inject, enabled: self.settings.enabled.value }
    }

    /// Work that is no request, with a span for each run, its duration in `buttress.operation.duration` and the number of
    /// those under way in `buttress.operation.active`.
    ///
    /// ```
    /// use buttress::Telemetry;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let telemetry = Telemetry::from_env("storefront")?;
    /// let charge = async { Ok::<_, std::io::Error>(17) };
    /// let id = telemetry.operation("charge").run(charge).await?;
    /// # assert_eq!(id, 17);
    /// # Ok(()) }
    /// ```
    pub fn operation(&self, name: impl Into<Cow<'static, str>>) -> Operation {
        Operation::new(name, &self.spans)
            .sampler(self.sampler.clone())
            .enabled(self.settings.enabled.value)
            .reported_to(operations::told(&self.report))
    }

    /// Starts a flow: what a user does in several steps, over several requests. How long it took is in
    /// `buttress.flow.duration`, how it ended and at which step in `buttress.flow.completed`, how many are open in
    /// `buttress.flow.active`.
    pub fn flow(&self, name: impl Into<Cow<'static, str>>) -> Flow {
        self.flows.start(name)
    }

    /// The flows that were started here: to go on with the one of a request's baggage, or by its id.
    pub const fn flows(&self) -> &Flows {
        &self.flows
    }

    /// What happens rarely and is worth telling: circuits that open, retries that are exhausted.
    pub const fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The settings in effect.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// One line for each setting, with its value and where it came from.
    pub fn explain(&self) -> String {
        self.settings.explain()
    }

    /// A service that shows the metrics: `/metrics` for Prometheus, `/diagnostics/metrics` and `/diagnostics/performance`
    /// as JSON. What it tells is for operators; put it where the public cannot reach.
    pub fn metrics_endpoint(&self) -> MetricsEndpoint {
        let Settings { service_name, resource_attributes, metrics, .. } = &*self.settings;
        let name = ("service.name".to_owned(), service_name.value.clone());
        let given = resource_attributes.value.iter().filter(|(key, _)| key != "service.name").cloned();
        MetricsEndpoint::new(&self.metrics)
            .resource(std::iter::once(name).chain(given))
            .prometheus(metrics.prometheus.value)
            .internal(metrics.internal.value)
    }

    /// Every metric of this service, and where to add one's own.
    pub fn metrics(&self) -> &Registry {
        &self.metrics
    }

    /// How the requests that were served have done in the last minutes.
    pub fn performance(&self) -> Performance {
        self.metrics.performance()
    }

    /// Where finished spans go.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// The latest finished spans, newest first.
    pub fn latest_spans(&self, count: usize) -> Vec<Arc<SpanRecord>> {
        self.spans.latest(count)
    }

    /// Watches the runtime that this is called on, once there is one.
    fn watch_runtime(&self) {
        if let Ok(runtime) = Handle::try_current()
            && self.settings.measures()
            && self.settings.metrics.runtime.value
        {
            self.runtime.get_or_init(|| RuntimeMonitor::start_on(&self.metrics, &runtime));
        }
    }

    /// Delivers what was recorded so far. Call it last, after the server has stopped.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when a sink failed or the deadline passed first.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), FlushError> {
        let flushes = self.flushes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // At once, so that a collector of spans that hangs does not use up the time of the others.
        let flush = |flush: Arc<dyn Flush>| tokio::spawn(async move { timeout(deadline, flush.flush()).await });
        let flushing: Vec<_> = flushes.into_iter().map(flush).collect();
        let mut flushed = self.spans.flush(deadline).await;
        for flushing in flushing {
            let other = match flushing.await {
                Ok(Ok(other)) => other,
                Ok(Err(_)) => Err(FlushError::new("the deadline passed")),
                Err(_) => Err(FlushError::new("a flush panicked")),
            };
            flushed = flushed.and(other);
        }
        flushed
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service_name = &self.settings.service_name.value;
        f.debug_struct("Telemetry")
            .field("service_name", service_name)
            .field("spans", &self.spans)
            .finish_non_exhaustive()
    }
}
