//! Four HTTP clients, hyper-util's, reqwest, a channel of tonic and a tower service of one's own, each at the end of a
//! stack: retries, a circuit, and for each attempt a span and its context in the headers.

#![forbid(unsafe_code)]

mod echo;

use buttress::circuit_breaker::Rejected;
use buttress::context::Context;
use buttress::trace::SpanRecord;
use buttress::{Telemetry, context::Baggage};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tonic::client::{Grpc, GrpcService};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use tower::{BoxError, Service, ServiceExt, service_fn};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1/nobody-listens";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let telemetry = Telemetry::from_env("outbound-client")?;
    let address = echo::start().await?;

    // Inside a server the current context is that of the request; here there is none yet.
    let mut baggage = Baggage::default();
    baggage.insert("tenant", "blue")?;
    let context = Context::root().with_baggage(baggage);
    context.scope(calls(&telemetry, &format!("http://{address}"))).await?;

    println!("The spans:");
    for span in telemetry.latest_spans(16).iter().rev() {
        println!("{}", line(span));
    }
    println!("\nWhere nobody listens for long:");
    for told in [
        rejected(telemetry.client("no-stock").without_retry().service(hyper_util())).await?,
        rejected(telemetry.client("no-prices").without_retry().reqwest(reqwest()?)).await?,
        rejected(telemetry.client("no-books").without_retry().service(service_fn(broken))).await?,
        rejected_grpc(telemetry.client("no-shelf").without_retry().tonic(channel(NOBODY)?)).await?,
    ] {
        println!("  {told}");
    }
    Ok(())
}

/// Each client once where all is well, and once where the first answer is that the callee is busy.
async fn calls(telemetry: &Telemetry, callee: &str) -> Result<(), BoxError> {
    // Around the transport: retries, a circuit, and a span for each attempt on the wire.
    let stock = telemetry.client("stock");
    let client = stock.service(hyper_util());
    let (_, arrived) = ask(client.clone(), &format!("{callee}/stock/7?token=s3cret")).await?;
    println!("What arrived from hyper-util's client:\n{arrived}");
    let (status, _) = ask(client, &format!("{callee}/busy/hyper-util")).await?;
    println!("  and where the first answer is 503: {}\n", repeated(status, stock.retries().stats().all_repeats()));

    // The same for reqwest, which has a request of its own; where it follows a redirect, the span covers the calls together.
    let prices = telemetry.client("prices");
    let client = prices.reqwest(reqwest()?);
    let (_, arrived) = ask(client.clone(), &format!("{callee}/prices/7")).await?;
    println!("What arrived from reqwest:\n{arrived}");
    let (status, _) = ask(client, &format!("{callee}/busy/reqwest")).await?;
    println!("  and where the first answer is 503: {}\n", repeated(status, prices.retries().stats().all_repeats()));

    // Whatever takes requests of `http` will do: a client of another kind, a queue, a router in the same process.
    let books = telemetry.client("books");
    let inner = hyper_util();
    let client = books.service(service_fn(move |request: Request<_>| {
        let inner = inner.clone();
        async move { inner.request(request).await }
    }));
    let (_, arrived) = ask(client.clone(), &format!("{callee}/books/7")).await?;
    println!("What arrived from a service of one's own:\n{arrived}");
    let (status, _) = ask(client, &format!("{callee}/busy/own")).await?;
    println!("  and where the first answer is 503: {}\n", repeated(status, books.retries().stats().all_repeats()));

    // Clients that tonic generates take this as they take a channel.
    let shelf = telemetry.client("shelf");
    let client = shelf.tonic(channel(callee)?);
    let arrived = look(client.clone(), "/shop.Shelf/Look").await?;
    println!("What arrived from a channel of tonic:");
    for name in ["traceparent", "baggage"] {
        let value = arrived.get(name).map(|value| value.to_str()).transpose()?;
        println!("  {name}: {}", value.unwrap_or("none"));
    }
    look(client, "/shop.Shelf/LookWhileBusy").await?;
    println!(
        "\n  and where the first answer is UNAVAILABLE: {}\n",
        repeated("OK", shelf.retries().stats().all_repeats())
    );

    let refused = ask(prices.reqwest(reqwest()?), NOBODY).await;
    println!("Where nobody listens:\n  {}\n", chain(&*refused.expect_err("nothing listens on port 1")));
    Ok(())
}

fn hyper_util<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body<Data = Bytes> + Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

fn reqwest() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().no_proxy().build()
}

fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(url.to_owned())?.connect_lazy())
}

/// A transport that never works.
async fn broken<B>(_: Request<B>) -> Result<Response<Empty<Bytes>>, BoxError> {
    Err("out of order".into())
}

/// Reads the body to its end, where the span ends too.
async fn ask<S, B>(client: S, url: &str) -> Result<(StatusCode, String), BoxError>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let answer = client.oneshot(Request::get(url).body(Empty::new())?).await?;
    let (status, body) = (answer.status(), answer.into_body());
    let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
    Ok((status, String::from_utf8(bytes.into())?))
}

/// What comes back of a gRPC call besides its empty message.
async fn look<S>(channel: S, method: &'static str) -> Result<MetadataMap, tonic::Status>
where
    S: GrpcService<tonic::body::Body, Error = BoxError>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(tonic::Status::from_error)?;
    let method = PathAndQuery::from_static(method);
    let answer = grpc.unary(tonic::Request::new(()), method, ProstCodec::<(), ()>::default()).await?;
    Ok(answer.metadata().clone())
}

fn repeated(came_to: impl std::fmt::Display, repeats: u64) -> String {
    format!("{came_to} after {repeats} repeat")
}

/// Calls until the circuit has seen enough, and says what it says then, without a call.
async fn rejected<S, B>(client: S) -> Result<String, BoxError>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = BoxError> + Clone,
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let mut failed = 0;
    loop {
        let Err(error) = ask(client.clone(), NOBODY).await else { return Err("somebody listens on port 1".into()) };
        match Rejected::of(&*error) {
            Some(rejected) => return Ok(format!("after {failed} calls that failed, {rejected}")),
            None => failed += 1,
        }
    }
}

/// The same for gRPC, whose errors are statuses.
async fn rejected_grpc<S>(channel: S) -> Result<String, BoxError>
where
    S: GrpcService<tonic::body::Body, Error = BoxError> + Clone,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut failed = 0;
    loop {
        let Err(status) = look(channel.clone(), "/shop.Shelf/Look").await else {
            return Err("somebody listens".into());
        };
        match Rejected::of(&status) {
            Some(rejected) => return Ok(format!("after {failed} calls that failed, {rejected}")),
            None => failed += 1,
        }
    }
}

/// An error and what is behind it, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn line(span: &SpanRecord) -> String {
    let SpanRecord { trace_id, span_id, name, outcome, .. } = span;
    let attribute = |key: &str| span.attribute(key).map(ToString::to_string);
    let url = attribute("url.full").unwrap_or_default();
    let statuses = ["rpc.status_code", "http.response.status_code", "error.type"];
    let status = statuses.iter().find_map(|key| attribute(key)).unwrap_or_default();
    let repeat = attribute("http.request.resend_count").map(|count| format!(" repeat {count}")).unwrap_or_default();
    format!("{trace_id} {span_id} {name} {url} {status} {outcome} {:?}{repeat}", span.duration())
}
