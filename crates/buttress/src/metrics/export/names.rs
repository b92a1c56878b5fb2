//! OpenTelemetry's names as Prometheus writes them (OpenTelemetry, "Prometheus and OpenMetrics Compatibility").

use std::borrow::Cow;

use crate::metrics::{Kind, Label, Stored};

/// The name of a family, without the `_total` of counters: as OpenMetrics has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) base: String,
    /// The word for the unit, in which `base` ends; empty for none.
    pub(super) unit: String,
}

/// A label by its translated name.
pub(super) type Pair<'a> = (String, Cow<'a, str>);

/// UCUM's units, and the words that Prometheus has for them.
const UNITS: [(&str, &str); 32] = [
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("min", "minutes"),
    ("h", "hours"),
    ("d", "days"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tebibytes"),
    ("kBy", "kilobytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("bit", "bits"),
    ("m", "meters"),
    ("km", "kilometers"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("kJ", "kilojoules"),
    ("W", "watts"),
    ("kW", "kilowatts"),
    ("g", "grams"),
    ("kg", "kilograms"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
    ("1", ""),
];

/// After a slash a unit stands in the singular.
const PER: [(&str, &str); 9] = [
    ("s", "second"),
    ("min", "minute"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("wk", "week"),
    ("mo", "month"),
    ("y", "year"),
];

pub(super) fn family(name: &str, unit: &str, kind: Kind) -> Name {
    let mut base = clean(name, true);
    if kind == Kind::Counter {
        strip_end(&mut base, "_total");
    }
    let unit = if unit == "1" && kind == Kind::Gauge { "ratio".to_owned() } else { unit_words(unit) };
    let has_unit = base == unit || base.strip_suffix(&unit).is_some_and(|before| before.ends_with('_'));
    if !unit.is_empty() && !has_unit {
        push_clean(&mut base, "_", true);
        base.push_str(&unit);
    }
    // What follows brings an underscore of its own.
    strip_end(&mut base, "_");
    Name { base, unit }
}

/// Sorted by name. Keys that become one name have their values joined in the order of the keys; a label without a value is
/// none, as Prometheus has it.
pub(super) fn labels(labels: &[Label], kind: Kind) -> Vec<Pair<'_>> {
    pairs(labels.iter().map(|label| (&*label.key, text(&label.value))), kind)
}

pub(super) fn pairs<'a>(labels: impl Iterator<Item = (&'a str, Cow<'a, str>)>, kind: Kind) -> Vec<Pair<'a>> {
    let mut sorted: Vec<_> = labels.filter(|(_, value)| !value.is_empty()).collect();
    sorted.sort_by_key(|(key, _)| *key);
    let mut pairs: Vec<Pair<'a>> = sorted.into_iter().map(|(key, value)| (label(key, kind), value)).collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    pairs.dedup_by(|(next, value), (kept, joined)| {
        let same = next == kept;
        if same {
            let joined = joined.to_mut();
            joined.push(';');
            joined.push_str(value);
        }
        same
    });
    pairs
}

fn text(value: &Stored) -> Cow<'_, str> {
    match value {
        Stored::Text(text) => Cow::Borrowed(text),
        Stored::Int(_) | Stored::Bool(_) => Cow::Owned(value.to_string()),
    }
}

fn label(key: &str, kind: Kind) -> String {
    let name = clean(key, false);
    // The bound of a bucket is told in this one. Prometheus itself renames what clashes in the same way.
    if name == "le" && kind == Kind::Histogram { "exported_le".to_owned() } else { name }
}

fn unit_words(unit: &str) -> String {
    let mut bare = String::with_capacity(unit.len());
    let mut depth = 0_u32;
    for letter in unit.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => bare.push(letter),
            _ => {}
        }
    }
    let (of, per) = bare.split_once('/').unwrap_or((&bare, ""));
    let mut words = word(&UNITS, of.trim());
    let per = word(&PER, per.trim());
    if !per.is_empty() {
        words.push_str(if words.is_empty() { "per_" } else { "_per_" });
        words.push_str(&per);
    }
    words
}

fn word(words: &[(&str, &str)], unit: &str) -> String {
    match words.iter().find(|(known, _)| *known == unit) {
        Some((_, word)) => (*word).to_owned(),
        None if unit.is_empty() => String::new(),
        // Underscores are put where it is joined.
        None => clean(unit, false).trim_matches('_').to_owned(),
    }
}

fn clean(name: &str, colons: bool) -> String {
    let mut out = String::with_capacity(name.len() + 16);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        out.push('_');
    }
    push_clean(&mut out, name, colons);
    out
}

