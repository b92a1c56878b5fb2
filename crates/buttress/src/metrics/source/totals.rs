//! What a JSON page tells of caches and streams.

use serde::Serialize;

use super::cache::{self, EvictionCause};
use super::hit_ratio::Gets;
use super::stream::{self, StreamKind};
use crate::metrics::{LabelValue, Point, Snapshot};

/// The numbers of a cache, or of several; since the start, but for what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Lookups that found something.
    pub hits: u64,
    /// Lookups that found nothing.
    pub misses: u64,
    /// Entries that the cache gave up, because it was full or their time was over. Those that were replaced or removed
    /// are not among them.
    pub evictions: u64,
    /// The hits among the lookups, 0 to 1; `None` when nobody asked.
    pub hit_ratio: Option<f64>,
    /// Entries there are; `None` when nobody tells.
    pub entries: Option<u64>,
    /// Bytes they need; `None` when nobody tells.
    pub bytes: Option<u64>,
}

/// The streams of one kind, on all routes; since the start, but for those that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamStats {
    /// Open now.
    pub open: u64,
    /// Opened.
    pub opened: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Bytes of the messages received.
    pub bytes_in: u64,
    /// Bytes of the messages sent.
    pub bytes_out: u64,
    /// Errors met.
    pub errors: u64,
}

/// All caches of a registry together.
pub fn cache_totals(snapshot: &Snapshot) -> CacheStats {
    let gets = |result| sum(snapshot, cache::GETS, &[(cache::RESULT, result)]).unwrap_or(0);
    let given_up = |cause: EvictionCause| sum(snapshot, cache::EVICTIONS, &[(cache::CAUSE, cause.as_str())]);
    let gets = Gets { hits: gets(cache::HIT), misses: gets(cache::MISS) };
    CacheStats {
        hits: gets.hits,
        misses: gets.misses,
        evictions: EvictionCause::ALL.into_iter().filter(|cause| cause.is_by_cache()).filter_map(given_up).sum(),
        hit_ratio: gets.ratio(),
        entries: sum(snapshot, cache::ENTRIES, &[]),
        bytes: sum(snapshot, cache::SIZE, &[]),
    }
}

/// All streams of a kind together.
pub fn stream_totals(snapshot: &Snapshot, kind: StreamKind) -> StreamStats {
    let kind = (stream::KIND, kind.as_str());
    let of_kind = |name| sum(snapshot, name, &[kind]).unwrap_or(0);
    let one_way = |name, way| sum(snapshot, name, &[kind, (stream::DIRECTION, way)]).unwrap_or(0);
    StreamStats {
        open: of_kind(stream::OPEN),
        opened: of_kind(stream::OPENED),
        messages_in: one_way(stream::MESSAGES, stream::IN),
        messages_out: one_way(stream::MESSAGES, stream::OUT),
        bytes_in: one_way(stream::BYTES, stream::IN),
        bytes_out: one_way(stream::BYTES, stream::OUT),
        errors: of_kind(stream::ERRORS),
    }
}

/// The sum over the series of a metric that have these labels; `None` when there are none.
fn sum(snapshot: &Snapshot, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
    let family = snapshot.families.iter().find(|family| *family.name == *name)?;
    let fits = family.series.iter().filter(|series| {
        let has = |(key, value): &(&str, &str)| {
            series.labels.iter().any(|label| label.key == *key && label.value == LabelValue::Text(value))
        };
        labels.iter().all(has)
    });
    fits.filter_map(|series| match series.point {
        // A stream that is opened on one thread and closed on another may for a moment be read as closed only.
        Point::Int(number) => Some(number.max(0) as u64),
        Point::Float(number) => Some(number as u64),
        Point::Histogram(_) => None,
    })
    .reduce(|sum, number| sum + number)
}
