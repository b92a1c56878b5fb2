//! Two HTTP clients, hyper-util's and reqwest, wrapped by the same layer: a span for each call, its context in the headers.

#![forbid(unsafe_code)]

mod echo;

use buttress::context::Context;
use buttress::trace::SpanRecord;
use buttress::{Telemetry, context::Baggage};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{BoxError, ServiceExt};

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
        let refused = with_reqwest(&telemetry, "http://127.0.0.1:1/nobody-listens").await;
        println!("Where nobody listens:\n  {}\n", refused.expect_err("nothing listens on port 1"));
        Ok::<_, BoxError>(())
    };
    context.scope(calls).await?;

    println!("The spans:");
    for span in telemetry.latest_spans(8).iter().rev() {
        println!("{}", line(span));
    }
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
    format!("{trace_id} {span_id} {name} {url} {status} {outcome} {:?}", span.duration())
}
