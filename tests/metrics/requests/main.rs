//! What is counted of requests, whatever becomes of them.

mod active;
mod clients;
mod endings;
mod grpc;
mod labels;
mod routes;
mod sizes;
mod streams;
mod times;

use std::future::pending;
use std::panic::resume_unwind;
use std::time::Duration;

use buttress::metrics::{Registry, RequestMetricsLayer};
use buttress::observe::Route;
use buttress_tests::{Broken, ScriptBody, Step, headers, read};
use http::{Request, Response, StatusCode};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

const DURATION: &str = "http.server.request.duration";
const ACTIVE: &str = "http.server.active_requests";
const CLIENT_DURATION: &str = "http.client.request.duration";
const CLIENT_ACTIVE: &str = "http.client.active_requests";
const REQUESTS: &str = "buttress.http.server.requests";
const FIRST_BYTE: &str = "buttress.http.server.time_to_first_byte";
const BODY: &str = "buttress.http.server.response.body.duration";
const SIZE: &str = "http.server.response.body.size";

/// Answers by path.
async fn answer(request: Request<()>) -> Result<Response<ScriptBody>, Broken> {
    let route = |template| Some(Route::from_static(template));
    let (status, template, body) = match request.uri().path() {
        "/items/7" => (200, route("/items/{id}"), ScriptBody::new([Step::Data("item")])),
        "/never" => pending().await,
        "/panic" => resume_unwind(Box::new("asked for")),
        "/error" => return Err(Broken("no answer")),
        "/500" => (500, route("/500"), ScriptBody::default()),
        "/stream" => {
            let chunk = || [Step::Wait(Duration::from_millis(100)), Step::Data("chunk")];
            (200, route("/stream"), ScriptBody::new([chunk(), chunk(), chunk()].concat()))
        }
        "/broken" => (200, route("/broken"), ScriptBody::new([Step::Data("half"), Step::Fail("lost")])),
        "/upgrade" => (101, route("/upgrade"), ScriptBody::default()),
        "/shop.Inventory/Reserve" => {
            let trailers = headers([("grpc-status", "14")]);
            (200, None, ScriptBody::new([Step::Data("frame"), Step::Trailers(trailers)]))
        }
        "/head" => {
            // Paused: whoever asks for it starts so.
            sleep(Duration::from_millis(20)).await;
            (200, route("/head"), ScriptBody::default())
        }
        _ => (404, None, ScriptBody::default()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.extensions_mut().extend(
        template
            .map(|template| {
                let mut extensions = http::Extensions::new();
                extensions.insert(template);
                extensions
            })
            .unwrap_or_default(),
    );
    Ok(response)
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).expect("a valid request")
}

/// Sends a request and reads the answer.
async fn send(registry: &Registry, request: Request<()>) {
    let service = RequestMetricsLayer::server(registry).layer(service_fn(answer));
    if let Ok(response) = service.oneshot(request).await {
        let _ = read(response.into_body()).await;
    }
}