fn push_clean(out: &mut String, name: &str, colons: bool) {
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() || (colons && letter == ':') {
            out.push(letter);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
}

/// Takes the end off, unless it is all there is.
fn strip_end(name: &mut String, end: &str) {
    let before = name.strip_suffix(end).map(str::len).filter(|before| *before > 0);
    name.truncate(before.unwrap_or(name.len()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str, unit: &str, kind: Kind) -> String {
        family(name, unit, kind).base
    }

    #[test]
    fn the_names_of_the_conventions_become_those_that_dashboards_know() {
        let names = [
            ("http.server.request.duration", "s", Kind::Histogram, "http_server_request_duration_seconds"),
            ("http.server.active_requests", "{request}", Kind::UpDownCounter, "http_server_active_requests"),
            ("http.client.request.body.size", "By", Kind::Histogram, "http_client_request_body_size_bytes"),
            ("process.cpu.utilization", "1", Kind::Gauge, "process_cpu_utilization_ratio"),
            ("process.cpu.time", "s", Kind::Counter, "process_cpu_time_seconds"),
            ("system.network.io", "By/s", Kind::Gauge, "system_network_io_bytes_per_second"),
            ("jobs", "{job}/s", Kind::Gauge, "jobs_per_second"),
            ("load", "%", Kind::Gauge, "load_percent"),
            ("cache", "TiBy", Kind::Gauge, "cache_tebibytes"),
            ("share", "1", Kind::Counter, "share"),
            ("process.thread.count", "{thread}", Kind::UpDownCounter, "process_thread_count"),
            ("batch.count", "", Kind::Histogram, "batch_count"),
            ("weight", "short ton", Kind::Gauge, "weight_short_ton"),
        ];
        for (from, unit, kind, to) in names {
            assert_eq!(name(from, unit, kind), to);
        }
    }

    #[test]
    fn units_become_the_words_that_other_translators_have_for_them() {
        let words = "s:seconds ms:milliseconds us:microseconds ns:nanoseconds min:minutes h:hours d:days By:bytes \
                     KiBy:kibibytes MiBy:mebibytes GiBy:gibibytes TiBy:tebibytes kBy:kilobytes KBy:kilobytes \
                     MBy:megabytes GBy:gigabytes TBy:terabytes bit:bits m:meters km:kilometers V:volts A:amperes \
                     J:joules kJ:kilojoules W:watts kW:kilowatts g:grams kg:kilograms Cel:celsius Hz:hertz %:percent \
                     /s:per_second /min:per_minute /m:per_minute /h:per_hour /d:per_day /w:per_week /wk:per_week \
                     /mo:per_month /y:per_year 1: {request}: {a{b}c}/s:per_second";
        for (unit, word) in words.split(' ').map(|pair| pair.split_once(':').unwrap()) {
            assert_eq!(unit_words(unit), word, "{unit}");
        }
    }

    #[test]
    fn a_suffix_that_is_there_already_is_not_added_again() {
        assert_eq!(name("lag.seconds", "s", Kind::Gauge), "lag_seconds");
        assert_eq!(name("seconds", "s", Kind::Gauge), "seconds");
        assert_eq!(name("orders.total", "", Kind::Counter), "orders");
        assert_eq!(name("orders.total", "", Kind::Gauge), "orders_total");
        assert_eq!(name("cpu.seconds.total", "s", Kind::Counter), "cpu_seconds");
        // Elsewhere than at the end it is no suffix.
        assert_eq!(name("seconds.behind", "s", Kind::Gauge), "seconds_behind_seconds");
        assert_eq!(name("microseconds", "s", Kind::Gauge), "microseconds_seconds");
        assert_eq!(name("total", "", Kind::Counter), "total");
    }

    #[test]
    fn characters_that_no_name_may_have_become_single_underscores() {
        assert_eq!(name("a..b--c  d", "", Kind::Gauge), "a_b_c_d");
        assert_eq!(name("1st.día.", "s", Kind::Gauge), "_1st_d_a_seconds");
        assert_eq!(name("job:rate", "", Kind::Gauge), "job:rate");
        assert_eq!(label("job:rate", Kind::Gauge), "job_rate");
        assert_eq!(name("", "", Kind::Gauge), "_");
    }

    #[test]
    fn keys_that_become_one_name_have_their_values_joined_in_the_order_of_the_keys() {
        let set = [
            Label { key: "http_route".into(), value: "c".into() },
            Label { key: "http.route".into(), value: "b".into() },
            Label { key: "http-route".into(), value: "a".into() },
            Label { key: "code".into(), value: Stored::Int(200) },
            Label { key: "is.last".into(), value: Stored::Bool(true) },
            Label { key: "nothing".into(), value: "".into() },
        ];
        let joined = labels(&set, Kind::Counter);
        let shown: Vec<String> = joined.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["code=200", "http_route=a;b;c", "is_last=true"]);
    }

    #[test]
    fn a_label_of_ours_does_not_pass_for_the_bound_of_a_bucket() {
        let le = [Label { key: "le".into(), value: "mine".into() }];
        assert_eq!(labels(&le, Kind::Histogram)[0].0, "exported_le");
        assert_eq!(labels(&le, Kind::Gauge)[0].0, "le");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_a_valid_name_comes_out(text in ".*", unit in ".*", counter: bool) {
            let kind = if counter { Kind::Counter } else { Kind::Gauge };
            let translated = family(&text, &unit, kind);
            let valid = |name: &str, extra: &[char]| {
                !name.starts_with(|first: char| first.is_ascii_digit())
                    && !name.is_empty()
                    && !name.contains("__")
                    && name.chars().all(|letter| letter.is_ascii_alphanumeric() || extra.contains(&letter))
            };
            prop_assert!(valid(&translated.base, &['_', ':']), "{translated:?}");
            prop_assert!(translated.base.ends_with(&translated.unit), "{translated:?}");
            let key = label(&text, kind);
            prop_assert!(valid(&key, &['_']), "{key}");
        }
    }
}
