//! A collector that takes OTLP over HTTP and tells what it got.

use std::convert::Infallible;
use std::io::Read;

use flate2::read::GzDecoder;
use http::header::CONTENT_ENCODING;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A request that a collector got: where to, with which key, and what.
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) request: ExportTraceServiceRequest,
}

pub(crate) async fn http_collector() -> (String, mpsc::UnboundedReceiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let key = request.headers().get("x-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
                    let zipped = request.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
                    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
                    let body = if zipped { unzip(&body) } else { body };
                    let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
                    let _ = sender.send(Got { path, key, request });
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (format!("http://{address}"), receiver)
}

fn unzip(body: &[u8]) -> Bytes {
    let mut unzipped = Vec::new();
    GzDecoder::new(body).read_to_end(&mut unzipped).expect("gzip");
    unzipped.into()
}
