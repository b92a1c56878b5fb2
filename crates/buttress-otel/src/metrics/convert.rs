//! From a snapshot to OTLP.

use buttress::metrics::{
    Exemplar, FamilySnapshot, FineBuckets, HistogramPoint, Kind, Label, Point, SeriesSnapshot, Snapshot, Stored,
};
use buttress::settings::{HistogramAggregation, Settings, Temporality};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::delta;
use crate::convert::{resource, scope};

/// What all requests of an exporter have in common.
pub(super) struct Form {
    resource: Resource,
    scope: InstrumentationScope,
    is_delta: bool,
    exponential: bool,
}

impl Form {
    pub(super) fn new(settings: &Settings) -> Self {
        let export = &settings.metrics_export;
        Self {
            resource: Resource::from(&resource(settings)),
            scope: (scope(), None).into(),
            is_delta: matches!(export.temporality.value, Temporality::Delta | Temporality::LowMemory),
            exponential: export.histograms.value == HistogramAggregation::Exponential,
        }
    }

    /// Whether a request tells only what came in since the one before.
    pub(super) fn is_delta(&self) -> bool {
        self.is_delta
    }

    /// The request that tells of the snapshot, for a collector that has `base` already; `None` when there is nothing to
    /// tell.
    pub(super) fn request(&self, snapshot: &Snapshot, base: Option<&Snapshot>) -> Option<ExportMetricsServiceRequest> {
        let metrics = match base.filter(|_| self.is_delta) {
            Some(base) => self.metrics(&delta::since(base, snapshot.clone()), base.unix_nanos),
            None => self.metrics(snapshot, snapshot.start_unix_nanos),
        };
        let scope_metrics = ScopeMetrics { scope: Some(self.scope.clone()), metrics, schema_url: String::new() };
        (!scope_metrics.metrics.is_empty()).then(|| ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![scope_metrics],
                schema_url: String::new(),
            }],
        })
    }

    fn metrics(&self, snapshot: &Snapshot, since: u64) -> Vec<Metric> {
        let end = snapshot.unix_nanos;
        let cumulative =
            Period { temporality: AggregationTemporality::Cumulative, start: snapshot.start_unix_nanos, end };
        let growing = match self.is_delta {
            // The wall clock may have been set back in between.
            true => Period { temporality: AggregationTemporality::Delta, start: since.min(end), end },
            false => cumulative,
        };
        let metric = |family: &FamilySnapshot| Metric {
            name: family.name.to_string(),
            description: family.description.to_string(),
            unit: family.unit.to_string(),
            metadata: Vec::new(),
            data: Some(match family.kind {
                Kind::Counter => growing.sum(family, true),
                Kind::UpDownCounter => cumulative.sum(family, false),
                Kind::Histogram if self.exponential && family.series.iter().all(is_fine) => growing.exponential(family),
                Kind::Histogram => growing.histogram(family),
                _ => metric::Data::Gauge(Gauge { data_points: numbers(family, 0, end) }),
            }),
        };
        snapshot.families.iter().map(metric).collect()
    }
}

/// When the counting began and when it was read.
#[derive(Clone, Copy)]
struct Period {
    temporality: AggregationTemporality,
    start: u64,
    end: u64,
}

impl Period {
    fn sum(self, family: &FamilySnapshot, is_monotonic: bool) -> metric::Data {
        metric::Data::Sum(Sum {
            data_points: numbers(family, self.start, self.end),
            aggregation_temporality: self.temporality.into(),
            is_monotonic,
        })
    }

