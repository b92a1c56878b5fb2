//! A client of reqwest at the end of a stack.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{ClientService, ClientStack, Observers};
use crate::circuit_breaker::Choose;
use crate::retry::ReplayBody;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<O: Observers, K: Choose> ClientStack<O, K> {
    /// Wraps a client of reqwest, which is then a service of `http` requests and answers.
    ///
    /// ```no_run
    /// use buttress::stack::ClientStack;
    /// use bytes::Bytes;
    /// use http::Request;
    /// use http_body_util::{BodyExt, Empty};
    /// use tower::{BoxError, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let prices = ClientStack::new("prices").reqwest(reqwest::Client::new());
    /// let request = Request::get("http://prices.example/tea").body(Empty::<Bytes>::new())?;
    /// let answer = prices.oneshot(request).await?.into_body().collect().await?.to_bytes();
    /// # Ok(()) }
    /// ```
    ///
    /// Where reqwest follows redirects, they are one attempt.
    pub fn reqwest(&self, client: reqwest::Client) -> ClientService<Reqwest, O, K> {
        self.service(Reqwest(client))
    }
}

/// A client of reqwest as a service of `http` requests; of [`ClientStack::reqwest`].
#[derive(Clone, Debug)]
pub struct Reqwest(reqwest::Client);

impl<B> Service<Request<ReplayBody<B>>> for Reqwest
where
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<reqwest::Body>;
    type Error = reqwest::Error;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), reqwest::Error>> {
        Service::<reqwest::Request>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> ReqwestFuture {
        let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap));
        let sent = request.map(|request| Service::<reqwest::Request>::call(&mut self.0, request));
        match sent {
            Ok(sent) => ReqwestFuture { sent: Some(sent), malformed: None },
            Err(error) => ReqwestFuture { sent: None, malformed: Some(error) },
        }
    }
}

pin_project! {
    /// The answer of reqwest to come; of [`Reqwest`].
    pub struct ReqwestFuture {
        #[pin]
        sent: Option<<reqwest::Client as Service<reqwest::Request>>::Future>,
        // A URL that reqwest does not take.
        malformed: Option<reqwest::Error>,
    }
}

impl Future for ReqwestFuture {
    type Output = Result<Response<reqwest::Body>, reqwest::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.sent.as_pin_mut() {
            Some(sent) => Poll::Ready(ready!(sent.poll(cx)).map(Response::from)),
            None => Poll::Ready(Err(this.malformed.take().expect("polled after it was done"))),
        }
    }
}

impl fmt::Debug for ReqwestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestFuture").finish_non_exhaustive()
    }
}
