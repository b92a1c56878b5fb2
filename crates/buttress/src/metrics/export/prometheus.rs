//! Prometheus' text format 0.0.4 and OpenMetrics 1.0: one walk, two dialects.

use std::fmt::Write;
use std::sync::Arc;

use super::families::{Families, Family, Shape, Value};
use super::names::Pair;
use super::number::{push_float, push_int, push_point_float};
use crate::metrics::{Exemplar, HistogramPoint};

/// What the two formats differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Text,
    OpenMetrics,
}

/// Endings of the samples of histograms and summaries.
const RESERVED: [&str; 3] = ["_bucket", "_count", "_sum"];

pub(super) fn page(families: &Families<'_>, dialect: Dialect) -> String {
    // A page of histograms holds half a kilobyte a series and more; doubling a few times is cheaper than a second walk.
    let series: usize = families.all.values().map(|family| family.series.len()).sum();
    let mut writer =
        Writer { out: String::with_capacity(512 * series + 16), head: String::new(), bounds: None, dialect };
    families.all.iter().for_each(|(base, family)| writer.family(base, family));
    if dialect == Dialect::OpenMetrics {
        writer.out.push_str("# EOF\n");
    }
    writer.out
}

struct Writer {
    out: String,
    /// The part of a series' lines that is the same in all of them.
    head: String,
    /// The bounds of the last histogram, and how they are written: nearly always those of the next one, too.
    bounds: Option<(Arc<[f64]>, Vec<String>)>,
    dialect: Dialect,
}

impl Writer {
    fn family(&mut self, base: &str, family: &Family<'_>) {
        match self.dialect {
            Dialect::Text => self.text_metadata(base, family),
            Dialect::OpenMetrics => self.open_metrics_metadata(base, family),
        }
        for series in &family.series {
            match series.value {
                Value::Int(number) => {
                    self.start(base, family.shape.suffix(), &series.labels);
                    let _ = writeln!(self.out, " {number}");
                }
                Value::Float(number) => {
                    self.start(base, family.shape.suffix(), &series.labels);
                    self.out.push(' ');
                    self.float(number);
                    self.out.push('\n');
                }
                Value::Histogram(point) => self.histogram(base, &series.labels, point),
            }
        }
    }

    fn text_metadata(&mut self, base: &str, family: &Family<'_>) {
        let suffix = family.shape.suffix();
        let kind = match family.shape {
            Shape::Counter => "counter",
            // `process.thread.count`: Prometheus' lint has nothing against the name where no kind is told.
            Shape::Gauge if RESERVED.iter().any(|end| base.ends_with(end)) => "untyped",
            Shape::Gauge | Shape::Info => "gauge",
            Shape::Histogram => "histogram",
        };
        if !family.help.is_empty() {
            let _ = write!(self.out, "# HELP {base}{suffix} ");
            push_escaped(&mut self.out, family.help, false);
            self.out.push('\n');
        }
        let _ = writeln!(self.out, "# TYPE {base}{suffix} {kind}");
    }

    fn open_metrics_metadata(&mut self, base: &str, family: &Family<'_>) {
        let kind = match family.shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram => "histogram",
            Shape::Info => "info",
        };
        let _ = writeln!(self.out, "# TYPE {base} {kind}");
        // A name that is nothing but the unit does not end in it, as OpenMetrics sees it.
        if !family.unit.is_empty() && base != family.unit {
            let _ = writeln!(self.out, "# UNIT {base} {}", family.unit);
        }
        if !family.help.is_empty() {
            let _ = write!(self.out, "# HELP {base} ");
            push_escaped(&mut self.out, family.help, true);
            self.out.push('\n');
        }
    }

    /// The name and the labels.
    fn start(&mut self, base: &str, suffix: &str, labels: &[Pair<'_>]) {
        self.out.push_str(base);
        self.out.push_str(suffix);
        if !labels.is_empty() {
            self.out.push('{');
            push_labels(&mut self.out, labels);
            self.out.push('}');
        }
    }

    fn histogram(&mut self, base: &str, labels: &[Pair<'_>], point: &HistogramPoint) {
        let (_, bounds) = self
            .bounds
            .take_if(|(bounds, _)| Arc::ptr_eq(bounds, &point.bounds))
            .unwrap_or_else(|| (Arc::clone(&point.bounds), self.written(&point.bounds)));
        self.head.clear();
        self.head.push_str(base);
        self.head.push_str("_bucket{");
        push_labels(&mut self.head, labels);
        if !labels.is_empty() {
            self.head.push(',');
        }
        self.head.push_str("le=\"");
        let mut count = 0_u64;
        for (nth, bound) in bounds.iter().map(String::as_str).chain(["+Inf"]).enumerate() {
            count += point.counts.get(nth).copied().unwrap_or(0);
            self.out.push_str(&self.head);
            self.out.push_str(bound);
            self.out.push_str("\"} ");
            push_int(&mut self.out, count);
            if let Some(exemplar) = point.exemplars.get(nth).and_then(Option::as_ref) {
                self.exemplar(exemplar);
            }
            self.out.push('\n');
        }
        self.start(base, "_sum", labels);
        self.out.push(' ');
        self.float(point.sum);
        self.out.push('\n');
        self.start(base, "_count", labels);
        let _ = writeln!(self.out, " {count}");
        self.bounds = Some((Arc::clone(&point.bounds), bounds));
    }

    fn written(&self, bounds: &[f64]) -> Vec<String> {
        let written = |bound: &f64| {
            let mut out = String::new();
            push(&mut out, *bound, self.dialect);
            out
        };
        bounds.iter().map(written).collect()
    }

    /// The text format has no place for it.
    fn exemplar(&mut self, exemplar: &Exemplar) {
        if self.dialect == Dialect::Text {
            return;
        }
        let Exemplar { trace_id, span_id, value, unix_nanos } = *exemplar;
        self.out.push_str(" # {trace_id=\"");
        push_hex(&mut self.out, &trace_id.to_hex());
        self.out.push_str("\",span_id=\"");
        push_hex(&mut self.out, &span_id.to_hex());
        self.out.push_str("\"} ");
        self.float(value);
        self.out.push(' ');
        push_int(&mut self.out, unix_nanos / 1_000_000_000);
        // Prometheus keeps milliseconds.
        let _ = write!(self.out, ".{:03}", unix_nanos / 1_000_000 % 1000);
    }

    fn float(&mut self, number: f64) {
        push(&mut self.out, number, self.dialect);
    }
}

fn push(out: &mut String, number: f64, dialect: Dialect) {
    match dialect {
        Dialect::Text => push_float(out, number),
        Dialect::OpenMetrics => push_point_float(out, number),
    }
}

fn push_hex(out: &mut String, digits: &[u8]) {
    out.push_str(std::str::from_utf8(digits).expect("hex digits are ASCII"));
}

fn push_labels(out: &mut String, labels: &[Pair<'_>]) {
    for (nth, (name, value)) in labels.iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        push_escaped(out, value, true);
        out.push('"');
    }
}

/// Backslashes and line feeds cannot stand for themselves, nor quotes where the text stands between some.
fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'\n') || (quotes && byte == b'"')) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}
