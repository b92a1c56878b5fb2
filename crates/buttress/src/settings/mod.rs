//! Settings: code over `BUTTRESS_*` over `OTEL_*` over defaults. Nothing else reads the environment.
//!
//! A sampling ratio without a sampler means `parentbased_traceidratio`. An empty variable counts as not set. Metrics that
//! are exported to `prometheus` are not pushed: Prometheus finds them in any case.
//!
//! ```
//! use buttress::settings::Settings;
//!
//! let settings = Settings::read("shop", |name| (name == "TRACING_SAMPLING_RATE").then(|| "0.1".to_owned()))?;
//! assert!(settings.explain().contains("sampling_ratio = 0.1 (TRACING_SAMPLING_RATE)"));
//! # Ok::<(), buttress::settings::SettingsError>(())
//! ```
//!
#![doc = include_str!("../../docs/settings.md")]

mod definition;
mod metrics;
mod otlp;

use std::fmt;

use crate::metrics::MetricsConfig;
use crate::observe::KnownMethods;
use crate::trace::{Ratio, Sampler};

pub use definition::{DEFINITIONS, Definition, WITHOUT_EFFECT, WithoutEffect, tables};
pub use metrics::Metrics;
pub use otlp::{Headers, HistogramAggregation, MetricsExport, MetricsExporterName, Otlp, OtlpProtocol, Temporality};

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting<T> {
    /// The effective value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

/// Where a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// This environment variable.
    Variable(&'static str),
    /// The program.
    Code,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Variable(name) => f.write_str(name),
            Self::Code => f.write_str("code"),
        }
    }
}

/// The samplers of `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamplerName {
    /// `always_on`
    AlwaysOn,
    /// `always_off`
    AlwaysOff,
    /// `traceidratio`
    Ratio,
    /// `parentbased_always_on`
    ParentBasedAlwaysOn,
    /// `parentbased_always_off`
    ParentBasedAlwaysOff,
    /// `parentbased_traceidratio`
    ParentBasedRatio,
}

/// `OTEL_PROPAGATORS`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Propagators {
    /// `tracecontext`
    pub tracecontext: bool,
    /// `baggage`
    pub baggage: bool,
    /// `b3`: one header.
    pub b3: bool,
    /// `b3multi`: several headers.
    pub b3multi: bool,
}

/// Whom a server believes when the program says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustName {
    /// `internal`: everybody.
    Internal,
    /// `public`: nobody; traces are restarted and linked.
    Public,
}

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exporter {
    /// `otlp`: needs the crate `buttress-otel`.
    Otlp,
    /// `console`: JSON lines on standard output.
    Console,
    /// `none`: the ring only.
    None,
}

/// Every effective setting. `Debug` is [`explain`](Self::explain): no secret of an endpoint or a header.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Whether anything is observed at all.
    pub enabled: Setting<bool>,
    /// `service.name`
    pub service_name: Setting<String>,
    /// Further attributes of the resource.
    pub resource_attributes: Setting<Vec<(String, String)>>,
    /// Which spans are recorded.
    pub sampler: Setting<SamplerName>,
    /// For the samplers with a ratio.
    pub sampling_ratio: Setting<Ratio>,
    /// Which headers are read and written.
    pub propagators: Setting<Propagators>,
    /// Whom a server believes.
    pub trust: Setting<TrustName>,
    /// Whether answers carry `server-timing`.
    pub server_timing: Setting<bool>,
    /// Which methods spans and metrics tell by name.
    pub known_methods: Setting<KnownMethods>,
    /// Room for spans on their way to the sinks.
    pub span_queue: Setting<usize>,
    /// The latest spans kept in memory.
    pub span_ring: Setting<usize>,
    /// Where spans go.
    pub traces_exporter: Setting<Exporter>,
    /// The collector of spans.
    pub traces_otlp: Otlp,
    /// How metrics are exported.
    pub metrics_export: MetricsExport,
    /// What is measured.
    pub metrics: Metrics,
    /// Variables that were set but not used, because a stronger one was set too.
    pub overridden: Vec<(&'static str, &'static str)>,
    /// Variables that were set and that nothing here reads.
    pub without_effect: Vec<WithoutEffect>,
}

