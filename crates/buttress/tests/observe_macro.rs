//! `#[observe]`: a span and metrics for each call of a function, whatever its shape.
#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, pending};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use buttress::context;
use buttress::function::Domain;
use buttress::trace::{SpanKind, SpanRecord, Status};
use buttress::{Telemetry, observe};
use futures_util::{Stream, StreamExt, stream};

/// One for the process, as functions have it; each test looks at functions of its own.
static TELEMETRY: LazyLock<Telemetry> = LazyLock::new(|| {
    let telemetry = Telemetry::from_env("test").unwrap();
    telemetry.install().unwrap();
    telemetry
});

/// The spans of this name, newest first.
fn spans(name: &str) -> Vec<Arc<SpanRecord>> {
    TELEMETRY.latest_spans(1024).into_iter().filter(|span| span.name == name).collect()
}

#[track_caller]
fn last(name: &str) -> Arc<SpanRecord> {
    spans(name).into_iter().next().expect("a span was recorded")
}

fn told(span: &SpanRecord, key: &str) -> String {
    span.attribute(key).map(ToString::to_string).unwrap_or_default()
}

fn active(name: &str) -> i64 {
    TELEMETRY.metrics().up_down_counter("buttress.operation.active").with([("operation.name", name)]).value()
}

/// Durations that were recorded with these labels.
fn counted<const N: usize>(labels: [(&str, &str); N]) -> u64 {
    TELEMETRY.metrics().timer("buttress.operation.duration").with(labels).window().unwrap().count()
}

#[track_caller]
fn ended_once(name: &str, outcome: &str, error_type: Option<&str>) {
    let span = last(name);
    assert_eq!((span.outcome.as_str(), span.status == Status::Error), (outcome, error_type.is_some()));
    assert_eq!(span.attribute("error.type").map(ToString::to_string).as_deref(), error_type);
    let (name, outcome) = (("operation.name", name), ("buttress.outcome", outcome));
    let count = match error_type {
        Some(error_type) => counted([name, outcome, ("error.type", error_type)]),
        None => counted([name, outcome]),
    };
    assert_eq!(count, 1);
    assert_eq!(active(name.1), 0);
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

mod names {
    use super::*;

    #[observe]
    fn by_its_path() -> usize {
        7
    }

    struct Gateway;

    impl Gateway {
        #[observe]
        fn r#match(&self) {}
    }

    #[test]
    fn the_name_is_the_end_of_the_path_unless_it_is_given() {
        LazyLock::force(&TELEMETRY);
        assert_eq!(by_its_path(), 7);
        assert_eq!(last("names::by_its_path").kind, SpanKind::Internal);
        Gateway.r#match();
        assert_eq!(spans("names::match").len(), 1);
    }
}

#[test]
fn a_second_telemetry_is_not_installed() {
    LazyLock::force(&TELEMETRY);
    let refused = Telemetry::from_env("second").unwrap().install().unwrap_err();
    assert!(refused.to_string().contains("already installed"));
}

mod outcomes {
    use super::*;

    #[observe(name = "sync.ok")]
    fn ok() -> i64 {
        active("sync.ok")
    }

    #[observe(name = "sync.error")]
    fn error() -> Result<(), io::Error> {
        Err(io::ErrorKind::ConnectionRefused)?;
        Ok(())
    }

    #[observe(name = "sync.panic")]
    fn panics() {
        panic!("on purpose")
    }

    #[test]
    fn a_function_ends_once_and_as_it_did() {
        LazyLock::force(&TELEMETRY);
        assert_eq!(ok(), 1);
        ended_once("sync.ok", "ok", None);
        error().unwrap_err();
        ended_once("sync.error", "error", Some("connection_refused"));
        catch_unwind(panics).unwrap_err();
        ended_once("sync.panic", "panicked", Some("panic"));
    }

    #[observe(name = "async.ok")]
    async fn ok_later() -> i64 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        active("async.ok")
    }

    #[observe(name = "async.error")]
    async fn error_later() -> Result<(), String> {
        Err("refused")?;
        Ok(())
    }

    #[observe(name = "async.timeout")]
    async fn timeout() -> Result<(), tokio::time::error::Elapsed> {
        tokio::time::timeout(Duration::from_millis(5), pending()).await
    }

    #[observe(name = "async.cancel")]
    async fn waits() {
        pending().await
    }

    #[observe(name = "async.panic")]
    async fn panics_later() {
        tokio::task::yield_now().await;
        panic!("on purpose")
    }

    #[tokio::test(start_paused = true)]
    async fn an_async_function_ends_once_in_each_of_five_ways() {
        LazyLock::force(&TELEMETRY);
        assert_eq!(ok_later().await, 1);
        ended_once("async.ok", "ok", None);
        assert_eq!(last("async.ok").duration(), Duration::from_millis(40));
        error_later().await.unwrap_err();
        ended_once("async.error", "error", Some("alloc::string::String"));
        timeout().await.unwrap_err();
        ended_once("async.timeout", "timeout", Some("timeout"));
        {
            let mut waiting = pin!(waits());
            assert!(poll_once(waiting.as_mut()).is_pending());
            assert_eq!(active("async.cancel"), 1);
        }
        ended_once("async.cancel", "cancelled", None);
        tokio::spawn(panics_later()).await.unwrap_err();
        ended_once("async.panic", "panicked", Some("panic"));
    }

    #[test]
    fn a_future_that_nobody_polls_leaves_nothing() {
        LazyLock::force(&TELEMETRY);
        #[observe(name = "never")]
        async fn never() {}
        drop(never());
        assert_eq!((spans("never").len(), active("never")), (0, 0));
    }
}

