//! What propagation and tracing cost over the bare service: allocations and nanoseconds a request.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin trace [-- --json]`

use std::convert::Infallible;
use std::pin::pin;

use buttress::Telemetry;
use buttress::settings::Settings;
use buttress_benches::{Counting, Timed, allocations, finish, nanoseconds, print};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, service_fn};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEADERS: [(&str, &str); 6] = [
    ("host", "shop.example:8080"),
    ("user-agent", "bench/1.0"),
    ("accept", "application/json"),
    ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
    ("baggage", "tenant=acme"),
    ("content-type", "application/json"),
];

fn request(sampled: bool) -> Request<Full<Bytes>> {
    let traceparent = match sampled {
        true => "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        false => "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
    };
    let mut request = Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static("/items/7?page=2");
    request.headers_mut().insert("traceparent", http::HeaderValue::from_static(traceparent));
    for (name, value) in HEADERS {
        request.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    request
}

fn call<S, B>(service: &mut S, request: Request<Full<Bytes>>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body_util::BodyExt<Data = Bytes>,
{
    let Ok(response) = finish(service.call(request));
    let _ = finish(pin!(response.into_body()).frame());
}

fn telemetry(variable: &'static str, value: &'static str) -> Telemetry {
    let settings = Settings::read("bench", |name| (name == variable).then(|| value.to_owned()));
    Telemetry::new(settings.expect("the settings are fine"))
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let bare = || {
        service_fn(async |_: Request<Full<Bytes>>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        })
    };
    let on = telemetry("", "");
    let off = telemetry("BUTTRESS_ENABLED", "false");
    let mut propagated = ServiceBuilder::new().layer(on.propagate()).service(bare());
    let mut silent = ServiceBuilder::new().layer(on.propagate().echo(false)).service(bare());
    let mut traced = ServiceBuilder::new().layer(on.trace()).service(bare());
    let mut disabled = ServiceBuilder::new().layer(off.server()).service(bare());
    let (mut unsampled, mut sampled) = (
        ServiceBuilder::new().layer(on.server()).service(bare()),
        ServiceBuilder::new().layer(on.server()).service(bare()),
    );
    let mut plain = bare();

    let mut subjects: Vec<Timed> = vec![
        ("bare", Box::new(move || call(&mut plain, request(true)))),
        ("server.off", Box::new(move || call(&mut disabled, request(true)))),
        ("propagate", Box::new(move || call(&mut propagated, request(true)))),
        ("propagate.silent", Box::new(move || call(&mut silent, request(true)))),
        ("trace.sampled", Box::new(move || call(&mut traced, request(true)))),
        ("server.unsampled", Box::new(move || call(&mut unsampled, request(false)))),
        ("server.sampled", Box::new(move || call(&mut sampled, request(true)))),
    ];
    // The first calls fill thread-locals and the hand-over.
    subjects.iter_mut().for_each(|(_, work)| (0..20_000).for_each(|_| work()));
    let counts: Vec<u64> = subjects.iter_mut().map(|(_, work)| allocations(work)).collect();
    let times = nanoseconds(&mut subjects, 30, 5_000);
    for (at, (name, _)) in subjects.iter().enumerate().skip(1) {
        print(json, &format!("{name}.allocations"), "buttress", (counts[at] - counts[0]) as f64, "allocations", None);
        print(json, &format!("{name}.ns"), "buttress", times[at] - times[0], "ns", None);
    }
}
