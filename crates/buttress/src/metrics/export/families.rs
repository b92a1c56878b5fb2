//! A snapshot under Prometheus' names: what every format writes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::names::{self, Pair};
use crate::metrics::{FamilySnapshot, HistogramPoint, Kind, Point, Snapshot};

/// Families and their series, sorted; no two of them share the name of a sample, no two series their labels.
#[derive(Default)]
pub(super) struct Families<'a> {
    pub(super) all: BTreeMap<String, Family<'a>>,
    /// OpenTelemetry's names of those that would have made the page invalid.
    pub(super) left_out: Vec<&'a str>,
    samples: BTreeSet<String>,
}

pub(super) struct Family<'a> {
    pub(super) shape: Shape,
    pub(super) unit: String,
    pub(super) help: &'a str,
    pub(super) series: Vec<Series<'a>>,
}

pub(super) struct Series<'a> {
    pub(super) labels: Vec<Pair<'a>>,
    pub(super) value: Value<'a>,
}

/// Prometheus' kinds, as far as we have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Counter,
    Gauge,
    Histogram,
    Info,
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    Float(f64),
    Histogram(&'a HistogramPoint),
}

impl<'a> Families<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, resource: &'a [(String, String)]) -> Self {
        let mut this = Self::default();
        this.add_resource(resource);
        let mut families: Vec<&FamilySnapshot> = snapshot.families.iter().collect();
        // What is left out must not depend on the order in which the program happened to count.
        families.sort_by(|one, other| one.name.cmp(&other.name));
        families.into_iter().for_each(|family| this.add(family));
        this.add_left_out();
        for family in this.all.values_mut() {
            family.series.sort_by(|one, other| one.labels.cmp(&other.labels));
            family.series.dedup_by(|next, kept| next.labels == kept.labels);
        }
        this
    }

    fn add_resource(&mut self, resource: &'a [(String, String)]) {
        let attributes = resource.iter().map(|(key, value)| (&**key, Cow::Borrowed(&**value)));
        let labels = names::pairs(attributes, Kind::Gauge);
        if labels.is_empty() {
            return;
        }
        if let Some(family) = self.claim("target".to_owned(), Shape::Info) {
            family.help = "Target metadata";
            family.series.push(Series { labels, value: Value::Int(1) });
        }
    }

    fn add(&mut self, snapshot: &'a FamilySnapshot) {
        let series: Vec<_> = snapshot
            .series
            .iter()
            .filter_map(|series| {
                let value = value(snapshot.kind, &series.point)?;
                Some(Series { labels: names::labels(&series.labels, snapshot.kind), value })
            })
            .collect();
        if series.is_empty() {
            return;
        }
        let name = names::family(&snapshot.name, &snapshot.unit, snapshot.kind);
        let Some(family) = self.claim(name.base, Shape::of(snapshot.kind)) else {
            self.left_out.push(&snapshot.name);
            return;
        };
        if family.series.is_empty() {
            family.unit = name.unit;
        }
        if family.help.is_empty() {
            family.help = &snapshot.description;
        }
        family.series.extend(series);
    }

    fn add_left_out(&mut self) {
        let Some(left_out) = i64::try_from(self.left_out.len()).ok().filter(|count| *count > 0) else {
            return;
        };
        if let Some(family) = self.claim("buttress_metrics_left_out".to_owned(), Shape::Gauge) {
            family.help = "Metrics that are not on this page because another kind of metric has their name";
            family.series.push(Series { labels: Vec::new(), value: Value::Int(left_out) });
        }
    }

    /// The family of this name; `None` when another one has a sample with a name of its own.
    ///
    /// Decided by the rules of OpenMetrics, in which a counter `jobs` and a gauge `jobs` clash, so that every format tells
    /// the same metrics.
    fn claim(&mut self, base: String, shape: Shape) -> Option<&mut Family<'a>> {
        let is_new = !self.all.contains_key(&base);
        if is_new {
            let samples: Vec<String> =
                shape.suffixes().iter().copied().chain([""]).map(|end| format!("{base}{end}")).collect();
            if samples.iter().any(|sample| self.samples.contains(sample)) {
                return None;
            }
            self.samples.extend(samples);
        }
        let new = || Family { shape, unit: String::new(), help: "", series: Vec::new() };
        let family = self.all.entry(base).or_insert_with(new);
        (family.shape == shape).then_some(family)
    }
}

impl Shape {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::UpDownCounter | Kind::Gauge => Self::Gauge,
            Kind::Histogram => Self::Histogram,
        }
    }

    /// Of its samples. `_created` as well, which we do not write but which a family may have.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total", "_created"],
            Self::Gauge => &[],
            Self::Histogram => &["_bucket", "_count", "_sum", "_created"],
            Self::Info => &["_info"],
        }
    }

    /// What the name has at its end, where the format has no shapes to tell it by.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}

/// `None` when the number is none of the kind, which no registry makes.
fn value(kind: Kind, point: &Point) -> Option<Value<'_>> {
    match (kind, point) {
        (Kind::Histogram, Point::Histogram(histogram)) => Some(Value::Histogram(histogram)),
        (Kind::Histogram, _) | (_, Point::Histogram(_)) => None,
        (_, Point::Int(number)) => Some(Value::Int(*number)),
        (_, Point::Float(number)) => Some(Value::Float(*number)),
    }
}
