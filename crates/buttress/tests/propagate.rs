//! What the propagation layer believes, keeps and answers; what the injecting layer tells whom.
#![cfg(feature = "propagate")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use buttress::context::{Baggage, Context, TraceContext, TraceFlags, TraceState};
use buttress::observe::{Peer, When};
use buttress::propagate::{B3, BaggageTrust, Hosts, InjectLayer, PropagateLayer, SampledTrust, Trust, TrustPolicy};
use buttress::rate::RateLimit;
use http::{HeaderName, HeaderValue, Request};
use support::{Exchanged, PARENT_ID, TRACE_ID, TRACEPARENT, answer, exchange, get};

const CALLER: &[(&str, &str)] =
    &[("traceparent", TRACEPARENT), ("tracestate", "congo=t61"), ("baggage", "tenant=acme,debug=1")];

async fn server(layer: PropagateLayer, request: Request<()>) -> Exchanged {
    exchange(layer, request, answer(200)).await
}

fn restart(trace: Trust) -> PropagateLayer {
    PropagateLayer::new().trust(TrustPolicy::internal().trace(trace))
}

fn is_adopted(exchanged: &Exchanged) -> bool {
    exchanged.context().trace_id().to_string() == TRACE_ID
}

#[tokio::test]
async fn a_trusted_caller_is_the_parent_and_everything_of_its_context_is_kept() {
    let exchanged = server(PropagateLayer::new(), get("/", CALLER)).await;
    let context = exchanged.context();
    assert!(is_adopted(&exchanged));
    assert_eq!(context.parent_span_id().unwrap().to_string(), PARENT_ID);
    assert_ne!(context.span_id().to_string(), PARENT_ID);
    assert!(context.is_sampled());
    assert_eq!(context.tracestate().as_str(), "congo=t61");
    assert_eq!(context.baggage().as_str(), "tenant=acme,debug=1");
}

#[tokio::test]
async fn restarting_a_trace_renews_every_field_and_clears_the_tracestate() {
    for trust in [Trust::RestartAndLink, Trust::RestartAndDrop] {
        let exchanged = server(restart(trust), get("/", CALLER)).await;
        let context = exchanged.context();
        assert!(!is_adopted(&exchanged));
        assert_ne!(context.span_id().to_string(), PARENT_ID);
        assert_eq!(context.parent_span_id(), None);
        assert_eq!(context.trace().flags, TraceFlags::RANDOM);
        assert!(context.tracestate().is_empty());
    }
}

#[tokio::test]
async fn a_malformed_traceparent_starts_a_trace_and_drops_the_tracestate() {
    let exchanged = server(PropagateLayer::new(), get("/", &[("traceparent", "00-zz"), ("tracestate", "a=1")])).await;
    assert!(exchanged.context().tracestate().is_empty());
    assert_eq!(exchanged.context().parent_span_id(), None);
}

#[tokio::test]
async fn a_malformed_tracestate_never_touches_the_traceparent() {
    let exchanged =
        server(PropagateLayer::new(), get("/", &[("traceparent", TRACEPARENT), ("tracestate", "A=1")])).await;
    assert!(is_adopted(&exchanged));
    assert!(exchanged.context().tracestate().is_empty());
}

#[tokio::test]
async fn a_tracestate_that_is_not_trusted_is_dropped_alone() {
    let layer = PropagateLayer::new().trust(TrustPolicy::internal().tracestate(false));
    let exchanged = server(layer, get("/", CALLER)).await;
    assert!(is_adopted(&exchanged));
    assert!(exchanged.context().tracestate().is_empty());
}

#[tokio::test]
async fn the_policy_is_chosen_by_the_path() {
    let layer = PropagateLayer::new().trust_when(When::path("/public"), TrustPolicy::public());
    assert!(is_adopted(&server(layer.clone(), get("/internal", CALLER)).await));
    assert!(!is_adopted(&server(layer, get("/public/shop", CALLER)).await));
}