impl Settings {
    /// Reads the environment of the process.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for a value that does not parse.
    pub fn from_env(service_name: &str) -> Result<Self, SettingsError> {
        Self::read(service_name, environment)
    }

    /// Reads variables from wherever the closure finds them.
    ///
    /// ```
    /// use buttress::settings::Settings;
    ///
    /// let error = Settings::read("shop", |name| (name == "OTEL_TRACES_SAMPLER_ARG").then(|| "10%".to_owned())).unwrap_err();
    /// assert_eq!(error.to_string(), "OTEL_TRACES_SAMPLER_ARG is \"10%\"; accepted is a number between 0 and 1");
    /// ```
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for a value that does not parse.
    pub fn read(service_name: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut variables = Variables { lookup: &lookup, overridden: Vec::new() };
        let enabled = variables.read(
            &definition::ENABLED,
            |name, text| boolean(text).map(|value| value != (name == "OTEL_SDK_DISABLED")),
            true,
        )?;
        let service_name =
            variables.read(&definition::SERVICE_NAME, |_, text| Some(text.to_owned()), service_name.to_owned())?;
        let resource_attributes =
            variables.read(&definition::RESOURCE_ATTRIBUTES, |_, text| key_values(text), Vec::new())?;
        let sampling_ratio =
            variables.read(&definition::SAMPLING_RATIO, |_, text| Ratio::new(text.parse().ok()?).ok(), Ratio::ALL)?;
        let unnamed = match sampling_ratio.source {
            Source::Default => SamplerName::ParentBasedAlwaysOn,
            _ => SamplerName::ParentBasedRatio,
        };
        let sampler = variables.read(&definition::SAMPLER, |_, text| sampler(text), unnamed)?;
        let propagators = variables.read(
            &definition::PROPAGATORS,
            |_, text| propagators(text),
            Propagators { tracecontext: true, baggage: true, b3: false, b3multi: false },
        )?;
        let trust = variables.read(&definition::TRUST, |_, text| trust(text), TrustName::Internal)?;
        let server_timing = variables.read(&definition::SERVER_TIMING, |_, text| boolean(text), false)?;
        let known_methods = variables.read(
            &definition::KNOWN_METHODS,
            |_, text| KnownMethods::new(text.split(',').map(str::trim)).ok(),
            KnownMethods::default(),
        )?;
        let count = |text: &str, least: usize| text.parse().ok().filter(|count| (least..=1 << 20).contains(count));
        let span_queue = variables.read(&definition::SPAN_QUEUE, |_, text| count(text, 1), 8192)?;
        let span_ring = variables.read(&definition::SPAN_RING, |_, text| count(text, 0), 1024)?;
        let traces_exporter = variables.read(&definition::TRACES_EXPORTER, |_, text| exporter(text), Exporter::None)?;
        let traces_otlp = Otlp::read(&mut variables, &definition::TRACES)?;
        let metrics_export = MetricsExport::read(&mut variables)?;
        let metrics = Metrics::read(&mut variables)?;
        let without_effect = variables.without_effect();
        let mut overridden = variables.overridden;
        // A variable for all signals that one signal overrides still counts for another.
        overridden.retain(|&(weaker, _)| !traces_otlp.is_from(weaker) && !metrics_export.otlp.is_from(weaker));
        Ok(Self {
            enabled,
            service_name,
            resource_attributes,
            sampler,
            sampling_ratio,
            propagators,
            trust,
            server_timing,
            known_methods,
            span_queue,
            span_ring,
            traces_exporter,
            traces_otlp,
            metrics_export,
            metrics,
            overridden,
            without_effect,
        })
    }