mod errors {
    use super::*;

    type Fallible = std::result::Result<u8, fmt::NotDisplayed>;

    mod fmt {
        #[derive(Debug)]
        pub(super) struct NotDisplayed;
    }

    #[observe(name = "error.alias")]
    fn by_an_alias() -> Fallible {
        Err(fmt::NotDisplayed)
    }

    #[derive(Debug)]
    enum Charge<'a> {
        Declined(&'a str),
        Late,
    }

    fn name(error: &Charge<'_>) -> &'static str {
        match error {
            Charge::Declined("") => "silent",
            Charge::Declined(_) => "declined",
            Charge::Late => "timeout",
        }
    }

    #[observe(name = "error.named", error_type = name)]
    fn named(why: &str) -> Result<(), Charge<'_>> {
        Err(if why.is_empty() { Charge::Late } else { Charge::Declined(why) })
    }

    #[observe(name = "error.none")]
    fn no_result() -> Option<Result<(), ()>> {
        Some(Err(()))
    }

    #[test]
    fn errors_are_known_by_type_and_named_by_whom_they_are_given_to() {
        LazyLock::force(&TELEMETRY);
        by_an_alias().unwrap_err();
        assert!(told(&last("error.alias"), "error.type").ends_with("NotDisplayed"));
        named("no money").unwrap_err();
        assert_eq!(told(&last("error.named"), "error.type"), "declined");
        named("").unwrap_err();
        assert_eq!(last("error.named").outcome.as_str(), "timeout");
        no_result();
        assert_eq!(last("error.none").outcome.as_str(), "ok");
    }
}

mod fields {
    use super::*;

    #[derive(Debug)]
    struct User {
        id: u64,
        name: String,
    }

    #[observe(name = "fields.none")]
    fn nothing(_user: &User, _token: &str) {}

    #[observe(name = "fields.some", fields(order, user.id, user.name, cents = euros * 100, note, "http.route" = "/x", shown = %user.id, whole = ?user, %colour))]
    fn some(order: &str, user: &User, euros: i64, note: Option<bool>, colour: impl std::fmt::Display) -> usize {
        order.len() + user.name.len() + euros as usize
    }

    struct Region {
        region: String,
    }

    impl Region {
        #[observe(name = "fields.self", fields(self.region))]
        fn region(&self) -> &str {
            &self.region
        }

        #[observe(name = "fields.arc", fields(order, self.region))]
        async fn of_arc(self: Arc<Self>, order: String) -> String {
            order + &self.region
        }
    }

    #[test]
    fn nothing_is_recorded_that_is_not_named() {
        LazyLock::force(&TELEMETRY);
        nothing(&User { id: 7, name: "ada".into() }, "hunter2");
        assert!(last("fields.none").attributes.is_empty());
        some("o-1", &User { id: 7, name: "ada".into() }, 3, None, 'x');
        let span = last("fields.some");
        let keys = ["order", "user.id", "user.name", "cents", "http.route", "shown", "whole", "colour"];
        let values = keys.map(|key| told(&span, key));
        assert_eq!(values, ["o-1", "7", "ada", "300", "/x", "7", "User { id: 7, name: \"ada\" }", "x"]);
        assert_eq!(span.attributes.len(), keys.len());
    }

