//! Prometheus' protobuf format, with native histograms.
//!
//! The messages are those of `io.prometheus.client` (prometheus/client_model, `metrics.proto`), without what we never write.

use prost::Message;

use super::families::{Families, Family, Series, Shape, Value};
use super::names::Pair;
use crate::metrics::{Exemplar, FineBuckets, HistogramPoint};

pub(super) fn page(families: &Families<'_>, start_unix_nanos: u64) -> Vec<u8> {
    let created = timestamp(start_unix_nanos);
    let mut out = Vec::new();
    for (base, family) in &families.all {
        let message = MetricFamily::new(base, family, &created);
        message.encode_length_delimited(&mut out).expect("a vector grows as needed");
    }
    out
}

impl MetricFamily {
    fn new(base: &str, family: &Family<'_>, created: &Timestamp) -> Self {
        let kind = match family.shape {
            Shape::Counter => MetricType::Counter,
            Shape::Gauge | Shape::Info => MetricType::Gauge,
            Shape::Histogram => MetricType::Histogram,
        };
        Self {
            name: format!("{base}{}", family.shape.suffix()),
            help: family.help.to_owned(),
            kind: kind.into(),
            metric: family.series.iter().map(|series| Metric::new(series, family.shape, created)).collect(),
            unit: family.unit.clone(),
        }
    }
}

impl Metric {
    fn new(series: &Series<'_>, shape: Shape, created: &Timestamp) -> Self {
        let mut this = Self { label: series.labels.iter().map(LabelPair::new).collect(), ..Self::default() };
        let value = match series.value {
            Value::Int(number) => number as f64,
            Value::Float(number) => number,
            Value::Histogram(point) => {
                this.histogram = Some(Histogram::new(point, created));
                return this;
            }
        };
        if shape == Shape::Counter {
            this.counter = Some(Counter { value: Some(value), created_timestamp: Some(*created) });
        } else {
            this.gauge = Some(Gauge { value: Some(value) });
        }
        this
    }
}

impl Histogram {
    fn new(point: &HistogramPoint, created: &Timestamp) -> Self {
        // Fine and coarse buckets are read one after the other. A server refuses a native histogram whose buckets do not
        // add up to its count, so theirs is the count, and no coarse bucket may go beyond it.
        let total = point.fine.as_ref().map_or_else(|| point.count(), FineBuckets::count);
        let mut count = 0_u64;
        let bounds = point.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.enumerate().map(|(nth, upper_bound)| {
            count += point.counts.get(nth).copied().unwrap_or(0);
            let cumulative_count = if upper_bound.is_infinite() { total } else { count.min(total) };
            let exemplar = point.exemplars.get(nth).and_then(Option::as_ref).map(ExemplarMessage::new);
            Bucket { cumulative_count: Some(cumulative_count), upper_bound: Some(upper_bound), exemplar }
        });
        let bucket = buckets.collect();
        let mut this = Self {
            sample_count: Some(total),
            sample_sum: Some(point.sum),
            bucket,
            created_timestamp: Some(*created),
            ..Self::default()
        };
        if let Some(fine) = &point.fine {
            this.add_native(fine);
        }
        this
    }

    fn add_native(&mut self, fine: &FineBuckets) {
        self.schema = Some(fine.scale);
        self.zero_threshold = Some(ZERO_THRESHOLD);
        self.zero_count = Some(fine.zero_count);
        self.positive_delta.reserve(fine.counts.len());
        let (mut before, mut end) = (0_i64, 0_i32);
        let full = fine.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        for (at, count) in full {
            // OpenTelemetry numbers a bucket by its lower bound, Prometheus by its upper one.
            let index = fine.offset + at as i32 + 1;
            match self.positive_span.last_mut().filter(|_| index == end) {
                Some(span) => span.length += 1,
                None => self.positive_span.push(BucketSpan { offset: index - end, length: 1 }),
            }
            end = index + 1;
            let count = *count as i64;
            self.positive_delta.push(count - before);
            before = count;
        }
    }
}

/// Below every value that is not zero; what Prometheus' own clients say. That it is there makes a histogram without values a
/// native one.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