    /// The sampler that these settings describe.
    pub fn sampler(&self) -> Sampler {
        let ratio = || Sampler::ratio(self.sampling_ratio.value);
        match self.sampler.value {
            SamplerName::AlwaysOn => Sampler::always_on(),
            SamplerName::AlwaysOff => Sampler::always_off(),
            SamplerName::Ratio => ratio(),
            SamplerName::ParentBasedAlwaysOn => Sampler::parent_based(Sampler::always_on()),
            SamplerName::ParentBasedAlwaysOff => Sampler::parent_based(Sampler::always_off()),
            SamplerName::ParentBasedRatio => Sampler::parent_based(ratio()),
        }
    }

    /// Whether metrics are recorded.
    pub(crate) fn measures(&self) -> bool {
        self.enabled.value && self.metrics.enabled.value
    }

    /// The bounds of the registry that these settings describe.
    pub fn metrics_config(&self) -> MetricsConfig {
        let is_exponential = self.metrics_export.histograms.value == HistogramAggregation::Exponential;
        self.metrics.config().native_histograms(is_exponential || self.metrics.native_histograms.value)
    }

    /// One line for each effective setting, `name = value (source)`, and one for each variable that did not count.
    pub fn explain(&self) -> String {
        let mut lines = String::new();
        let mut line = |name: &str, value: &dyn fmt::Debug, source: Source| {
            lines.push_str(&format!("{name} = {value:?} ({source})\n"));
        };
        line("enabled", &self.enabled.value, self.enabled.source);
        line("service_name", &self.service_name.value, self.service_name.source);
        let attributes: Vec<_> = self.resource_attributes.value.iter().map(attribute_shown).collect();
        line("resource_attributes", &attributes, self.resource_attributes.source);
        line("sampler", &self.sampler.value, self.sampler.source);
        line("sampling_ratio", &self.sampling_ratio.value.get(), self.sampling_ratio.source);
        line("propagators", &self.propagators.value, self.propagators.source);
        line("trust", &self.trust.value, self.trust.source);
        line("server_timing", &self.server_timing.value, self.server_timing.source);
        line("known_methods", &self.known_methods.value, self.known_methods.source);
        line("span_queue", &self.span_queue.value, self.span_queue.source);
        line("span_ring", &self.span_ring.value, self.span_ring.source);
        line("traces_exporter", &self.traces_exporter.value, self.traces_exporter.source);
        self.traces_otlp.explain("traces", &mut line);
        self.metrics_export.explain(&mut line);
        self.metrics.explain(&mut line);
        self.warnings().for_each(|warning| lines.extend([&*warning, "\n"]));
        lines
    }

    /// One line for each variable that was set and did not count. [`Telemetry::from_env`](crate::Telemetry::from_env) prints
    /// them to standard error.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let overridden = self.overridden.iter();
        let overridden =
            overridden.map(|(weaker, stronger)| format!("{weaker} is set but not used, because {stronger} is set too"));
        let without_effect = self.without_effect.iter();
        overridden.chain(
            without_effect.map(|WithoutEffect { variable, why }| format!("{variable} is set but not used: {why}")),
        )
    }
}

/// Where a server shall listen: at `PORT`, as platforms set it, or at this one. It is no setting of telemetry, and here
/// because only this module reads the environment.
///
/// ```
/// let port = buttress::settings::port(3000)?;
/// # let _ = port;
/// # Ok::<(), buttress::settings::SettingsError>(())
/// ```
///
/// # Errors
///
/// [`SettingsError`] for what is no number from 0 to 65535.
pub fn port(default: u16) -> Result<u16, SettingsError> {
    let mut variables = Variables { lookup: &environment, overridden: Vec::new() };
    variables.read(&definition::PORT, |_, text| text.parse().ok(), default).map(|port| port.value)
}

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain())
    }
}