    #[tokio::test]
    async fn what_is_moved_into_a_future_can_be_a_field() {
        LazyLock::force(&TELEMETRY);
        let eu = Arc::new(Region { region: "eu".into() });
        assert_eq!(eu.region(), "eu");
        assert_eq!(told(&last("fields.self"), "region"), "eu");
        assert_eq!(eu.of_arc("o-".into()).await, "o-eu");
        assert_eq!(
            (told(&last("fields.arc"), "order"), told(&last("fields.arc"), "region")),
            ("o-".into(), "eu".into())
        );
    }

    #[observe(name = "fields.secret", fields(api_key, url, long))]
    fn secrets(api_key: &str, url: &str, long: &str) {}

    #[test]
    fn fields_are_redacted_and_cut_as_attributes_are() {
        LazyLock::force(&TELEMETRY);
        secrets("hunter2", "https://x/?token=hunter2", &"x".repeat(1000));
        let span = last("fields.secret");
        assert_eq!(told(&span, "api_key"), "REDACTED");
        assert!(!format!("{span:?}").contains("hunter2"));
        assert_eq!(told(&span, "long").len(), 256);
    }
}

mod trees {
    use super::*;

    #[observe(name = "tree.outer")]
    async fn outer() -> u32 {
        middle(2) + inner().await
    }

    #[observe(name = "tree.inner")]
    async fn inner() -> u32 {
        context::with_current(|context| context.unwrap().set_attribute("seen", true));
        1
    }

    /// Calls itself.
    #[observe(name = "tree.recursive", fields(depth))]
    fn middle(depth: u32) -> u32 {
        if depth == 0 { 0 } else { middle(depth - 1) + 1 }
    }

    #[tokio::test]
    async fn calls_within_calls_are_children() {
        LazyLock::force(&TELEMETRY);
        assert_eq!(outer().await, 3);
        let (outer, inner) = (last("tree.outer"), last("tree.inner"));
        assert_eq!((inner.parent_span_id, inner.trace_id), (Some(outer.span_id), outer.trace_id));
        assert_eq!(told(&inner, "seen"), "true");
        let nested = spans("tree.recursive");
        let depths: Vec<_> = nested.iter().map(|span| told(span, "depth")).collect();
        assert_eq!(depths, ["2", "1", "0"]);
        assert_eq!(nested[2].parent_span_id, Some(nested[1].span_id));
        assert_eq!(nested[0].parent_span_id, Some(outer.span_id));
        assert_eq!(active("tree.recursive"), 0);
    }

    #[observe(name = "tree.boxed", fields(depth))]
    fn descend(depth: u32) -> Pin<Box<dyn Future<Output = Result<u32, io::Error>> + Send>> {
        Box::pin(async move {
            if depth == 0 {
                return Ok(0);
            }
            Ok(descend(depth - 1).await? + 1)
        })
    }

    #[tokio::test]
    async fn an_async_function_can_call_itself_by_a_box() {
        LazyLock::force(&TELEMETRY);
        assert_eq!(descend(3).await.unwrap(), 3);
        assert_eq!(spans("tree.boxed").len(), 4);
    }
}

mod limits {
    use super::*;

    #[observe(name = "limits", slow = "20ms", slo = "0.05s", event)]
    async fn takes(millis: u64) -> Result<(), Infallible> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_and_missed_objectives_are_marked_and_counted() {
        LazyLock::force(&TELEMETRY);
        let mut marks = Vec::new();
        for millis in [20, 21, 50, 51] {
            takes(millis).await.unwrap();
            let span = last("limits");
            marks.push([told(&span, "operation.slow"), told(&span, "operation.slo_met")].join(" "));
            assert_eq!(span.events[0].name, "limits");
        }
        assert_eq!(marks, [" true", "true true", "true true", "true false"]);
        let (metrics, name) = (TELEMETRY.metrics(), ("operation.name", "limits"));
        assert_eq!(metrics.counter("buttress.operation.slow").with([name]).value(), 3);
        let slo = |met: bool| {
            let labels =
                [("operation.name", "limits".into()), ("operation.slo_met", buttress::metrics::LabelValue::Bool(met))];
            metrics.counter("buttress.operation.slo").with(labels).value()
        };
        assert_eq!((slo(true), slo(false)), (3, 1));
        assert_eq!(counted([name, ("buttress.outcome", "ok")]), 4);
    }

    #[observe(name = "limits.event", event = "order.placed")]
    fn places() -> Result<(), io::Error> {
        Err(io::ErrorKind::TimedOut.into())
    }

    #[test]
    fn an_event_stands_at_the_end_of_the_span() {
        LazyLock::force(&TELEMETRY);
        places().unwrap_err();
        let event = &last("limits.event").events[0];
        let told: Vec<_> = event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            (event.name.as_ref(), told.join(" ")),
            ("order.placed", "buttress.outcome=timeout error.type=timeout".into())
        );
    }
}

