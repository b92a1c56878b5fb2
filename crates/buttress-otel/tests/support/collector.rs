//! A collector that takes OTLP over HTTP and tells what it got.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use flate2::read::GzDecoder;
use http::header::CONTENT_ENCODING;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A request that a collector got: where to, with which key, and what.
pub(crate) struct Got<R> {
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) request: R,
}

pub(crate) type Received<R> = mpsc::UnboundedReceiver<Got<R>>;
pub(crate) type Answer = Response<Full<Bytes>>;

/// A collector that takes everything.
pub(crate) async fn http_collector<R: Message + Default + 'static>() -> (String, Received<R>) {
    http_collector_that(|_| Some(Response::default())).await
}

/// A collector that answers the nth request so; not at all where there is no answer.
pub(crate) async fn http_collector_that<R, F>(answers: F) -> (String, Received<R>)
where
    R: Message + Default + 'static,
    F: Fn(usize) -> Option<Answer> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (sender, receiver) = mpsc::unbounded_channel();
    let (answers, count) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (sender, answers, count) = (sender.clone(), Arc::clone(&answers), Arc::clone(&count));
            let service = service_fn(move |request| {
                let (sender, answers, count) = (sender.clone(), Arc::clone(&answers), Arc::clone(&count));
                async move {
                    let _ = sender.send(read(request).await);
                    match answers(count.fetch_add(1, Relaxed)) {
                        Some(answer) => Ok::<_, Infallible>(answer),
                        None => std::future::pending().await,
                    }
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (format!("http://{address}"), receiver)
}

async fn read<R: Message + Default>(request: Request<Incoming>) -> Got<R> {
    let path = request.uri().path().to_owned();
    let key = request.headers().get("x-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let zipped = request.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let body = if zipped { unzip(&body) } else { body };
    Got { path, key, request: R::decode(body).expect("protobuf") }
}

fn unzip(body: &[u8]) -> Bytes {
    let mut unzipped = Vec::new();
    GzDecoder::new(body).read_to_end(&mut unzipped).expect("gzip");
    unzipped.into()
}
