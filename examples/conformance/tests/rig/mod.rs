//! The example under test, between a caller that writes any headers and a callee that keeps what it is sent.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use buttress_tests::example::Example;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver};

pub(crate) const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const PARENT_ID: &str = "00f067aa0ba902b7";

/// A well-formed `traceparent` with these flags.
pub(crate) fn traceparent(flags: &str) -> String {
    format!("00-{TRACE_ID}-{PARENT_ID}-{flags}")
}

pub(crate) struct Rig {
    example: Example,
    callee: String,
    arrived: Mutex<UnboundedReceiver<(Uri, HeaderMap, String)>>,
    asked: AtomicUsize,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let (sender, arrived) = mpsc::unbounded_channel();
        let keep = async move |uri: Uri, headers: HeaderMap, body: String| {
            sender.send((uri, headers, body)).map_or(StatusCode::GONE, |()| StatusCode::OK)
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let callee = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async { axum::serve(listener, Router::new().fallback(keep)).await });

        // None of these may count: the example asks for nothing but its port.
        let hostile = [
            ("BUTTRESS_ENABLED", "false"),
            ("BUTTRESS_TRUST", "public"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
            ("OTEL_PROPAGATORS", "none"),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("http_proxy", "http://127.0.0.1:1"),
        ];
        let example = Example::start(env!("CARGO_BIN_EXE_conformance"), &hostile).await;
        Self { example, callee, arrived: Mutex::new(arrived), asked: AtomicUsize::new(0) }
    }

    /// Asks for so many calls with these headers, and answers with the headers of each.
    pub(crate) async fn calls(&self, count: usize, headers: &[(&str, &str)]) -> Vec<HeaderMap> {
        let first = self.asked.fetch_add(count, Ordering::Relaxed);
        let paths: Vec<String> = (first..first + count).map(|number| format!("/call/{number}")).collect();
        let order = |path: &String| format!(r#"{{"url": "{}{path}", "arguments": ["{path}"]}}"#, self.callee);
        let orders: Vec<String> = paths.iter().map(order).collect();

        let answer = self.example.send("POST", "/test", headers, &format!("[{}]", orders.join(","))).await;
        assert_eq!(answer.status, 200, "{answer:?} to {headers:?}");
        let mut arrived = self.arrived.lock().await;
        let arrived: Vec<_> = std::iter::from_fn(|| arrived.try_recv().ok()).collect();
        assert_eq!(arrived.len(), count);
        let arrived = arrived.into_iter().zip(&paths).map(|((uri, headers, body), path)| {
            assert_eq!((uri.path(), body), (path.as_str(), format!(r#"["{path}"]"#)), "in the order asked for");
            assert_eq!(headers["content-type"], "application/json");
            headers
        });
        arrived.collect()
    }

    /// The headers of one call.
    pub(crate) async fn call(&self, headers: &[(&str, &str)]) -> HeaderMap {
        self.calls(1, headers).await.remove(0)
    }

    /// The `traceparent` of one call.
    pub(crate) async fn traceparent(&self, headers: &[(&str, &str)]) -> TraceParent {
        TraceParent::of(&self.call(headers).await)
    }

    /// The members of the one call's tracestate; the trace has to be kept, whatever became of them.
    pub(crate) async fn members(&self, headers: &[(&str, &str)]) -> Vec<String> {
        let headers = self.call(headers).await;
        assert_eq!(TraceParent::of(&headers).trace_id, TRACE_ID);
        let values = headers.get_all("tracestate").iter().map(|value| value.to_str().expect("printable"));
        values.flat_map(|value| value.split(',')).map(str::to_owned).collect()
    }

    /// [`members`](Self::members) when this was the tracestate.
    pub(crate) async fn members_of(&self, tracestate: &str) -> Vec<String> {
        self.members(&[("traceparent", &traceparent("01")), ("tracestate", tracestate)]).await
    }
}

/// The fields of a `traceparent` that was sent, checked by the rules for senders.
#[derive(Debug)]
pub(crate) struct TraceParent {
    pub(crate) version: String,
    pub(crate) trace_id: String,
    pub(crate) parent_id: String,
    pub(crate) flags: u8,
}

impl TraceParent {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values: Vec<_> = headers.get_all("traceparent").iter().collect();
        assert_eq!(values.len(), 1, "exactly one traceparent is sent");
        let value = values[0].to_str().expect("printable");
        let fields: Vec<&str> = value.split('-').collect();
        let [version, trace_id, parent_id, flags] = fields[..] else {
            panic!("{value:?} has four fields");
        };
        for (field, length) in [(version, 2), (trace_id, 32), (parent_id, 16), (flags, 2)] {
            let is_hex = field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            assert!(is_hex && field.len() == length, "{value}");
        }
        assert!(trace_id.contains(|digit| digit != '0') && parent_id.contains(|digit| digit != '0'), "{value}");
        Self {
            version: version.to_owned(),
            trace_id: trace_id.to_owned(),
            parent_id: parent_id.to_owned(),
            flags: u8::from_str_radix(flags, 16).expect("two hex digits"),
        }
    }
}
