//! A server on hyper alone: no router, no framework, the same layer. Prints each span as a line of JSON, and shows its
//! metrics at `/metrics`.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use buttress::Telemetry;
use buttress::metrics::MetricsEndpoint;
use buttress::observe::{Peer, Route};
use buttress::settings::port;
use buttress::trace::JsonLines;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::{ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::from_env("hyper-server")?.with_sink(JsonLines::new(io::stdout()));
    let stop = telemetry.shutdown_on_signal()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port(3001)?)).await?;
    println!("hyper-server listens on http://{}", listener.local_addr()?);

    let accepting = accept(listener, &telemetry, stop.requested());
    // What is under way is answered; then, when no request is left that could add a span, the spans are delivered.
    Ok(stop.drain(accepting).await?)
}

/// Takes connections until it is told to stop, and serves them to the end of what they are at.
async fn accept(
    listener: TcpListener,
    telemetry: &Telemetry,
    stop: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(stream, peer, telemetry, &connections),
                // Out of file descriptors, or gone again: neither is the end of the server.
                Err(error) => eprintln!("not accepted: {error}"),
            },
            () = &mut stop => break,
        }
    }
    connections.shutdown().await;
    Ok(())
}

fn serve(stream: TcpStream, peer: SocketAddr, telemetry: &Telemetry, connections: &GracefulShutdown) {
    let pages = telemetry.metrics_endpoint();
    let service = ServiceBuilder::new()
        // Outermost, because only the accept loop knows the peer, and the layer below looks for it.
        .map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request
        })
        // Around everything whose time shall count.
        .layer(telemetry.server())
        .service_fn(move |request: Request<Incoming>| {
            let pages = pages.clone();
            async move {
                match request.uri().path() {
                    path if MetricsEndpoint::PATHS.contains(&path) => pages.oneshot(request).await,
                    _ => answer(request).await,
                }
            }
        });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("{peer}: {error}");
        }
    });
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let (status, route, text) = match path.strip_prefix("/hello/") {
        Some(name) => (StatusCode::OK, Some("/hello/{name}"), format!("hello, {name}\n")),
        None => (StatusCode::NOT_FOUND, None, "nothing here\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    if let Some(template) = route {
        // There is no router to tell the route: the span takes it from here.
        response.extensions_mut().insert(Route::from_static(template));
    }
    Ok(response)
}
