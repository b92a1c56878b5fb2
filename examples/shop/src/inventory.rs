//! The inventory: a gRPC service on tonic.
//!
//! Messages and methods are written by hand, so that the example builds without `protoc` and without a build script; with
//! generated code the two `.layer()` lines are the same.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::Telemetry;
use buttress::stack::TonicChannel;
use buttress::telemetry::ClientService;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use tokio::net::TcpListener;
use tonic::Status;
use tonic::body::Body;
use tonic::client::Grpc as GrpcClient;
use tonic::server::Grpc as GrpcServer;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::circuits::Upstream;
use crate::fault::{Switch, broken_body};

const LOOK: &str = "/shop.Inventory/Look";
const RESERVE: &str = "/shop.Inventory/Reserve";

/// `id`, what it is, what one costs in cents.
pub(crate) const ITEMS: [(&str, &str, u64); 4] = [
    ("lamp", "a lamp for the desk", 4_900),
    ("chair", "a chair that turns", 12_900),
    ("desk", "a desk of oak", 34_900),
    ("shelf", "a shelf for the books", 8_900),
];
/// How long a caller waits for all attempts together.
const PATIENCE: Duration = Duration::from_millis(600);
const FULL_STOCK: u32 = 60;
/// What reading the shelf list takes.
const WORK: Duration = Duration::from_millis(2);

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ask {
    #[prost(string, tag = "1")]
    pub(crate) item: String,
    #[prost(uint32, tag = "2")]
    pub(crate) quantity: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) title: String,
    #[prost(uint64, tag = "3")]
    pub(crate) cents: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) in_stock: u32,
}

/// Serves until `stop` resolves and the calls under way are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    telemetry: Telemetry,
    faults: Switch,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let stock = ITEMS.map(|(id, ..)| (id, FULL_STOCK));
    let inventory = Inventory { stock: Arc::new(Mutex::new(stock.into())), faults };
    Server::builder()
        // Outermost: the span counts all that tonic and the service do, and takes the caller's trace from the headers.
        .layer(telemetry.server())
        .serve_with_incoming_shutdown(inventory, TcpIncoming::from(listener), stop)
        .await
}

#[derive(Clone)]
struct Inventory {
    stock: Arc<Mutex<HashMap<&'static str, u32>>>,
    faults: Switch,
}

impl Service<Request<Body>> for Inventory {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inventory = self.clone();
        Box::pin(async move {
            let reserve = match request.uri().path() {
                LOOK => false,
                RESERVE => true,
                _ => return Ok(Status::unimplemented("the methods are Look and Reserve").into_http()),
            };
            let strike = inventory.faults.strike();
            strike.wait().await;
            let answer = service_fn(move |ask: tonic::Request<Ask>| {
                let inventory = inventory.clone();
                async move {
                    tokio::time::sleep(WORK).await;
                    if strike.fails {
                        return Err(Status::unavailable("the stock list is locked"));
                    }
                    inventory.answer(&ask.into_inner(), reserve).map(tonic::Response::new)
                }
            });
            let answer = GrpcServer::new(ProstCodec::<Item, Ask>::default()).unary(answer, request).await;
            if strike.breaks() {
                return Ok(answer.map(|_| Body::new(broken_body(b"\0", Status::aborted("the connection broke")))));
            }
            Ok(answer)
        })
    }
}

impl Inventory {
    fn answer(&self, ask: &Ask, reserve: bool) -> Result<Item, Status> {
        let known = ITEMS.iter().find(|(id, ..)| *id == ask.item);
        let &(id, title, cents) = known.ok_or_else(|| Status::not_found("no such item"))?;
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        let in_stock = stock.entry(id).or_insert(FULL_STOCK);
        if reserve {
            // The supplier comes when somebody was sent away, so that the shop never runs dry for good.
            let Some(rest) = in_stock.checked_sub(ask.quantity) else {
                *in_stock = FULL_STOCK;
                return Err(Status::failed_precondition("sold out"));
            };
            *in_stock = rest;
        }
        Ok(Item { id: id.to_owned(), title: title.to_owned(), cents, in_stock: *in_stock })
    }
}

/// The client that other services call it with.
#[derive(Clone)]
pub(crate) struct Client(GrpcClient<ClientService<TonicChannel<Channel>>>);

impl Client {
    /// Connects with the first call.
    pub(crate) fn new(origin: &Uri, telemetry: &Telemetry) -> (Self, Upstream) {
        // Around the channel: a deadline, which goes out as `grpc-timeout`; retries, of what gRPC says was not done; a
        // circuit; and for each attempt a span and its context in the headers that leave. No timeout of an attempt: who
        // has not heard of a reservation cannot know whether it was made.
        let stack = telemetry.client("inventory").deadline(PATIENCE);
        let upstream = Upstream { circuit: stack.circuit().clone(), retries: stack.retries().clone() };
        let channel = stack.tonic(Endpoint::from(origin.clone()).connect_lazy());
        (Self(GrpcClient::with_origin(channel, origin.clone())), upstream)
    }

    pub(crate) async fn look(&self, item: String) -> Result<Item, Status> {
        self.call(LOOK, Ask { item, quantity: 0 }).await
    }

    pub(crate) async fn reserve(&self, item: String, quantity: u32) -> Result<Item, Status> {
        self.call(RESERVE, Ask { item, quantity }).await
    }

    async fn call(&self, method: &'static str, ask: Ask) -> Result<Item, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<Ask, Item>::default();
        let answer = grpc.unary(tonic::Request::new(ask), PathAndQuery::from_static(method), codec).await?;
        Ok(answer.into_inner())
    }
}
