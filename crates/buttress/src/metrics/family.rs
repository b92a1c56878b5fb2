//! All series of one metric.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use super::buckets::Buckets;
use super::config::MetricsConfig;
use super::instrument::{Bucketed, Instrument, Kind, Series};
use super::labels::{self, Label, Labels};
use super::measure::Measure;
use super::overflow::Overflow;
use super::series::HistogramSeries;
use super::snapshot::{FamilySnapshot, Overflowed, Point, SeriesSnapshot};
use super::table::Table;
use super::windows::Windows;
use crate::window::Precision;

/// The attribute of the series that holds what did not fit (OpenTelemetry, metrics SDK, "cardinality limits").
pub(super) const OVERFLOW: &str = "otel.metric.overflow";

/// A metric, whatever its labels; of [`Registry`](super::Registry). Clones share everything.
///
/// What describes it is settled by who says it first.
pub struct Family<I> {
    core: Arc<FamilyCore>,
    instrument: PhantomData<fn() -> I>,
}

pub(super) struct FamilyCore {
    pub(super) name: Arc<str>,
    kind: Kind,
    measure: Measure,
    unit: OnceLock<Cow<'static, str>>,
    description: OnceLock<Cow<'static, str>>,
    buckets: OnceLock<Buckets>,
    default_buckets: Buckets,
    native: Option<Precision>,
    has_windows: OnceLock<bool>,
    windows: Arc<Windows>,
    series: Table<Arc<[Label]>, Series>,
    beyond: OnceLock<Series>,
    overflow: Overflow,
}

impl<I: Instrument> Family<I> {
    pub(super) fn new(core: Arc<FamilyCore>) -> Self {
        Self { core, instrument: PhantomData }
    }

    /// The series with these labels, made when it is new.
    ///
    /// Finding one takes no lock and allocates nothing; still, a handle that is kept is faster. When the family is full,
    /// or a value longer than 512 bytes, this is the series that holds everything that did not fit.
    pub fn with(&self, labels: impl Labels) -> I {
        I::handle(self.core.series(&labels, I::series))
    }

    /// The unit, as UCUM writes it: `s`, `By`, `{request}`.
    #[must_use]
    pub fn unit(self, unit: impl Into<Cow<'static, str>>) -> Self {
        self.core.unit.get_or_init(|| unit.into());
        self
    }

    /// What it tells, in a sentence.
    #[must_use]
    pub fn description(self, description: impl Into<Cow<'static, str>>) -> Self {
        self.core.description.get_or_init(|| description.into());
        self
    }
}

impl<I: Bucketed> Family<I> {
    /// In place of the registry's.
    #[must_use]
    pub fn buckets(self, buckets: Buckets) -> Self {
        self.core.buckets.get_or_init(|| buckets);
        self
    }

    /// Whether each series has a sliding window. They have by default.
    #[must_use]
    pub fn windows(self, windows: bool) -> Self {
        self.core.has_windows.get_or_init(|| windows);
        self
    }
}

impl FamilyCore {
    pub(super) fn new(
        name: &str,
        kind: Kind,
        measure: Measure,
        config: &MetricsConfig,
        windows: &Arc<Windows>,
    ) -> Self {
        let default_buckets = match measure {
            Measure::Time => config.duration_buckets.clone(),
            Measure::Plain => config.size_buckets.clone(),
        };
        let unit = match measure {
            Measure::Time => OnceLock::from(Cow::Borrowed("s")),
            Measure::Plain => OnceLock::new(),
        };
        Self {
            name: name.into(),
            kind,
            measure,
            unit,
            description: OnceLock::new(),
            buckets: OnceLock::new(),
            default_buckets,
            native: config.native_precision(),
            has_windows: OnceLock::new(),
            windows: Arc::clone(windows),
            series: Table::new(config.max_series),
            beyond: OnceLock::new(),
            overflow: Overflow::default(),
        }
    }

    pub(super) fn is(&self, kind: Kind, measure: Measure) -> bool {
        self.kind == kind && self.measure == measure
    }

    pub(super) fn series(&self, labels: &impl Labels, make: fn(&Self) -> Series) -> &Series {
        let (hash, are) = (labels::hash(labels), |stored: &Arc<[Label]>| labels::are(stored, labels));
        if let Some(known) = self.series.find(hash, are) {
            return known;
        }
        let fits = labels::fit(labels);
        let made = fits.then(|| self.series.find_or_make(hash, are, |_| (labels::store(labels), make(self))));
        made.flatten().unwrap_or_else(|| self.beyond(labels, make))
    }

    #[cold]
    fn beyond(&self, labels: &impl Labels, make: fn(&Self) -> Series) -> &Series {
        self.overflow.note(&labels::shown(labels));
        self.beyond.get_or_init(|| make(self))
    }

    pub(super) fn histogram(&self) -> HistogramSeries {
        let window = self.has_windows.get_or_init(|| true).then(|| self.windows.open());
        HistogramSeries::new(self.buckets().clone(), self.native, window)
    }

    fn buckets(&self) -> &Buckets {
        self.buckets.get_or_init(|| self.default_buckets.clone())
    }

    pub(super) fn snapshot(&self) -> FamilySnapshot {
        let bounds = self.measure.bounds(self.buckets.get().unwrap_or(&self.default_buckets));
        let point = |series: &Series| match series {
            Series::Sum(sum) => Point::sum(self.kind, self.measure, sum.total()),
            Series::Gauge(gauge) => Point::Float(f64::from_bits(gauge.load(Ordering::Acquire))),
            Series::Histogram(histogram) => Point::Histogram(histogram.point(&bounds, self.measure)),
        };
        let mut series: Vec<SeriesSnapshot> = self
            .series
            .iter()
            .map(|(labels, series)| SeriesSnapshot { labels: Arc::clone(labels), point: point(series) })
            .collect();
        if let Some(beyond) = self.beyond.get() {
            series.push(SeriesSnapshot { labels: Arc::new([Label::new(OVERFLOW, "true")]), point: point(beyond) });
        }
        FamilySnapshot {
            name: Arc::clone(&self.name),
            description: self.description.get().cloned().unwrap_or_default(),
            unit: self.unit.get().cloned().unwrap_or_default(),
            kind: self.kind,
            series,
        }
    }

    pub(super) fn overflowed(&self) -> Option<Overflowed> {
        Overflowed::of(&self.name, "", &self.overflow)
    }
}

impl<I> Clone for Family<I> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), instrument: PhantomData }
    }
}

impl<I> fmt::Debug for Family<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("name", &self.core.name).field("kind", &self.core.kind).finish_non_exhaustive()
    }
}
