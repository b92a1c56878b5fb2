use std::cmp::Reverse;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// What a page of metrics is written in.
///
/// ```
/// use buttress::metrics::export::Format;
/// use http::HeaderMap;
/// use http::header::ACCEPT;
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(Format::accepted_by(&headers), Format::Text);
/// headers.insert(ACCEPT, "application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1".parse()?);
/// assert_eq!(Format::accepted_by(&headers), Format::OpenMetrics);
/// assert_eq!(Format::OpenMetrics.content_type(), "application/openmetrics-text; version=1.0.0; charset=utf-8");
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Prometheus' text format 0.0.4; for everybody who does not ask for another.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// OpenMetrics 0.0.1: the same page for older servers, which ask for it by this version.
    OpenMetricsDraft,
    /// `io.prometheus.client.MetricFamily`, delimited: what Prometheus asks for when it takes native histograms.
    #[cfg(feature = "native-histograms")]
    Protobuf,
}

/// The earlier one is taken when a client likes two equally.
const OFFERED: &[Format] = &[
    Format::Text,
    Format::OpenMetrics,
    Format::OpenMetricsDraft,
    #[cfg(feature = "native-histograms")]
    Format::Protobuf,
];

/// Parameters that tell formats of one media type apart. Others, as `charset` and `escaping`, do not matter here.
const TELLING: [&str; 3] = ["version", "proto", "encoding"];

impl Format {
    /// The one that the `Accept` fields of a request prefer (RFC 9110, section 12.5.1). Text when there are none, when they
    /// cannot be read, and when they want nothing that we have: a page in another format is better than none.
    pub fn accepted_by(headers: &HeaderMap) -> Self {
        let fields = headers.get_all(ACCEPT).into_iter().filter_map(|field| field.to_str().ok());
        let ranges: Vec<Range<'_>> = fields.flat_map(|field| split(field, ',')).filter_map(Range::parse).collect();
        let weighed = OFFERED.iter().filter_map(|format| {
            let matching = ranges.iter().enumerate();
            let matching = matching.filter_map(|(nth, range)| Some((range.fits(*format)?, Reverse(nth), range.weight)));
            // The most specific range says how much it is wanted; a later one of the same specificity adds nothing.
            let (specificity, nth, weight) = matching.max()?;
            (weight > 0).then_some(((weight, specificity, nth), *format))
        });
        // `max_by_key` would take the last of equals.
        weighed.reduce(|best, next| if next.0 > best.0 { next } else { best }).map_or(Self::Text, |(_, format)| format)
    }

    /// The value of `Content-Type`; Prometheus 3 takes no page without one.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::OpenMetricsDraft => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            #[cfg(feature = "native-histograms")]
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        })
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain"),
            Self::OpenMetrics | Self::OpenMetricsDraft => ("application", "openmetrics-text"),
            #[cfg(feature = "native-histograms")]
            Self::Protobuf => ("application", "vnd.google.protobuf"),
        }
    }

    /// The value of a parameter that tells this format from others of its media type.
    fn parameter(self, name: &str) -> Option<&'static str> {
        match (self, name) {
            (Self::Text, "version") => Some("0.0.4"),
            (Self::OpenMetrics, "version") => Some("1.0.0"),
            (Self::OpenMetricsDraft, "version") => Some("0.0.1"),
            #[cfg(feature = "native-histograms")]
            (Self::Protobuf, "proto") => Some("io.prometheus.client.MetricFamily"),
            #[cfg(feature = "native-histograms")]
            (Self::Protobuf, "encoding") => Some("delimited"),
            _ => None,
        }
    }
}