fn attribute_shown((key, value): &(String, String)) -> String {
    crate::redact::text(&format!("{key}={value}")).into_owned()
}

struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    overridden: Vec<(&'static str, &'static str)>,
}

impl Variables<'_> {
    /// The first of these variables that is set, parsed.
    fn read<T>(
        &mut self,
        definition: &Definition,
        parse: impl Fn(&'static str, &str) -> Option<T>,
        default: T,
    ) -> Result<Setting<T>, SettingsError> {
        let lookup = self.lookup;
        let Definition { variables, accepted, .. } = *definition;
        let mut set = variables.iter().filter_map(|name| Some((*name, set(lookup, name)?)));
        let Some((variable, text)) = set.next() else {
            return Ok(Setting { value: default, source: Source::Default });
        };
        self.overridden.extend(set.map(|(weaker, _)| (weaker, variable)));
        match parse(variable, &text) {
            Some(value) => Ok(Setting { value, source: Source::Variable(variable) }),
            None => Err(SettingsError { variable, value: shown(variable, &text), accepted }),
        }
    }

    /// Those that are set all the same. Who exports no logs anywhere is not told that none are exported here.
    fn without_effect(&self) -> Vec<WithoutEffect> {
        let is_set = |unread: &&WithoutEffect| set(self.lookup, unread.variable).is_some_and(|value| value != "none");
        WITHOUT_EFFECT.iter().filter(is_set).copied().collect()
    }
}

/// What a variable says; an empty one says nothing.
fn set(lookup: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    Some(lookup(name)?.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The value as an error may show it.
fn shown(variable: &str, text: &str) -> String {
    if variable.ends_with("HEADERS") {
        return crate::redact::REDACTED.to_owned();
    }
    crate::redact::text(text).into_owned()
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn key_values(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then(|| (key.to_owned(), crate::redact::percent_decoded(value.trim()).into_owned()))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(pair).collect()
}

fn sampler(text: &str) -> Option<SamplerName> {
    Some(match text {
        "always_on" => SamplerName::AlwaysOn,
        "always_off" => SamplerName::AlwaysOff,
        "traceidratio" => SamplerName::Ratio,
        "parentbased_always_on" => SamplerName::ParentBasedAlwaysOn,
        "parentbased_always_off" => SamplerName::ParentBasedAlwaysOff,
        "parentbased_traceidratio" => SamplerName::ParentBasedRatio,
        _ => return None,
    })
}

fn propagators(text: &str) -> Option<Propagators> {
    let mut found = Propagators { tracecontext: false, baggage: false, b3: false, b3multi: false };
    for name in text.split(',').map(str::trim) {
        match name {
            "tracecontext" => found.tracecontext = true,
            "baggage" => found.baggage = true,
            "b3" => found.b3 = true,
            "b3multi" => found.b3multi = true,
            "none" => {}
            _ => return None,
        }
    }
    Some(found)
}

fn trust(text: &str) -> Option<TrustName> {
    match text {
        "internal" => Some(TrustName::Internal),
        "public" => Some(TrustName::Public),
        _ => None,
    }
}

fn exporter(text: &str) -> Option<Exporter> {
    match text {
        "otlp" => Some(Exporter::Otlp),
        "console" => Some(Exporter::Console),
        "none" => Some(Exporter::None),
        _ => None,
    }
}

/// An environment variable whose value is not accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct SettingsError {
    variable: &'static str,
    value: String,
    accepted: &'static str,
}

impl SettingsError {
    /// The variable.
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// Its value, without secrets.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What is accepted.
    pub fn accepted(&self) -> &'static str {
        self.accepted
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, accepted } = self;
        write!(f, "{variable} is {value:?}; accepted is {accepted}")
    }
}

/// As [`Display`](fmt::Display): this is what a `main` that returns the error prints.
impl fmt::Debug for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SettingsError {}
