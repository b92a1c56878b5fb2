//! The numbers of a server's or a client's requests.
//!
//! | file | holds |
//! |---|---|
//! | `key` | what tells series apart, packed into one word |
//! | `intern` | routes, hosts and names of errors as bounded numbers |
//! | `exchange` | the series that the end of a request is recorded into |
//! | `tally`, `hosts`, `ended` | what has begun, of each host too, and how it ended |
//! | `collect` | from the series to families of the conventions |

mod collect;
mod ended;
mod exchange;
mod hosts;
mod intern;
mod key;
mod tally;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use http::Method;

use super::buckets::nanos;
use super::config::MetricsConfig;
use super::family::OVERFLOW;
use super::labels::Label;
use super::measure::Measure;
use super::overflow::Overflow;
use super::snapshot::{FamilySnapshot, Overflowed};
use super::table::Table;
use super::windows::Windows;
use crate::classify::{Ending, Outcome};
use crate::clock;
use crate::context::{self, Context};
use crate::observe::methods::OTHER;
use crate::observe::protocol::known_method;
use crate::observe::{End, KnownMethods};
use crate::shard::{Own, Shard};

pub(super) use ended::Ended;
use ended::Endings;
pub(super) use exchange::{ExchangeSeries, RouteSeries};
use exchange::{MethodSeries, RequestBodySeries};
use hosts::Hosts;
pub(super) use intern::Interned;
use intern::Interner;
pub(super) use key::{Beginning, Failure, Key, KnownMethod, Scheme};
use tally::Tally;

/// Whose requests they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Those that are served.
    Server,
    /// Those that are sent.
    Client,
}

/// Names of errors that are told apart: they are types of the program's.
const MAX_ERRORS: usize = 200;
const _: () = assert!(Failure::MOST_NAMES >= MAX_ERRORS, "each has a number of its own");

/// Everything that is counted of requests on one side.
pub(super) struct Requests {
    side: Side,
    config: MetricsConfig,
    windows: Arc<Windows>,
    routes: Interner,
    rpc_methods: Interner,
    hosts: Interner,
    errors: Interner,
    /// Those that no convention knows, and the program does.
    methods: Interner,
    unknown_methods: Overflow,
    /// Those whose host is not told.
    started: Tally,
    /// Those among them whose end was counted in [`beyond`](Self::beyond).
    ended_beyond: Tally,
    /// As both, of the others.
    hosts_began: Hosts,
    hosts_overflow: Overflow,
    exchanges: Table<u64, Arc<ExchangeSeries>>,
    by_method: Table<u64, Arc<MethodSeries>>,
    by_route: Table<u64, Arc<RouteSeries>>,
    bodies: Table<u64, RequestBodySeries>,
    bodies_beyond: OnceLock<RequestBodySeries>,
    beyond: OnceLock<Arc<ExchangeSeries>>,
    overflow: Overflow,
}

/// How a request ended, and what that means.
#[derive(Clone, Copy)]
pub(super) struct RouteEnd {
    pub(super) ending: Ending,
    pub(super) outcome: Outcome,
}

impl Requests {
    pub(super) fn new(side: Side, config: &MetricsConfig, windows: &Arc<Windows>) -> Self {
        let MetricsConfig { max_series, max_routes, max_hosts, .. } = *config;
        Self {
            side,
            config: config.clone(),
            windows: Arc::clone(windows),
            routes: Interner::new(max_routes),
            rpc_methods: Interner::new(max_routes),
            hosts: Interner::new(max_hosts),
            errors: Interner::new(MAX_ERRORS),
            methods: Interner::new(KnownMethod::MOST - KnownMethod::USUAL),
            unknown_methods: Overflow::default(),
            started: Tally::new(),
            ended_beyond: Tally::new(),
            hosts_began: Hosts::new(max_series),
            hosts_overflow: Overflow::default(),
            exchanges: Table::new(max_series),
            by_method: Table::new(max_series),
            by_route: Table::new(2 * max_routes + 4),
            bodies: Table::new(max_series),
            bodies_beyond: OnceLock::new(),
            beyond: OnceLock::new(),
            overflow: Overflow::default(),
        }
    }

    #[inline]
    pub(super) fn start(&self, method: KnownMethod, scheme: Scheme) {
        self.started.count(Shard::mine(), method, scheme);
    }

    /// Both [`method`](Self::method) and [`start`](Self::start), on the shortest path; `None` when nothing was counted.
    #[inline]
    pub(super) fn start_own(&self, method: &Method, known: &KnownMethods, scheme: Scheme) -> Option<KnownMethod> {
        let nth = known_method(method)?;
        if !known.has_standard(nth) {
            return None;
        }
        self.started.count_own(Own::mine()?, KnownMethod::standard(nth), scheme)?;
        Some(KnownMethod::standard(nth))
    }