#[tokio::test]
async fn the_policy_is_chosen_by_a_header() {
    let partner = When::header(HeaderName::from_static("x-caller"), HeaderValue::from_static("partner"));
    let layer = PropagateLayer::new().trust(TrustPolicy::public()).trust_when(partner, TrustPolicy::internal());
    let partner = [CALLER, &[("x-caller", "partner")]].concat();
    assert!(is_adopted(&server(layer.clone(), get("/", &partner)).await));
    assert!(!is_adopted(&server(layer, get("/", CALLER)).await));
}

#[tokio::test]
async fn the_policy_is_chosen_by_the_peer() {
    let ours = When::peer("10.0.0.0/8").unwrap();
    let layer = PropagateLayer::new().trust(TrustPolicy::public()).trust_when(ours, TrustPolicy::internal());
    let from = |peer: &str| {
        let mut request = get("/", CALLER);
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        request
    };
    assert!(is_adopted(&server(layer.clone(), from("10.2.3.4:5")).await));
    assert!(is_adopted(&server(layer.clone(), from("[::ffff:10.2.3.4]:5")).await));
    assert!(!is_adopted(&server(layer.clone(), from("192.0.2.1:5")).await));
    assert!(!is_adopted(&server(layer, get("/", CALLER)).await));
}

#[tokio::test]
async fn the_policy_is_chosen_by_a_closure_and_the_first_that_holds_counts() {
    let layer = PropagateLayer::new()
        .trust_when(When::closure(|head| head.uri.query() == Some("restart")), TrustPolicy::public())
        .trust_when(When::path("/"), TrustPolicy::internal());
    assert!(!is_adopted(&server(layer.clone(), get("/?restart", CALLER)).await));
    assert!(is_adopted(&server(layer, get("/", CALLER)).await));
}

#[tokio::test]
async fn an_ignored_sampled_flag_is_not_seen() {
    let layer = PropagateLayer::new().trust(TrustPolicy::internal().sampled(SampledTrust::Ignore));
    let exchanged = server(layer, get("/", CALLER)).await;
    assert!(is_adopted(&exchanged));
    assert!(!exchanged.context().is_sampled());
}

#[tokio::test(start_paused = true)]
async fn the_sampled_flag_is_honoured_up_to_a_number_a_second() {
    let trust = SampledTrust::HonourUpTo(RateLimit::per_second(2));
    let layer = PropagateLayer::new().trust(TrustPolicy::internal().sampled(trust));
    for honoured in [true, true, false, false] {
        assert_eq!(server(layer.clone(), get("/", CALLER)).await.context().is_sampled(), honoured);
    }
    tokio::time::advance(std::time::Duration::from_millis(500)).await;
    assert!(server(layer, get("/", CALLER)).await.context().is_sampled());
}

#[tokio::test]
async fn of_the_baggage_only_allowed_keys_are_kept() {
    let only = TrustPolicy::internal().baggage(BaggageTrust::only(["tenant"]));
    let exchanged = server(PropagateLayer::new().trust(only), get("/", CALLER)).await;
    assert_eq!(exchanged.context().baggage().as_str(), "tenant=acme");

    let nothing = TrustPolicy::internal().baggage(BaggageTrust::Nothing);
    let exchanged = server(PropagateLayer::new().trust(nothing), get("/", CALLER)).await;
    assert!(exchanged.context().baggage().is_empty());
}

#[tokio::test]
async fn the_answer_tells_trace_and_span() {
    let exchanged = server(PropagateLayer::new(), get("/", CALLER)).await;
    assert_eq!(exchanged.answered("x-trace-id"), Some(TRACE_ID));
    assert_eq!(exchanged.answered("x-span-id").unwrap(), exchanged.context().span_id().to_string());
    assert_eq!(exchanged.answered("server-timing"), None);
}

#[tokio::test]
async fn without_echo_the_answer_tells_nothing() {
    let by_layer = PropagateLayer::new().echo(false);
    let by_policy = PropagateLayer::new().server_timing(true).trust(TrustPolicy::internal().echo(false));
    for layer in [by_layer, by_policy] {
        assert!(server(layer, get("/", &[("x-trace-id", "test-trace-123")])).await.head.headers.is_empty());
    }
}

