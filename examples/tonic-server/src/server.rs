//! The server: prints each span as a line of JSON, and shows its metrics at `/metrics` of the same port, over HTTP/1 too.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use buttress::Telemetry;
use buttress::trace::JsonLines;
use futures_util::{Stream, stream};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::proto::greeter_server::{Greeter, GreeterServer};
use crate::proto::{GreetRequest, Greeting};

pub(crate) async fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::from_env("tonic-server")?.with_sink(JsonLines::new(io::stdout()));
    let stop = telemetry.shutdown_on_signal()?;
    let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    println!("tonic-server listens on http://{}", incoming.local_addr()?);

    let pages = Routes::from(telemetry.metrics_endpoint().router());
    let serving = Server::builder()
        // For Prometheus, which does not speak HTTP/2 without TLS.
        .accept_http1(true)
        // Around every service, so that calls of unknown methods leave spans as well.
        .layer(telemetry.server())
        .add_routes(pages.add_service(GreeterServer::new(Hello)))
        .serve_with_incoming_shutdown(incoming, stop.requested());
    // The calls under way come to their trailers; then, when none is left that could add a span, the spans are delivered.
    Ok(stop.drain(serving).await?)
}

struct Hello;

type Greetings = Pin<Box<dyn Stream<Item = Result<Greeting, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Hello {
    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<Greeting>, Status> {
        let GreetRequest { name, .. } = request.into_inner();
        if name.is_empty() {
            return Err(Status::invalid_argument("whom to greet?"));
        }
        Ok(Response::new(Greeting { text: format!("Hello, {name}!") }))
    }

    type GreetOftenStream = Greetings;

    async fn greet_often(&self, request: Request<GreetRequest>) -> Result<Response<Greetings>, Status> {
        let GreetRequest { name, times } = request.into_inner();
        Ok(Response::new(Box::pin(greetings(name, times))))
    }

    type GreetUntilHoarseStream = Greetings;

    async fn greet_until_hoarse(&self, request: Request<GreetRequest>) -> Result<Response<Greetings>, Status> {
        let GreetRequest { name, times } = request.into_inner();
        let hoarse = stream::iter([Err(Status::unavailable("lost my voice"))]);
        Ok(Response::new(Box::pin(stream::StreamExt::chain(greetings(name, times / 2), hoarse))))
    }
}

/// One greeting every 50 milliseconds, so that the length of the span can be told from that of its head.
fn greetings(name: String, times: u32) -> impl Stream<Item = Result<Greeting, Status>> + Send {
    stream::unfold((name, 1), move |(name, time)| async move {
        if time > times {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let text = format!("Hello, {name}, {time} of {times}!");
        Some((Ok(Greeting { text }), (name, time + 1)))
    })
}
