//! The client: calls each method once, in one trace, and prints what came back and its own spans.

use std::error::Error;

use buttress::context::Context;
use buttress::{Telemetry, trace::SpanRecord};
use tonic::transport::Endpoint;
use tonic::{Response, Status, Streaming};

use crate::proto::greeter_client::GreeterClient;
use crate::proto::{GreetRequest, Greeting};

pub(crate) async fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::from_env("tonic-client")?;
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    let channel = endpoint.connect().await.map_err(|_| format!("no server on port {port}: start one first"))?;
    // Around the channel: retries, a circuit, for each attempt a span, and its context in the metadata.
    let mut greeter = GreeterClient::new(telemetry.client("greeter").tonic(channel));

    // One context around all of them makes one trace of the calls.
    let calls = async {
        let request = |name: &str| GreetRequest { name: name.to_owned(), times: 4 };
        println!("Greet:              {}", told(greeter.greet(request("Ada")).await));
        println!("Greet nobody:       {}", told(greeter.greet(request("")).await));
        println!("GreetOften:         {}", all(greeter.greet_often(request("Ada")).await).await);
        println!("GreetUntilHoarse:   {}", all(greeter.greet_until_hoarse(request("Ada")).await).await);
    };
    Context::root().scope(calls).await;

    println!("\nThe client's spans, in one trace with those that the server prints:");
    for span in telemetry.latest_spans(16).iter().rev() {
        println!("{}", line(span));
    }
    Ok(())
}

fn told(answer: Result<Response<Greeting>, Status>) -> String {
    answer.map_or_else(failed, |greeting| greeting.into_inner().text)
}

/// Every message of a stream, and how it ended.
async fn all(answer: Result<Response<Streaming<Greeting>>, Status>) -> String {
    let mut stream = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return failed(status),
    };
    let mut count = 0;
    loop {
        match stream.message().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => return format!("{count} greetings"),
            Err(status) => return format!("{count} greetings, then {}", failed(status)),
        }
    }
}

fn failed(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn line(span: &SpanRecord) -> String {
    let SpanRecord { trace_id, span_id, name, outcome, .. } = span;
    let millis = span.duration().as_millis();
    let status = span.attribute("rpc.status_code").map(ToString::to_string).unwrap_or_default();
    format!("{trace_id} {span_id} {name:<36} {outcome:<10} {status:<18} {millis:>4} ms")
}