#[tokio::test]
async fn server_timing_carries_the_whole_traceparent() {
    let exchanged = server(PropagateLayer::new().server_timing(true), get("/", CALLER)).await;
    let span_id = exchanged.context().span_id();
    let expected = format!("trace;desc=00-{TRACE_ID}-{span_id}-01");
    assert_eq!(exchanged.answered("server-timing"), Some(expected.as_str()));
}

#[tokio::test]
async fn an_x_trace_id_that_spells_a_trace_id_becomes_it() {
    for spelling in [TRACE_ID, "4BF92F3577B34DA6A3CE929D0E0E4736", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"] {
        let exchanged = server(PropagateLayer::new(), get("/", &[("x-trace-id", spelling)])).await;
        assert!(is_adopted(&exchanged), "{spelling}");
        assert_eq!(exchanged.answered("x-trace-id"), Some(spelling));
        assert_eq!(exchanged.context().parent_span_id(), None);
        assert!(!exchanged.context().trace().flags.is_random(), "nobody knows how random {spelling} is");
    }
}

#[tokio::test]
async fn an_x_trace_id_is_not_adopted_where_it_is_switched_off_or_not_trusted() {
    let off = PropagateLayer::new().adopt_trace_id(false);
    let distrusted = PropagateLayer::new().trust(TrustPolicy::internal().correlation(false));
    for layer in [off, distrusted] {
        assert!(!is_adopted(&server(layer, get("/", &[("x-trace-id", TRACE_ID)])).await));
    }
}

#[tokio::test]
async fn free_text_is_answered_and_kept_but_forges_no_trace() {
    let exchanged = server(PropagateLayer::new(), get("/", &[("x-trace-id", "test-trace-123")])).await;
    assert_eq!(exchanged.answered("x-trace-id"), Some("test-trace-123"));
    assert_eq!(exchanged.answered("x-span-id").unwrap().len(), 16);
    assert_eq!(exchanged.context().correlation_id(), Some("test-trace-123"));
    assert!(exchanged.context().trace().flags.is_random());
}

#[tokio::test]
async fn an_x_trace_id_of_too_many_or_of_bad_characters_is_refused() {
    for refused in ["x".repeat(129).as_str(), "two words", "a\"b", "<script>", ""] {
        let exchanged = server(PropagateLayer::new(), get("/", &[("x-trace-id", refused)])).await;
        assert_eq!(exchanged.context().correlation_id(), None, "{refused}");
        assert_eq!(exchanged.answered("x-trace-id").unwrap(), exchanged.context().trace_id().to_string());
    }
    let zeros = "0".repeat(32);
    let exchanged = server(PropagateLayer::new(), get("/", &[("x-trace-id", &zeros)])).await;
    assert_ne!(exchanged.context().trace_id().to_string(), zeros);
}

#[tokio::test]
async fn a_traceparent_wins_over_an_x_trace_id() {
    let other = "0af7651916cd43dd8448eb211c80319c";
    let headers = [("traceparent", TRACEPARENT), ("x-trace-id", other)];
    let exchanged = server(PropagateLayer::new(), get("/", &headers)).await;
    assert!(is_adopted(&exchanged));
    assert_eq!(exchanged.answered("x-trace-id"), Some(TRACE_ID));
    assert_eq!(exchanged.context().correlation_id(), Some(other));
}

#[tokio::test]
async fn a_request_id_is_kept() {
    let exchanged = server(PropagateLayer::new().request_id(true), get("/", &[("x-request-id", "r-1")])).await;
    assert_eq!(exchanged.context().request_id(), Some("r-1"));
    assert_eq!(exchanged.answered("x-request-id"), Some("r-1"));
}

#[tokio::test]
async fn a_missing_or_refused_request_id_becomes_a_uuid_v7_for_handler_and_caller() {
    for headers in [&[][..], &[("x-request-id", "not an id")]] {
        let exchanged = server(PropagateLayer::new().request_id(true), get("/", headers)).await;
        let id = exchanged.context().request_id().unwrap();
        assert_eq!((id.len(), id.as_bytes()[14], id.matches('-').count()), (36, b'7', 4), "{id}");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        assert_eq!(exchanged.passed("x-request-id"), Some(id));
        assert_eq!(exchanged.answered("x-request-id"), Some(id));
    }
}