    fn histogram(self, family: &FamilySnapshot) -> metric::Data {
        let point = |series: &SeriesSnapshot, histogram: &HistogramPoint| HistogramDataPoint {
            attributes: attributes(&series.labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.end,
            count: histogram.count(),
            sum: Some(histogram.sum),
            bucket_counts: histogram.counts.clone(),
            explicit_bounds: histogram.bounds.to_vec(),
            exemplars: exemplars(histogram),
            ..HistogramDataPoint::default()
        };
        metric::Data::Histogram(Histogram {
            data_points: histograms(family).map(|(series, histogram)| point(series, histogram)).collect(),
            aggregation_temporality: self.temporality.into(),
        })
    }

    fn exponential(self, family: &FamilySnapshot) -> metric::Data {
        let point =
            |series: &SeriesSnapshot, histogram: &HistogramPoint, fine: &FineBuckets| ExponentialHistogramDataPoint {
                attributes: attributes(&series.labels),
                start_time_unix_nano: self.start,
                time_unix_nano: self.end,
                count: fine.count(),
                sum: Some(histogram.sum),
                scale: fine.scale,
                zero_count: fine.zero_count,
                positive: Some(Buckets { offset: fine.offset, bucket_counts: fine.counts.clone() }),
                exemplars: exemplars(histogram),
                ..ExponentialHistogramDataPoint::default()
            };
        metric::Data::ExponentialHistogram(ExponentialHistogram {
            data_points: histograms(family)
                .filter_map(|(series, histogram)| Some(point(series, histogram, histogram.fine.as_ref()?)))
                .collect(),
            aggregation_temporality: self.temporality.into(),
        })
    }
}

fn histograms(family: &FamilySnapshot) -> impl Iterator<Item = (&SeriesSnapshot, &HistogramPoint)> {
    family.series.iter().filter_map(|series| match &series.point {
        Point::Histogram(histogram) => Some((series, histogram)),
        _ => None,
    })
}

fn is_fine(series: &SeriesSnapshot) -> bool {
    matches!(&series.point, Point::Histogram(histogram) if histogram.fine.is_some())
}

fn numbers(family: &FamilySnapshot, start: u64, end: u64) -> Vec<NumberDataPoint> {
    let number = |series: &SeriesSnapshot| {
        let value = match series.point {
            Point::Int(value) => number_data_point::Value::AsInt(value),
            Point::Float(value) => number_data_point::Value::AsDouble(value),
            _ => return None,
        };
        Some(NumberDataPoint {
            attributes: attributes(&series.labels),
            start_time_unix_nano: start,
            time_unix_nano: end,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    };
    family.series.iter().filter_map(number).collect()
}

fn exemplars(histogram: &HistogramPoint) -> Vec<opentelemetry_proto::tonic::metrics::v1::Exemplar> {
    let exemplar = |exemplar: &Exemplar| opentelemetry_proto::tonic::metrics::v1::Exemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: exemplar.unix_nanos,
        span_id: exemplar.span_id.to_bytes().to_vec(),
        trace_id: exemplar.trace_id.to_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
    };
    histogram.exemplars.iter().flatten().map(exemplar).collect()
}

fn attributes(labels: &[Label]) -> Vec<KeyValue> {
    let attribute = |label: &Label| {
        let value = match &label.value {
            Stored::Int(number) => any_value::Value::IntValue(*number),
            Stored::Bool(value) => any_value::Value::BoolValue(*value),
            text => any_value::Value::StringValue(text.to_string()),
        };
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: label.key.to_string(), value, ..KeyValue::default() }
    };
    labels.iter().map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use buttress::metrics::Registry;

    use super::*;

    #[test]
    fn no_period_ends_before_it_began_although_the_wall_clock_is_set_back() {
        let delta = |name: &str| name.ends_with("TEMPORALITY_PREFERENCE").then(|| "delta".to_owned());
        let form = Form::new(&Settings::read("test", delta).unwrap());
        let registry = Registry::new();
        let orders = registry.counter("orders").with(());
        let took = registry.timer("took").with(());
        let base = registry.snapshot();
        orders.add(1);
        took.record(std::time::Duration::from_millis(1));
        let mut snapshot = registry.snapshot();
        snapshot.unix_nanos = base.unix_nanos - 1_000;
        let request = form.request(&snapshot, Some(&base)).unwrap();
        let metrics = request.resource_metrics[0].scope_metrics[0].metrics.iter();
        let periods = metrics.filter_map(|metric| match metric.data.as_ref().unwrap() {
            metric::Data::Sum(sum) => {
                Some((sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano))
            }
            metric::Data::Histogram(histogram) => {
                let point = &histogram.data_points[0];
                Some((point.start_time_unix_nano, point.time_unix_nano))
            }
            _ => None,
        });
        assert_eq!(Vec::from_iter(periods), [(snapshot.unix_nanos, snapshot.unix_nanos); 2]);
    }
}