mod domains {
    use super::*;

    const SHIPPING: Domain =
        Domain::new("shipping").attributes(&[("team", "logistics")]).slow(Duration::from_millis(1)).slo(Duration::MAX);

    #[observe(name = "domain.known", domain = payment, fields(id, app.version = 2))]
    fn charge(id: u64) {}

    #[observe(name = "domain.text", domain = "shipping")]
    fn by_text() {}

    #[observe(name = "domain.own", domain = SHIPPING, fields(parcel))]
    async fn dispatch(parcel: u8) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    #[observe(name = "domain.over", domain = self::SHIPPING, slow = "1h")]
    async fn patient() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_gives_attributes_a_prefix_and_limits() {
        LazyLock::force(&TELEMETRY);
        charge(7);
        let span = last("domain.known");
        let keys = ["buttress.domain", "payment.id", "app.version"];
        assert_eq!(keys.map(|key| told(&span, key)), ["payment", "7", "2"]);
        let labels = [("operation.name", "domain.known"), ("buttress.domain", "payment"), ("buttress.outcome", "ok")];
        assert_eq!(counted(labels), 1);
        by_text();
        assert_eq!(told(&last("domain.text"), "buttress.domain"), "shipping");
        dispatch(3).await;
        let span = last("domain.own");
        let keys = ["buttress.domain", "team", "shipping.parcel", "operation.slow", "operation.slo_met"];
        assert_eq!(keys.map(|key| told(&span, key)), ["shipping", "logistics", "3", "true", "true"]);
        patient().await;
        assert_eq!(told(&last("domain.over"), "operation.slow"), "");
    }
}

mod shapes {
    use super::*;

    #[async_trait::async_trait]
    trait Store: Sync {
        async fn load(&self, id: u64) -> Result<String, io::Error>;

        #[observe(name = "shape.default", fields(id))]
        async fn load_twice(&self, id: u64) -> Result<String, io::Error> {
            Ok(self.load(id).await? + &self.load(id).await?)
        }
    }

    struct Memory(String);

    #[async_trait::async_trait]
    impl Store for Memory {
        #[observe(name = "shape.async_trait", fields(id, self.0))]
        async fn load(&self, id: u64) -> Result<String, io::Error> {
            tokio::task::yield_now().await;
            if id == 0 {
                Err(io::ErrorKind::TimedOut)?;
            }
            Ok(self.0.clone())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn methods_of_async_traits_last_as_long_as_their_futures() {
        LazyLock::force(&TELEMETRY);
        let store: Box<dyn Store> = Box::new(Memory("x".into()));
        let loading = store.load_twice(7);
        assert!(spans("shape.default").is_empty());
        assert_eq!(loading.await.unwrap(), "xx");
        let (twice, once) = (last("shape.default"), last("shape.async_trait"));
        assert_eq!(once.parent_span_id, Some(twice.span_id));
        assert_eq!((told(&once, "id"), told(&once, "0")), ("7".into(), "x".into()));
        store.load(0).await.unwrap_err();
        assert_eq!(last("shape.async_trait").outcome.as_str(), "timeout");
        drop(store.load(1));
        let mut loading = store.load(1);
        assert!(poll_once(loading.as_mut()).is_pending());
        drop(loading);
        assert_eq!(last("shape.async_trait").outcome.as_str(), "cancelled");
        assert_eq!((active("shape.async_trait"), active("shape.default")), (0, 0));
    }

    #[observe(name = "shape.future", fields(id))]
    fn future(id: u64) -> impl Future<Output = Result<u64, io::Error>> + Send {
        let twice = id * 2;
        async move { Ok(twice) }
    }

    #[observe(name = "shape.made", fields(id))]
    fn made(id: u64) -> impl std::future::Future<Output = Result<u64, io::Error>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        sender.send(id).unwrap();
        receiver.map(|id| Ok(id.unwrap()))
    }

    #[observe(name = "shape.boxed")]
    fn boxed(id: u64) -> futures_util::future::BoxFuture<'static, u64> {
        std::future::ready(id).boxed()
    }

    use futures_util::FutureExt;

    #[tokio::test]
    async fn futures_that_a_function_makes_are_observed_to_their_end() {
        LazyLock::force(&TELEMETRY);
        let later = future(4);
        assert!(spans("shape.future").is_empty());
        assert_eq!(later.await.unwrap(), 8);
        assert_eq!(told(&last("shape.future"), "id"), "4");
        let later = made(4);
        assert_eq!(active("shape.made"), 1);
        assert_eq!(later.await.unwrap(), 4);
        ended_once("shape.made", "ok", None);
        drop(made(5));
        assert_eq!(last("shape.made").outcome.as_str(), "cancelled");
        assert_eq!(boxed(3).await, 3);
        ended_once("shape.boxed", "ok", None);
    }

