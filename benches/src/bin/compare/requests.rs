//! What every subject is asked, and the service behind it.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use buttress::observe::Route;
use buttress_benches::finish;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, request};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Service, service_fn};

pub type Ask = Request<Full<Bytes>>;

const COMMON: [(&str, &str); 3] =
    [("host", "shop.example:8080"), ("user-agent", "bench/1.0"), ("accept", "application/json")];

/// Which requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// GET in a trace that nobody samples.
    Unsampled,
    /// GET in a trace that is sampled.
    Sampled,
    /// Every tenth sampled.
    Tenth,
    /// POST, not sampled: not to be repeated.
    Post,
    /// GET as a client makes it, without a trace in its headers.
    Outgoing,
    /// As unsampled, and never answered.
    Held,
    /// Unsampled, on so many routes in turn.
    Routes(usize),
    /// Unsampled, with so many paths in turn.
    Paths(usize),
    /// Unsampled, with a tracestate of about so many bytes.
    Tracestate(usize),
    /// Unsampled, with a baggage of about so many bytes.
    Baggage(usize),
}

impl Kind {
    /// Requests that come in turn.
    pub fn requests(self) -> Vec<request::Parts> {
        let unsampled = || template(Method::GET, Some("00"), None);
        let with = |name, value| vec![template(Method::GET, Some("00"), Some((name, value)))];
        match self {
            Self::Unsampled | Self::Held | Self::Tracestate(0) | Self::Baggage(0) => vec![unsampled()],
            Self::Sampled => vec![template(Method::GET, Some("01"), None)],
            Self::Tenth => {
                let mut all: Vec<_> = (0..9).map(|_| unsampled()).collect();
                all.push(template(Method::GET, Some("01"), None));
                all
            }
            Self::Post => vec![template(Method::POST, Some("00"), None)],
            Self::Outgoing => vec![template(Method::GET, None, None)],
            Self::Routes(routes) => (0..routes).map(|nth| on_route(unsampled(), nth)).collect(),
            Self::Paths(paths) => (0..paths).map(|nth| on_path(unsampled(), nth)).collect(),
            Self::Tracestate(length) => with("tracestate", members(length)),
            Self::Baggage(length) => with("baggage", members(length)),
        }
    }
}

fn on_route(mut parts: request::Parts, nth: usize) -> request::Parts {
    parts.extensions.insert(Route::from(Arc::<str>::from(format!("/items/{nth}/{{id}}"))));
    parts
}

fn on_path(mut parts: request::Parts, nth: usize) -> request::Parts {
    parts.uri = format!("/items/{nth}").parse().expect("the path is one");
    parts
}

/// Keys and values of 16 bytes with their separators, as both headers have them.
fn members(length: usize) -> String {
    let all: Vec<_> = (0..length / 16).map(|nth| format!("k{nth:04}=value-{nth:03}")).collect();
    all.join(",")
}

/// Header values are slices of one buffer that is counted, as those that hyper has read.
fn template(method: Method, flags: Option<&str>, extra: Option<(&'static str, String)>) -> request::Parts {
    let mut headers: Vec<(&str, String)> = COMMON.map(|(name, value)| (name, value.to_owned())).into();
    if let Some(flags) = flags {
        headers.push(("traceparent", format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}")));
    }
    headers.extend(extra);
    let buffer = Bytes::from(headers.iter().map(|(_, value)| value.as_str()).collect::<String>());
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = http::Uri::from_static("/items/7?page=2");
    let mut at = 0;
    for (name, value) in &headers {
        let value = buffer.slice(at..at + value.len());
        at += value.len();
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the name is one");
        request.headers_mut().insert(name, HeaderValue::from_maybe_shared(value).expect("the value is one"));
    }
    request.into_parts().0
}

/// Answers at once, with one header and two bytes, unless it is to hold what comes.
pub fn bare<B: Send + 'static>(
    kind: Kind,
) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    let holds = kind == Kind::Held;
    service_fn(move |request: Request<B>| async move {
        let _request = request;
        if holds {
            pending::<()>().await;
        }
        let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    })
}

/// One request, read to the end of its answer as hyper reads it.
pub fn call<S, B>(service: &mut S, request: Ask)
where
    S: Service<Ask, Response = Response<B>>,
    B: Body,
{
    assert!(finish(std::future::poll_fn(|cx| service.poll_ready(cx))).is_ok());
    let Ok(response) = finish(service.call(request)) else { panic!("the bare service does not fail") };
    assert!(response.status().is_success());
    let mut body = std::pin::pin!(response.into_body());
    while !body.is_end_stream() {
        assert!(finish(body.frame()).is_some_and(|frame| frame.is_ok()));
    }
}
