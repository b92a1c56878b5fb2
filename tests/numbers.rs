//! Looks up single numbers of a registry.

use buttress::metrics::{FamilySnapshot, HistogramPoint, Point, Registry, SeriesSnapshot};

/// A metric.
pub fn family(registry: &Registry, name: &str) -> Option<FamilySnapshot> {
    registry.snapshot().families.into_iter().find(|family| &*family.name == name)
}

/// The labels of each series of a metric, as sorted `key=value` pairs.
pub fn labels(registry: &Registry, name: &str) -> Vec<String> {
    let series = family(registry, name).map(|family| family.series).unwrap_or_default();
    let mut labels: Vec<String> = series.iter().map(shown).collect();
    labels.sort();
    labels
}

/// The sum of a counter or gauge over all series with these labels, whatever others they have.
pub fn total(registry: &Registry, name: &str, labels: &[(&str, &str)]) -> i64 {
    let whole = |series: &SeriesSnapshot| match series.point {
        Point::Int(number) => number,
        _ => 0,
    };
    matching(registry, name, labels).iter().map(whole).sum()
}

/// How many values lie in the histograms with these labels.
pub fn count(registry: &Registry, name: &str, labels: &[(&str, &str)]) -> u64 {
    histograms(registry, name, labels).iter().map(HistogramPoint::count).sum()
}

/// The sum of all values in the histograms with these labels.
pub fn sum(registry: &Registry, name: &str, labels: &[(&str, &str)]) -> f64 {
    histograms(registry, name, labels).iter().map(|point| point.sum).sum()
}

/// The histograms with these labels.
pub fn histograms(registry: &Registry, name: &str, labels: &[(&str, &str)]) -> Vec<HistogramPoint> {
    let point = |series: SeriesSnapshot| match series.point {
        Point::Histogram(point) => Some(point),
        _ => None,
    };
    matching(registry, name, labels).into_iter().filter_map(point).collect()
}

fn matching(registry: &Registry, name: &str, labels: &[(&str, &str)]) -> Vec<SeriesSnapshot> {
    let has = |series: &SeriesSnapshot, key: &str, value: &str| {
        series.labels.iter().any(|label| label.key == key && label.value.to_string() == value)
    };
    let series = family(registry, name).map(|family| family.series).unwrap_or_default();
    series.into_iter().filter(|series| labels.iter().all(|(key, value)| has(series, key, value))).collect()
}

fn shown(series: &SeriesSnapshot) -> String {
    let mut pairs: Vec<String> = series.labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
    pairs.sort();
    pairs.join(" ")
}