#[tokio::test]
async fn request_ids_are_left_alone_by_default() {
    let exchanged = server(PropagateLayer::new(), get("/", &[])).await;
    assert_eq!((exchanged.passed("x-request-id"), exchanged.answered("x-request-id")), (None, None));
}

#[tokio::test]
async fn tenant_user_and_session_are_fields_where_it_is_configured() {
    let headers = [("x-tenant-id", "t"), ("x-user-id", "u"), ("x-session-id", "s")];
    let layer = PropagateLayer::new().tenant_id(true).user_id(true).session_id(true);
    let exchanged = server(layer.clone(), get("/", &headers)).await;
    let of = |context: &Context| {
        [context.tenant_id(), context.user_id(), context.session_id()].map(|field| field.map(str::to_owned))
    };
    assert_eq!(of(exchanged.context()), ["t", "u", "s"].map(|field| Some(field.to_owned())));

    let exchanged = server(PropagateLayer::new(), get("/", &headers)).await;
    assert_eq!(of(exchanged.context()), [None, None, None]);

    let distrusting = layer.trust(TrustPolicy::internal().correlation(false));
    let exchanged = server(distrusting, get("/", &headers)).await;
    assert_eq!(of(exchanged.context()), [None, None, None]);
}

#[tokio::test]
async fn b3_is_read_in_both_forms_where_it_is_asked_for() {
    let single = format!("{TRACE_ID}-{PARENT_ID}-1");
    let multi = [("x-b3-traceid", TRACE_ID), ("x-b3-spanid", PARENT_ID), ("x-b3-sampled", "1")];
    for headers in [&[("b3", single.as_str())][..], &multi] {
        let exchanged = server(PropagateLayer::new().b3(true), get("/", headers)).await;
        assert!(is_adopted(&exchanged));
        assert_eq!(exchanged.context().parent_span_id().unwrap().to_string(), PARENT_ID);
        assert!(exchanged.context().is_sampled());
        assert!(!is_adopted(&server(PropagateLayer::new(), get("/", headers)).await));
    }
}