impl LabelPair {
    fn new((name, value): &Pair<'_>) -> Self {
        Self { name: name.clone(), value: value.clone().into_owned() }
    }
}

impl ExemplarMessage {
    fn new(exemplar: &Exemplar) -> Self {
        let ids = [("trace_id", exemplar.trace_id.to_string()), ("span_id", exemplar.span_id.to_string())];
        Self {
            label: ids.map(|(name, value)| LabelPair { name: name.to_owned(), value }).into(),
            value: Some(exemplar.value),
            timestamp: Some(timestamp(exemplar.unix_nanos)),
        }
    }
}

fn timestamp(unix_nanos: u64) -> Timestamp {
    let part = |nanos: u64| i64::try_from(nanos).expect("no more than 2^64 / 10^9");
    Timestamp { seconds: part(unix_nanos / 1_000_000_000), nanos: (unix_nanos % 1_000_000_000) as i32 }
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(enumeration = "MetricType", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Gauge {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Counter {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    /// The first count, then by how much each is larger than the one before.
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<ExemplarMessage>,
}

/// Buckets in a row: how many, and how far from the end of those before.
#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::export::Exposition;
    use crate::metrics::{MetricsConfig, Registry};

    /// The counts that a server makes of spans and deltas, by Prometheus' index.
    fn counts(histogram: &Histogram) -> Vec<(i32, i64)> {
        let (mut index, mut count) = (0, 0);
        let mut deltas = histogram.positive_delta.iter();
        let mut counts = Vec::new();
        for span in &histogram.positive_span {
            index += span.offset;
            for _ in 0..span.length {
                count += deltas.next().expect("a delta for each bucket");
                counts.push((index, count));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        counts
    }

    #[test]
    fn what_is_written_can_be_read() {
        let registry = Registry::with_config(MetricsConfig::default().native_histograms(true));
        registry.counter("orders").with([("tenant", "acme")]).add(2);
        registry.histogram("sizes").unit("By").with(()).record(1000);
        let page = Exposition::new(&registry.snapshot()).protobuf();
        let mut rest = &page[..];
        let orders = MetricFamily::decode_length_delimited(&mut rest).unwrap();
        let sizes = MetricFamily::decode_length_delimited(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!((&*orders.name, orders.kind), ("orders_total", MetricType::Counter.into()));
        assert_eq!(orders.metric[0].counter.unwrap().value, Some(2.0));
        assert_eq!((&*sizes.name, &*sizes.unit), ("sizes_bytes", "bytes"));
        let histogram = sizes.metric[0].histogram.as_ref().unwrap();
        assert_eq!((histogram.sample_count, histogram.schema), (Some(1), Some(3)));
        assert_eq!(histogram.bucket.last().unwrap().upper_bound, Some(f64::INFINITY));
        // 1000 is at most 2^(80/8), and the upper end of its log-linear bucket as well.
        assert_eq!(counts(histogram), [(80, 1)]);
    }

    #[test]
    fn coarse_buckets_never_hold_more_than_the_fine_ones() {
        let registry = Registry::with_config(MetricsConfig::default().native_histograms(true));
        registry.histogram("sizes").with(()).record(1);
        let mut snapshot = registry.snapshot();
        let crate::metrics::Point::Histogram(point) = &mut snapshot.families[0].series[0].point else { unreachable!() };
        // As if a value had come in between.
        point.counts[0] += 1;
        let histogram = Histogram::new(point, &timestamp(0));
        assert_eq!(histogram.sample_count, Some(1));
        assert!(histogram.bucket.iter().all(|bucket| bucket.cumulative_count == Some(1)));
    }

    proptest! {
        #[test]
        fn spans_and_deltas_give_every_count_again(offset in -500..500_i32, fine in prop::collection::vec(0..5_u64, 0..40)) {
            let buckets = FineBuckets { scale: 3, zero_count: 0, offset, counts: fine.clone() };
            let mut histogram = Histogram::default();
            histogram.add_native(&buckets);
            let expected: Vec<(i32, i64)> = (offset + 1..)
                .zip(fine)
                .filter(|(_, count)| *count > 0)
                .map(|(index, count)| (index, count as i64))
                .collect();
            prop_assert_eq!(counts(&histogram), expected);
        }
    }
}