/// One element of `Accept`.
struct Range<'a> {
    media_type: (&'a str, &'a str),
    parameters: Vec<(String, &'a str)>,
    /// In thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    fn parse(element: &'a str) -> Option<Self> {
        let mut parts = split(element, ';').map(str::trim);
        let media_type = parts.next()?.split_once('/')?;
        let mut this = Self { media_type, parameters: Vec::new(), weight: 1000 };
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            let (name, value) = (name.trim_end().to_ascii_lowercase(), value.trim_start().trim_matches('"'));
            if name == "q" {
                this.weight = weight(value)?;
            } else if TELLING.contains(&&*name) {
                this.parameters.push((name, value));
            }
        }
        Some(this)
    }

    /// How specifically this range means the format, if it does.
    fn fits(&self, format: Format) -> Option<usize> {
        let (group, name) = format.media_type();
        let specificity = match self.media_type {
            ("*", "*") => 0,
            (range, "*") if range.eq_ignore_ascii_case(group) => 1,
            (range, of) if range.eq_ignore_ascii_case(group) && of.eq_ignore_ascii_case(name) => 2,
            _ => return None,
        };
        let same =
            |(name, value): &(String, &str)| format.parameter(name).is_some_and(|own| own.eq_ignore_ascii_case(value));
        self.parameters.iter().all(same).then(|| specificity + self.parameters.len())
    }
}

