//! Every number at one moment: what all exporters read.

use std::borrow::Cow;
use std::sync::Arc;

use super::instrument::Kind;
use super::labels::Label;
use super::measure::Measure;
use super::overflow::{Offender, Overflow};
use super::series::HistogramPoint;
use super::windows::WindowUsage;

/// Every number of a registry, cumulative since its start.
///
/// Each number is read once, without holding up who records. The count of a histogram is the sum of its buckets, so that
/// the two always agree; between series there is no common cut.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// When the counting began, in Unix nanoseconds.
    pub start_unix_nanos: u64,
    /// When this was read, in Unix nanoseconds.
    pub unix_nanos: u64,
    /// The metrics, by name.
    pub families: Vec<FamilySnapshot>,
    /// Bounded sets that were too small.
    pub overflowed: Vec<Overflowed>,
    /// Names that were asked for as two different kinds; the second was not counted.
    pub conflicts: Vec<String>,
    /// Memory of the sliding windows.
    pub windows: WindowUsage,
}

/// One metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FamilySnapshot {
    /// OpenTelemetry's name, with dots.
    pub name: Arc<str>,
    /// What it tells.
    pub description: Cow<'static, str>,
    /// The unit, as UCUM writes it; empty for none.
    pub unit: Cow<'static, str>,
    /// What it is.
    pub kind: Kind,
    /// One for each set of labels; in no order.
    pub series: Vec<SeriesSnapshot>,
}

/// One metric with one set of labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SeriesSnapshot {
    /// The labels.
    pub labels: Arc<[Label]>,
    /// The number.
    pub point: Point,
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Point {
    /// A whole one.
    Int(i64),
    /// A number with fractions.
    Float(f64),
    /// Buckets.
    Histogram(HistogramPoint),
}

/// A bounded set that was too small.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overflowed {
    /// The metric.
    pub metric: Arc<str>,
    /// The label whose values were too many; empty when it was the series.
    pub label: &'static str,
    /// How many recordings fell into the overflow.
    pub count: u64,
    /// What was seen most among them.
    pub top: Vec<Offender>,
}

impl Overflowed {
    pub(super) fn of(metric: &Arc<str>, label: &'static str, overflow: &Overflow) -> Option<Self> {
        let count = overflow.count();
        (count > 0).then(|| Self { metric: Arc::clone(metric), label, count, top: overflow.top() })
    }
}

impl Point {
    pub(super) fn sum(kind: Kind, measure: Measure, total: u64) -> Self {
        match (measure, kind) {
            (Measure::Time, _) => Self::Float(measure.in_unit(total)),
            (Measure::Plain, Kind::UpDownCounter) => Self::Int(total as i64),
            (Measure::Plain, _) => Self::Int(i64::try_from(total).unwrap_or(i64::MAX)),
        }
    }
}

/// What the registry tells of itself: bounded sets that were too small, and windows that did not fit.
pub(super) fn own(overflowed: &[Overflowed], windows: &WindowUsage) -> Vec<FamilySnapshot> {
    let family = |name: &str, description: &'static str, unit: &'static str, kind, series| FamilySnapshot {
        name: name.into(),
        description: description.into(),
        unit: unit.into(),
        kind,
        series,
    };
    let refused = overflowed.iter().map(|overflowed| {
        let metric = Label::new("buttress.metric", overflowed.metric.to_string());
        let label = (!overflowed.label.is_empty()).then(|| Label::new("buttress.label", overflowed.label));
        let count = i64::try_from(overflowed.count).unwrap_or(i64::MAX);
        SeriesSnapshot { labels: [metric].into_iter().chain(label).collect(), point: Point::Int(count) }
    });
    let count = |count: usize| {
        let point = Point::Int(count as i64);
        Vec::from_iter((count > 0).then(|| SeriesSnapshot { labels: Arc::default(), point }))
    };
    vec![
        family(
            "buttress.metrics.overflow",
            "Recordings whose labels did not fit into a bounded set",
            "",
            Kind::Counter,
            refused.collect(),
        ),
        family(
            "buttress.metrics.window.coarsened",
            "Sliding windows that tell time apart less finely, because the budget was spent",
            "{window}",
            Kind::Gauge,
            count(if windows.coarsened { windows.windows } else { 0 }),
        ),
        family(
            "buttress.metrics.window.rounded",
            "Sliding windows that know some values to the next power of two only, because the budget was spent",
            "{window}",
            Kind::Gauge,
            count(windows.rounded),
        ),
        family(
            "buttress.metrics.window.sharing",
            "Series that share one sliding window, because the budget was spent",
            "{series}",
            Kind::Gauge,
            count(windows.sharing),
        ),
    ]
}