#[tokio::test]
async fn a_b3_trace_id_of_64_bits_is_padded() {
    let exchanged =
        server(PropagateLayer::new().b3(true), get("/", &[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7")])).await;
    assert_eq!(exchanged.context().trace_id().to_string(), "0000000000000000a3ce929d0e0e4736");
}

#[tokio::test]
async fn a_b3_decision_without_a_trace_is_a_root_that_is_decided() {
    for (headers, sampled) in [
        (&[("b3", "0")][..], false),
        (&[("b3", "1")], true),
        (&[("x-b3-sampled", "0")], false),
        (&[("x-b3-flags", "1")], true),
    ] {
        let exchanged = server(PropagateLayer::new().b3(true), get("/", headers)).await;
        let context = exchanged.context();
        assert_eq!((context.parent_span_id(), context.is_sampled()), (None, sampled), "{headers:?}");
    }
    let restarted = PropagateLayer::new().b3(true).trust(TrustPolicy::public());
    assert!(!server(restarted, get("/", &[("b3", "1")])).await.context().is_sampled());
}

#[tokio::test]
async fn a_traceparent_wins_over_b3() {
    let headers = [("traceparent", TRACEPARENT), ("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1")];
    assert!(is_adopted(&server(PropagateLayer::new().b3(true), get("/", &headers)).await));
}

#[tokio::test]
async fn a_disabled_propagation_layer_touches_nothing() {
    let layer = PropagateLayer::new().request_id(true).server_timing(true).enabled(false);
    let exchanged = server(layer, get("/", CALLER)).await;
    assert!(exchanged.context.is_none());
    assert!(exchanged.head.headers.is_empty());
    assert_eq!(exchanged.headers, get("/", CALLER).headers().clone());
}

/// A caller's context as a client finds it.
fn current() -> Context {
    let trace = TraceContext::parse(TRACEPARENT.as_bytes()).unwrap();
    Context::from_trace(trace)
        .with_tracestate(TraceState::parse([b"congo=t61".as_slice()]).unwrap())
        .with_baggage(Baggage::parse([b"tenant=acme".as_slice()]))
}

async fn client(layer: InjectLayer, request: Request<()>) -> Exchanged {
    current().scope(exchange(layer, request, answer(200))).await
}

#[tokio::test]
async fn the_current_context_is_written_with_a_span_id_of_the_calls_own() {
    let exchanged = client(InjectLayer::new(), get("http://stock/", &[])).await;
    let sent = TraceContext::parse(exchanged.passed("traceparent").unwrap().as_bytes()).unwrap();
    assert_eq!(sent.trace_id.to_string(), TRACE_ID);
    assert_ne!(sent.span_id.to_string(), PARENT_ID);
    assert!(sent.flags.is_sampled());
    assert_eq!(exchanged.passed("tracestate"), Some("congo=t61"));
    assert_eq!(exchanged.passed("baggage"), Some("tenant=acme"));
}

#[tokio::test]
async fn headers_that_the_request_already_had_are_replaced() {
    let stale = [("traceparent", "stale"), ("tracestate", "stale=1"), ("baggage", "stale=1")];
    let exchanged = client(InjectLayer::new(), get("http://stock/", &stale)).await;
    assert!(!exchanged.headers.values().any(|value| value.to_str().unwrap().contains("stale")));
    for name in ["traceparent", "tracestate", "baggage"] {
        assert_eq!(exchanged.headers.get_all(name).iter().count(), 1);
    }
}

#[tokio::test]
async fn a_host_that_may_not_see_a_header_does_not_get_one_that_was_there() {
    let ours = || Hosts::only(["*.internal"]);
    let there =
        [("traceparent", TRACEPARENT), ("tracestate", "a=1"), ("baggage", "a=1"), ("b3", "0"), ("x-b3-flags", "1")];
    let layer = InjectLayer::new().trace(ours()).tracestate(ours()).baggage(ours());
    assert!(client(layer.clone(), get("http://example.com/", &there)).await.headers.is_empty());
    let exchanged = client(layer, get("http://stock.internal/", &[])).await;
    assert_eq!(exchanged.headers.len(), 3);
}

#[tokio::test]
async fn each_header_has_its_own_hosts() {
    let layer = InjectLayer::new().baggage(Hosts::only(["a"])).tracestate(Hosts::only(["b"]));
    let names = async |uri: &str| {
        let exchanged = client(layer.clone(), get(uri, &[])).await;
        ["traceparent", "tracestate", "baggage"].map(|name| exchanged.passed(name).is_some())
    };
    assert_eq!(names("http://a/").await, [true, false, true]);
    assert_eq!(names("http://b:8080/").await, [true, true, false]);
    assert_eq!(names("http://c/").await, [true, false, false]);
}

#[tokio::test]
async fn a_tracestate_never_goes_without_its_traceparent() {
    let exchanged = client(InjectLayer::new().trace(Hosts::none()), get("http://stock/", &[])).await;
    assert_eq!((exchanged.passed("traceparent"), exchanged.passed("tracestate")), (None, None));
    assert_eq!(exchanged.passed("baggage"), Some("tenant=acme"));
}

#[tokio::test]
async fn the_host_comes_from_the_target_the_host_header_or_the_layer() {
    let only = |host: &str| InjectLayer::new().trace(Hosts::only([host]));
    let is_sent = async |layer: InjectLayer, request: Request<()>| {
        client(layer, request).await.headers.contains_key("traceparent")
    };
    assert!(is_sent(only("stock"), get("http://stock:80/", &[("host", "evil")])).await);
    assert!(!is_sent(only("stock"), get("http://evil/", &[("host", "stock")])).await);
    assert!(is_sent(only("stock"), get("/", &[("host", "stock:8080")])).await);
    assert!(is_sent(only("stock"), get("/", &[("host", "STOCK")])).await);
    assert!(is_sent(only("::1"), get("http://[::1]:8080/", &[])).await);
    assert!(is_sent(only("[::1]"), get("/", &[("host", "[::1]:8080")])).await);
    assert!(is_sent(only("::1"), get("/", &[("host", "[::1]")])).await);
    assert!(is_sent(only("stock").host("stock"), get("/", &[])).await);
    assert!(!is_sent(only("stock"), get("/", &[])).await, "an unknown host is not on the list");
}

#[tokio::test]
async fn host_patterns_match_whole_labels_below_the_domain_only() {
    let hosts = Hosts::only(["*.example.com"]);
    assert!(hosts.contains("a.example.com") && hosts.contains("a.b.EXAMPLE.com") && hosts.contains("a.example.com."));
    for other in ["example.com", ".example.com", "badexample.com", "a.example.com.evil.org", ""] {
        assert!(!hosts.contains(other), "{other}");
    }
    assert!(Hosts::any().contains("anything") && !Hosts::none().contains("anything"));
}

#[tokio::test]
async fn without_a_context_nothing_is_written() {
    let exchanged =
        exchange(InjectLayer::new().b3(B3::Multi), get("http://stock/", &[("x-own", "1")]), answer(200)).await;
    assert_eq!(exchanged.headers.len(), 1);
}

#[tokio::test]
async fn a_disabled_injecting_layer_touches_nothing() {
    let layer = InjectLayer::new().trace(Hosts::none()).enabled(false);
    let exchanged = client(layer, get("http://stock/", &[("traceparent", TRACEPARENT)])).await;
    assert_eq!(exchanged.passed("traceparent"), Some(TRACEPARENT));
    assert_eq!(exchanged.headers.len(), 1);
}

#[tokio::test]
async fn b3_is_written_in_the_form_that_is_asked_for() {
    let incoming = || get("/", &[("traceparent", TRACEPARENT)]);
    let sent = async |form: B3| {
        let context = server(PropagateLayer::new(), incoming()).await.context().clone();
        let layer = InjectLayer::new().b3(form).tracecontext(false);
        context.scope(exchange(layer, get("http://stock/", &[]), answer(200))).await
    };
    let single = sent(B3::Single).await;
    let value = single.passed("b3").unwrap();
    assert!(value.starts_with(TRACE_ID) && value.ends_with("-1") && value.len() == 32 + 1 + 16 + 2, "{value}");
    assert_eq!(single.passed("traceparent"), None);

    let multi = sent(B3::Multi).await;
    assert_eq!(multi.passed("x-b3-traceid"), Some(TRACE_ID));
    assert_eq!(multi.passed("x-b3-spanid").unwrap().len(), 16);
    assert_eq!(multi.passed("x-b3-sampled"), Some("1"));
    assert_eq!(multi.passed("b3"), None);
}

#[tokio::test]
async fn b3_says_nothing_of_sampling_before_somebody_decided() {
    let write = async |form: B3| {
        let layer = InjectLayer::new().b3(form);
        Context::root().scope(exchange(layer, get("http://stock/", &[]), answer(200))).await
    };
    assert_eq!(write(B3::Single).await.passed("b3").unwrap().len(), 32 + 1 + 16);
    assert_eq!(write(B3::Multi).await.passed("x-b3-sampled"), None);
}

#[tokio::test]
async fn fields_go_to_the_hosts_that_are_named_for_them_and_to_no_other() {
    let headers = [("x-tenant-id", "t"), ("x-user-id", "u"), ("x-session-id", "s"), ("x-request-id", "r")];
    let propagate = PropagateLayer::new().tenant_id(true).user_id(true).session_id(true).request_id(true);
    let context = server(propagate, get("/", &headers)).await.context().clone();
    let sent = async |layer: InjectLayer| {
        let exchanged = context.clone().scope(exchange(layer, get("http://stock/", &[]), answer(200))).await;
        headers.map(|(name, _)| exchanged.passed(name).map(str::to_owned))
    };
    assert_eq!(sent(InjectLayer::new()).await, [None, None, None, None]);
    let all = sent(InjectLayer::new().fields(Hosts::only(["stock"]))).await;
    assert_eq!(all, headers.map(|(_, value)| Some(value.to_owned())));
}

#[tokio::test]
async fn a_traceparent_that_nobody_changed_keeps_its_tracestate_to_the_letter() {
    let headers = [("traceparent", TRACEPARENT), ("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")];
    let context = server(PropagateLayer::new(), get("/", &headers)).await.context().clone();
    let exchanged = context.scope(exchange(InjectLayer::new(), get("http://stock/", &[]), answer(200))).await;
    assert_eq!(exchanged.passed("tracestate"), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
}