    /// By the methods that are known.
    #[inline]
    pub(super) fn method(&self, method: &Method, known: &KnownMethods) -> KnownMethod {
        match known_method(method) {
            Some(nth) if known.has_standard(nth) => KnownMethod::standard(nth),
            _ => self.unusual_method(method, known),
        }
    }

    #[cold]
    fn unusual_method(&self, method: &Method, known: &KnownMethods) -> KnownMethod {
        match known.contains(method) {
            true => KnownMethod::interned(self.methods.intern(method.as_str())),
            false => KnownMethod::OTHER,
        }
    }

    pub(super) fn method_text(&self, method: KnownMethod) -> Cow<'static, str> {
        let interned =
            |method| self.methods.text(method).map_or(Cow::Borrowed(OTHER), |name| Cow::Owned(name.to_string()));
        method.name().map_or_else(interned, Cow::Borrowed)
    }

    pub(super) fn route(&self, template: &str) -> Interned {
        self.routes.intern(template)
    }

    pub(super) fn known_rpc_method(&self, method: &str) -> Option<Interned> {
        self.rpc_methods.find(method)
    }

    pub(super) fn rpc_method(&self, method: &str) -> Interned {
        self.rpc_methods.intern(method)
    }

    pub(super) fn host(&self, authority: &str) -> Interned {
        self.hosts.intern(authority)
    }

    pub(super) fn failure(&self, end: &End<'_>) -> Failure {
        Failure::of(end.error_type, |name| self.errors.intern(name))
    }

    pub(super) fn failure_named(&self, name: &'static str) -> Failure {
        Failure::Named(self.errors.intern(name))
    }

    #[cold]
    pub(super) fn note_unknown_method(&self, method: &Method) {
        self.unknown_methods.note(method.as_str());
    }

    /// Records the end of a request. Streams leave the latencies alone.
    pub(super) fn end(&self, key: &Key, end: &End<'_>, is_stream: bool) {
        let series = self.exchange(key);
        let is_plain = !is_stream && !end.exchange.context.as_ref().is_some_and(Context::is_sampled);
        let ended = || series.end_whole_own(Own::mine()?, end);
        if !is_plain || ended().is_none() {
            self.end_more(key, series, end, is_stream);
        }
    }

    /// Of a stream, with an exemplar, without a head, in a place that has to be made, or beyond all places.
    #[inline(never)]
    fn end_more(&self, key: &Key, series: &ExchangeSeries, end: &End<'_>, is_stream: bool) {
        let shard = Shard::mine();
        let endings = if is_stream {
            series.duration.tail(shard)
        } else {
            let trace = end.exchange.context.as_ref().filter(|context| context.is_sampled()).map(Context::trace);
            let exemplar = trace.as_ref().map(|trace| (trace, clock::unix_nanos(end.at)));
            let took = nanos(end.at.saturating_duration_since(end.exchange.started));
            series.record_body(shard, end, took);
            series.record(shard, took, exemplar, end.outcome.is_error())
        };
        let end = RouteEnd { ending: end.how.ending(), outcome: end.outcome };
        self.count_end(shard, key.beginning(), series, endings, end);
    }

    /// As [`end`](Self::end), of a request that nobody watched; its trace is the current one.
    pub(super) fn end_of_route(&self, series: &ExchangeSeries, method: KnownMethod, end: RouteEnd, took: u64) {
        let RouteEnd { ending, outcome } = end;
        let ended = || series.end_own(Own::mine()?, took, ending, outcome);
        if context::is_sampled() || ended().is_none() {
            self.end_of_route_first(series, method, end, took);
        }
    }

    /// With an exemplar, in a place that has to be made, or beyond all places.
    #[inline(never)]
    fn end_of_route_first(&self, series: &ExchangeSeries, method: KnownMethod, end: RouteEnd, took: u64) {
        let shard = Shard::mine();
        let trace = context::sampled_trace();
        let exemplar = trace.as_ref().map(|trace| (trace, clock::unix_nanos(clock::now())));
        let endings = series.record(shard, took, exemplar, end.outcome.is_error());
        let began = Beginning { method, scheme: Scheme::Http, host: Interned::NONE };
        self.count_end(shard, began, series, endings, end);
    }

    /// Last: a request that is no longer active has been recorded.
    fn count_end(&self, shard: Shard, began: Beginning, series: &ExchangeSeries, endings: &Endings, end: RouteEnd) {
        endings.count(shard, end.ending, end.outcome);
        if series.began.is_none() {
            self.end_beyond(shard, began);
        }
    }

    /// Records how much was read of a request's body. What does not fit is not told apart.
    pub(super) fn request_body(&self, key: &Key, bytes: u64) {
        let key = Key { version: http::Version::HTTP_11, ..*key };
        let packed = key.packed();
        let make = |_| (packed, RequestBodySeries::new(self.request_labels(&key), &self.config));
        let found = self.bodies.find_or_make(spread(packed), |known| *known == packed, make);
        let series = found.unwrap_or_else(|| self.bodies_beyond(&key));
        series.size.record(Shard::mine(), bytes, Measure::Plain, None);
    }

    #[cold]
    fn bodies_beyond(&self, key: &Key) -> &RequestBodySeries {
        self.overflow.note(&super::labels::shown(&&*self.request_labels(key)));
        self.bodies_beyond.get_or_init(|| RequestBodySeries::new(overflow_labels(), &self.config))
    }

    pub(super) fn exchange(&self, key: &Key) -> &Arc<ExchangeSeries> {
        let packed = key.packed();
        let found = self.exchanges.find_or_make(
            spread(packed),
            |known| *known == packed,
            |_| (packed, Arc::new(self.new_exchange(key))),
        );
        found.unwrap_or_else(|| self.beyond(key))
    }

    fn new_exchange(&self, key: &Key) -> ExchangeSeries {
        ExchangeSeries::new(self.labels(key), Some(key.beginning()), self.by_method(key), &self.config)
    }

    /// There are as many series as there may be.
    #[cold]
    fn beyond(&self, key: &Key) -> &Arc<ExchangeSeries> {
        self.overflow.note(&super::labels::shown(&&*self.labels(key)));
        self.beyond.get_or_init(|| {
            let other = Key { route: Interned::OTHER, host: Interned::OTHER, method: KnownMethod::OTHER, ..*key };
            Arc::new(ExchangeSeries::new(overflow_labels(), None, self.by_method(&other), &self.config))
        })
    }

    fn by_method(&self, key: &Key) -> Arc<MethodSeries> {
        let only = Key {
            scheme: Scheme::Http,
            version: http::Version::HTTP_11,
            status: None,
            grpc_code: None,
            failure: Failure::None,
            ..*key
        };
        let packed = only.packed();
        let make = |key: &Key| Arc::new(MethodSeries::new(self.method_labels(key), self.by_route(key), &self.config));
        let found = self.by_method.find_or_make(spread(packed), |known| *known == packed, |_| (packed, make(&only)));
        // The table is as large as that of the exchanges, each of which needs one at most.
        found.map_or_else(|| make(&only), Arc::clone)
    }

    fn by_route(&self, key: &Key) -> Arc<RouteSeries> {
        let packed = u64::from(key.is_grpc) << 16 | u64::from(key.route.0);
        let make = |nth| Arc::new(RouteSeries::new(nth, self.template(key), key.is_grpc, self.windows.open()));
        let found = self.by_route.find_or_make(spread(packed), |known| *known == packed, |nth| (packed, make(nth)));
        // The table has room for every route that may be told apart, and for those that are not.
        found.map_or_else(|| make(self.by_route.iter().count()), Arc::clone)
    }

    pub(super) fn route_text(&self, route: Interned) -> Option<Arc<str>> {
        self.routes.text(route)
    }

    fn template(&self, key: &Key) -> Option<Arc<str>> {
        match key.is_grpc {
            true => self.rpc_methods.text(key.route),
            false => self.routes.text(key.route),
        }
    }

    pub(super) fn families(&self) -> Vec<FamilySnapshot> {
        collect::families(self)
    }

    pub(super) fn overflowed(&self) -> Vec<Overflowed> {
        collect::overflowed(self)
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    fn exchange_series(&self) -> impl Iterator<Item = &Arc<ExchangeSeries>> {
        self.exchanges.iter().map(|(_, series)| series).chain(self.beyond.get())
    }

    pub(super) fn active_count(&self, ended: &Ended) -> u64 {
        let of_hosts = self.active_by_host(ended).map(|(_, count)| count);
        self.active(ended).map(|(_, _, count)| count).chain(of_hosts).sum()
    }

    /// Every route that was ever asked for, unmatched requests among them as one.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<RouteSeries>> {
        self.by_route.iter().map(|(_, route)| route)
    }
}

fn overflow_labels() -> Arc<[Label]> {
    Arc::new([Label::new(OVERFLOW, "true")])
}

/// Packed keys differ in few bits; the slots want all of them (folded multiplication, as wyhash and foldhash have it).
fn spread(packed: u64) -> u64 {
    let wide = u128::from(packed) * 0x9e37_79b9_7f4a_7c15;
    wide as u64 ^ (wide >> 64) as u64
}
