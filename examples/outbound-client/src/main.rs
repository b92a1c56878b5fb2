//! Three HTTP clients, hyper-util's, reqwest and a tower service of one's own, each at the end of a stack: retries, a
//! circuit, and for each attempt a span and its context in the headers.

#![forbid(unsafe_code)]

mod echo;

use buttress::circuit_breaker::Rejected;
use buttress::context::Context;
use buttress::trace::SpanRecord;
use buttress::{Telemetry, context::Baggage};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{BoxError, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let telemetry = Telemetry::from_env("outbound-client")?;
    let address = echo::start().await?;

    // Inside a server the current context is that of the request; here there is none yet.
    let mut baggage = Baggage::default();
    baggage.insert("tenant", "blue")?;
    let context = Context::root().with_baggage(baggage);
    let calls = async {
        let arrived = with_hyper_util(&telemetry, &format!("http://{address}/stock/7?token=s3cret")).await?;
        println!("What arrived from hyper-util's client:\n{arrived}");
        let arrived = with_reqwest(&telemetry, &format!("http://{address}/prices/7")).await?;
        println!("What arrived from reqwest:\n{arrived}");
        let arrived = with_any_service(&telemetry, "http://shelf/books/7").await?;
        println!("What arrived at a service of one's own:\n{arrived}");
        println!(
            "Where the first answer is 503:\n  {}\n",
            repeated(&telemetry, &format!("http://{address}/busy")).await?
        );
        let refused = with_reqwest(&telemetry, "http://127.0.0.1:1/nobody-listens").await;
        println!("Where nobody listens:\n  {}\n", chain(&*refused.expect_err("nothing listens on port 1")));
        Ok::<_, BoxError>(())
    };
    context.scope(calls).await?;

    println!("The spans:");
    for span in telemetry.latest_spans(16).iter().rev() {
        println!("{}", line(span));
    }
    println!(
        "\nWhere nobody listens for long:\n  {}",
        rejected(&telemetry, "http://127.0.0.1:1/nobody-listens").await?
    );
    Ok(())
}

async fn with_hyper_util(telemetry: &Telemetry, url: &str) -> Result<String, BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    // Around the transport: retries, a circuit, and a span for each attempt on the wire.
    let client = telemetry.client("stock").service(client);
    let answer = client.oneshot(Request::get(url).body(Empty::<Bytes>::new())?).await?;
    text(answer).await
}

async fn with_reqwest(telemetry: &Telemetry, url: &str) -> Result<String, BoxError> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    // The same for reqwest, which has a request of its own; where it follows a redirect, the span covers the calls together.
    let client = telemetry.client("prices").reqwest(client);
    let answer = client.oneshot(Request::get(url).body(Empty::<Bytes>::new())?).await?;
    text(answer).await
}

async fn with_any_service(telemetry: &Telemetry, url: &str) -> Result<String, BoxError> {
    // Whatever takes requests of `http` will do: a client of another kind, a queue, a router in the same process.
    let shelf = service_fn(async |request: Request<_>| {
        let (head, _) = request.into_parts();
        Ok::<_, BoxError>(Response::new(echo::echo(head.headers).await))
    });
    let client = telemetry.client("shelf").service(shelf);
    let answer = client.oneshot(Request::get(url).body(Empty::<Bytes>::new())?).await?;
    text(answer).await
}

/// A GET may be sent twice, so that one answer of 503 is not what the caller sees.
async fn repeated(telemetry: &Telemetry, url: &str) -> Result<String, BoxError> {
    let stack = telemetry.client("moody");
    let client = stack.service(Client::builder(TokioExecutor::new()).build_http());
    let answer = client.oneshot(Request::get(url).body(Empty::<Bytes>::new())?).await?;
    let status = answer.status();
    text(answer).await?;
    Ok(format!("{status} after {} repeat", stack.retries().stats().all_repeats()))
}

/// Calls until the circuit has seen enough, and says what it says then, without a call.
async fn rejected(telemetry: &Telemetry, url: &str) -> Result<String, BoxError> {
    let stack = telemetry.client("nobody").without_retry();
    let client = stack.service(Client::builder(TokioExecutor::new()).build_http());
    let mut failed = 0;
    loop {
        let request = Request::get(url).body(Empty::<Bytes>::new())?;
        let Err(error) = client.clone().oneshot(request).await else { return Err("somebody listens on port 1".into()) };
        match Rejected::of(&*error) {
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

/// Reads the body to its end, where the span ends too.
async fn text<B>(answer: Response<B>) -> Result<String, BoxError>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let bytes = answer.into_body().collect().await.map_err(Into::into)?.to_bytes();
    Ok(String::from_utf8(bytes.into())?)
}

fn line(span: &SpanRecord) -> String {
    let SpanRecord { trace_id, span_id, name, outcome, .. } = span;
    let attribute = |key: &str| span.attribute(key).map(ToString::to_string);
    let url = attribute("url.full").unwrap_or_default();
    let status = attribute("http.response.status_code").or_else(|| attribute("error.type")).unwrap_or_default();
    let repeat = attribute("http.request.resend_count").map(|count| format!(" repeat {count}")).unwrap_or_default();
    format!("{trace_id} {span_id} {name} {url} {status} {outcome} {:?}{repeat}", span.duration())
}