    #[observe(name = "shape.stream", fields(count))]
    fn rows(count: u8) -> impl Stream<Item = Result<u8, io::Error>> + Send {
        stream::iter((0..count).map(Ok).chain([Err(io::ErrorKind::ConnectionReset.into())]))
    }

    #[observe(name = "shape.boxed_stream")]
    fn boxed_rows() -> Pin<Box<dyn Stream<Item = u8> + Send>> {
        stream::iter([1, 2, 3]).boxed()
    }

    #[tokio::test]
    async fn streams_are_observed_to_their_end() {
        LazyLock::force(&TELEMETRY);
        assert_eq!(rows(2).count().await, 3);
        ended_once("shape.stream", "error", Some("connection_reset"));
        assert_eq!(
            (told(&last("shape.stream"), "count"), told(&last("shape.stream"), "operation.items")),
            ("2".into(), "3".into())
        );
        let mut rows = boxed_rows();
        rows.next().await.unwrap();
        assert_eq!(active("shape.boxed_stream"), 1);
        drop(rows);
        ended_once("shape.boxed_stream", "cancelled", None);
    }
}

/// What must compile, and do what it does without the attribute.
mod written {
    use super::*;

    struct Cart<T> {
        items: Vec<T>,
    }

    impl<T: Debug + Clone> Cart<T> {
        #[observe]
        fn first_mut(&mut self) -> Option<&mut T> {
            self.items.first_mut()
        }

        #[observe(fields(%index))]
        fn at<I>(&self, index: I) -> &T
        where
            I: Copy + Into<usize> + std::fmt::Display,
        {
            &self.items[index.into()]
        }

        #[observe]
        async fn push<'a>(&'a mut self, item: T) -> &'a [T] {
            self.items.push(item);
            &self.items
        }

        #[observe]
        fn into_items(self) -> Vec<T> {
            self.items
        }
    }

    #[observe(fields(N = N))]
    fn sum<const N: usize>(mut of: [u64; N], by: impl Fn(u64) -> u64) -> u64 {
        for number in &mut of {
            *number = by(*number);
        }
        of.iter().sum()
    }

    #[observe]
    fn longest<'a>(one: &'a str, other: &'a str) -> &'a str {
        if one.len() > other.len() {
            return one;
        }
        other
    }

    #[observe]
    fn evens(to: u32) -> impl Iterator<Item = u32> {
        (0..to).step_by(2)
    }

    #[observe]
    async fn parsed(text: &str) -> Result<impl Debug + PartialEq<u32>, std::num::ParseIntError> {
        let number: u32 = text.parse()?;
        Ok(number)
    }

    #[observe]
    fn diverges() -> ! {
        panic!("on purpose")
    }

    #[observe]
    async fn diverges_later() -> ! {
        tokio::task::yield_now().await;
        panic!("on purpose")
    }

    #[observe]
    pub(super) unsafe fn trusts(number: *const u8) -> bool {
        number.is_null()
    }

    #[observe]
    async fn waits_for<F>(future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        future.await
    }

    #[tokio::test]
    async fn functions_of_any_form_do_what_they_do() {
        LazyLock::force(&TELEMETRY);
        let mut cart = Cart { items: vec![1_u8, 2] };
        *cart.first_mut().unwrap() = 7;
        assert_eq!(*cart.at(0_u8), 7);
        assert_eq!(cart.push(3).await, [7, 2, 3]);
        assert_eq!(cart.into_items().len(), 3);
        assert_eq!(sum([1, 2, 3], |number| number * 10), 60);
        assert_eq!(told(&last("written::sum"), "N"), "3");
        assert_eq!(longest("one", "other"), "other");
        assert_eq!(evens(5).sum::<u32>(), 6);
        assert!(parsed("7").await.unwrap() == 7);
        assert!(parsed("x").await.is_err());
        assert_eq!(last("written::parsed").outcome.as_str(), "error");
        assert!(catch_unwind(AssertUnwindSafe(|| diverges())).is_err());
        assert!(tokio::spawn(async { diverges_later().await }).await.is_err());
        assert_eq!(last("written::diverges_later").outcome.as_str(), "panicked");
        assert_eq!(tokio::spawn(waits_for(async { 7 })).await.unwrap(), 7);
        assert_eq!(spans("written::waits_for").len(), 1);
    }
}