/// A weight in thousandths: 0 to 1 with at most three digits behind the point.
fn weight(text: &str) -> Option<u16> {
    let (whole, behind) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || behind.len() > 3 {
        return None;
    }
    let thousandths: u16 = format!("{whole}{behind:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

/// At each separator that does not stand between quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |letter| {
        quoted ^= letter == '"';
        letter == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepted(fields: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|field| {
            headers.append(ACCEPT, HeaderValue::from_str(field).unwrap());
        });
        Format::accepted_by(&headers)
    }

    const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                              text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                                application/openmetrics-text;version=0.0.1;q=0.5,\
                                text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const PROMETHEUS_WITH_NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                                          encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,\
                                          application/openmetrics-text;version=0.0.1;q=0.75,\
                                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

    #[test]
    fn a_prometheus_gets_what_it_asks_for_first() {
        assert_eq!(accepted(&[PROMETHEUS]), Format::OpenMetrics);
        assert_eq!(accepted(&[PROMETHEUS_3]), Format::OpenMetrics);
        assert_eq!(
            accepted(&["application/openmetrics-text;version=0.0.1,text/plain;q=0.5"]),
            Format::OpenMetricsDraft
        );
        assert_eq!(accepted(&["text/plain;version=0.0.4;q=0.5,*/*;q=0.1"]), Format::Text);
        #[cfg(feature = "native-histograms")]
        assert_eq!(accepted(&[PROMETHEUS_WITH_NATIVE]), Format::Protobuf);
        #[cfg(not(feature = "native-histograms"))]
        assert_eq!(accepted(&[PROMETHEUS_WITH_NATIVE]), Format::OpenMetrics);
    }

    #[test]
    fn a_browser_and_whoever_does_not_say_get_text() {
        for accept in ["*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "image/png", "text/*", ""] {
            assert_eq!(accepted(&[accept]), Format::Text, "{accept}");
        }
        assert_eq!(accepted(&[]), Format::Text);
    }

    #[test]
    fn weights_decide_before_order_and_the_most_specific_range_before_others() {
        let open_metrics = "application/openmetrics-text";
        assert_eq!(accepted(&["text/plain;q=0.4, Application/OpenMetrics-Text; q=0.5"]), Format::OpenMetrics);
        assert_eq!(accepted(&["text/plain;q=0.4", open_metrics]), Format::OpenMetrics);
        assert_eq!(accepted(&[&format!("{open_metrics};q=0,*/*;q=0.1")]), Format::Text);
        assert_eq!(accepted(&["*/*;q=0.9,text/plain;q=0.2"]), Format::OpenMetrics);
        assert_eq!(accepted(&["text/plain;q=0, application/*"]), Format::OpenMetrics);
        assert_eq!(accepted(&[&format!("{open_metrics};version=\"1.0.0\"")]), Format::OpenMetrics);
        assert_eq!(accepted(&[&format!("{open_metrics};version=2.0.0")]), Format::Text);
        assert_eq!(accepted(&[&format!("{open_metrics};x=\"a,b;q=0\"")]), Format::OpenMetrics);
        assert_eq!(accepted(&["text/plain,application/openmetrics-text"]), Format::Text);
    }

    #[test]
    fn of_two_that_are_liked_equally_the_more_specific_one_is_taken_and_then_the_earlier_one() {
        let open_metrics = "application/openmetrics-text";
        assert_eq!(accepted(&[&format!("*/*,{open_metrics}")]), Format::OpenMetrics);
        assert_eq!(accepted(&[&format!("{open_metrics},text/plain")]), Format::OpenMetrics);
        assert_eq!(accepted(&["text/plain;q=0.25,application/*;q=0.5"]), Format::OpenMetrics);
    }

    #[test]
    fn the_first_of_the_most_specific_ranges_says_how_much_a_format_is_wanted() {
        let open_metrics = "application/openmetrics-text";
        assert_eq!(accepted(&[&format!("{open_metrics};q=0.5,{open_metrics};q=0")]), Format::OpenMetrics);
        assert_eq!(accepted(&["*/*;q=0.5,text/*;q=0.1"]), Format::OpenMetrics);
        assert_eq!(accepted(&[&format!("text/*;q=0.9,text/plain;q=0.1,{open_metrics};q=0.5")]), Format::OpenMetrics);
        let by_version = format!("{open_metrics};q=0.1,{open_metrics};version=1.0.0;q=0.9,text/plain;q=0.5");
        assert_eq!(accepted(&[&by_version]), Format::OpenMetrics);
    }

    #[test]
    fn names_and_values_are_the_same_in_any_case_and_with_blanks_around_them() {
        let open_metrics = "application/openmetrics-text";
        assert_eq!(accepted(&["text/plain;q=0, Application/*"]), Format::OpenMetrics);
        assert_eq!(accepted(&[&format!("{open_metrics};VERSION=2.0.0")]), Format::Text);
        assert_eq!(accepted(&[&format!("{open_metrics} ; version = 2.0.0")]), Format::Text);
        assert_eq!(accepted(&[&format!("{open_metrics} ; version = 1.0.0 ; Q = 0.5")]), Format::OpenMetrics);
        #[cfg(feature = "native-histograms")]
        assert_eq!(accepted(&["application/vnd.google.protobuf;Encoding=DELIMITED"]), Format::Protobuf);
    }

    #[test]
    fn a_separator_between_quotes_is_none() {
        let open_metrics = "application/openmetrics-text";
        assert_eq!(accepted(&[&format!("{open_metrics};x=\"a;q=0\"")]), Format::OpenMetrics);
        assert_eq!(accepted(&[&format!("image/png;x=\",{open_metrics},\"")]), Format::Text);
    }

    #[test]
    fn another_message_or_encoding_of_protobuf_is_not_ours() {
        let protobuf = "application/vnd.google.protobuf";
        assert_eq!(accepted(&[&format!("{protobuf};proto=io.other.Message;encoding=delimited")]), Format::Text);
        assert_eq!(accepted(&[&format!("{protobuf};encoding=compact-text")]), Format::Text);
    }

    #[test]
    fn an_element_that_cannot_be_read_counts_for_nothing() {
        for q in ["2", "-1", "0.1234", "0.0001", ".5", "0.+5", "abc", "1.1", "", "1e-1", "0,5"] {
            assert_eq!(accepted(&[&format!("application/openmetrics-text;q={q}")]), Format::Text, "{q}");
        }
        assert_eq!(accepted(&["application/openmetrics-text;version"]), Format::Text);
        assert_eq!(accepted(&[";;,,/;=,application/openmetrics-text;"]), Format::OpenMetrics);
    }

    #[test]
    fn what_is_answered_is_accepted_again() {
        for format in OFFERED {
            assert_eq!(accepted(&[format.content_type().to_str().unwrap()]), *format);
        }
    }

    proptest! {
        #[test]
        fn no_field_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[a-z*/;=,q0-9. \"]{0,60}") {
            let mut headers = HeaderMap::new();
            for value in [&bytes[..], text.as_bytes()] {
                headers.extend(HeaderValue::from_bytes(value).ok().map(|value| (ACCEPT, value)));
            }
            let _ = Format::accepted_by(&headers);
        }
    }
}
