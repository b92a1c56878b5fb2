//! Takes webhooks in: verifies and enqueues.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;
use tower_service::Service;

use super::priority_of;
use super::signature::{Secret, verify};
use crate::job::Job;
use crate::queue::{PushError, Queue};

/// A service that takes webhooks: `POST`s whose signature is good and whose body is JSON become jobs.
///
/// | what came | answer |
/// |---|---|
/// | a webhook, and it is in the queue | 202 |
/// | one whose id is known already | 200 |
/// | no signature, a bad one, an old one | 401 |
/// | a body that is no JSON | 400 |
/// | a body that is too large | 413 |
/// | anything but `POST` | 405 |
/// | a queue that is full or cannot be reached | 503 with `Retry-After` |
///
/// The id of the job is the id of the webhook, its type is the field `type` of the body, or `webhook`; its data is the
/// body. What is answered with 2xx is kept.
///
/// ```
/// use axum::Router;
/// use buttress_queue::webhook::{Receiver, Secret};
/// use buttress_queue::{EngineConfig, Memory, Queue};
///
/// let inbox = Queue::new("inbox", Memory::new(EngineConfig::default()));
/// let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let app: Router = Router::new().route_service("/webhooks", Receiver::new(&inbox, secret));
/// # Ok::<(), buttress_queue::webhook::SecretError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Receiver(Arc<Rules>);

#[derive(Clone, Debug)]
struct Rules {
    queue: Queue,
    secrets: Vec<Secret>,
    tolerance: Duration,
    largest: usize,
}

impl Receiver {
    /// Into this queue, whatever is signed with this.
    pub fn new(queue: &Queue, secret: Secret) -> Self {
        let (tolerance, largest) = (Duration::from_secs(300), 256 * 1024);
        Self(Arc::new(Rules { queue: queue.clone(), secrets: vec![secret], tolerance, largest }))
    }

    /// Or with this: while the sender changes its secret.
    #[must_use]
    pub fn or_signed_with(mut self, secret: Secret) -> Self {
        self.rules().secrets.push(secret);
        self
    }

    /// How far from now a signature may have been made. Five minutes by default; ids are remembered for longer, so that a
    /// replay within it is a duplicate.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.rules().tolerance = tolerance;
        self
    }

    /// The most bytes of a body. 256 KiB by default.
    #[must_use]
    pub fn largest(mut self, bytes: usize) -> Self {
        self.rules().largest = bytes;
        self
    }

    fn rules(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.0)
    }
}

impl<B> Service<Request<B>> for Receiver
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let rules = Arc::clone(&self.0);
        Box::pin(async move { Ok(rules.receive(request).await.unwrap_or_else(Refusal::answer)) })
    }
}

impl Rules {
    async fn receive<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Refusal>
    where
        B: Body,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        if request.method() != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "webhooks are posted"));
        }
        let (head, body) = request.into_parts();
        let body =
            Limited::new(body, self.largest).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
                true => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
                false => Refusal::new(StatusCode::BAD_REQUEST, "the body broke off"),
            })?;
        let body = body.to_bytes();
        // Wall time: the sender has signed its own.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let verified = verify(&self.secrets, &head.headers, &body, now, self.tolerance);
        let verified = verified.map_err(|error| Refusal::new(StatusCode::UNAUTHORIZED, error.to_string()))?;
        let text = std::str::from_utf8(&body).ok().map(str::to_owned);
        let data = text.and_then(|text| RawValue::from_string(text).ok());
        let data = data.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "the body is no JSON"))?;
        let kind = kind_of(&data);
        let priority = priority_of(&kind);
        match self.queue.push(Job::raw(kind, data).id(verified.id).priority(priority)).await {
            Ok(pushed) if pushed.is_duplicate() => Ok(answer(StatusCode::OK, "")),
            Ok(_) => Ok(answer(StatusCode::ACCEPTED, "")),
            Err(error) => Err(Refusal::of(&error)),
        }
    }
}

fn kind_of(data: &RawValue) -> Arc<str> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        kind: Arc<str>,
    }
    serde_json::from_str(data.get()).map_or_else(|_| "webhook".into(), |Typed { kind }| kind)
}

/// Why a webhook was not taken.
struct Refusal {
    status: StatusCode,
    why: Cow<'static, str>,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self { status, why: why.into() }
    }

    fn of(error: &PushError) -> Self {
        match error {
            PushError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            PushError::Kind(_) => Self::new(StatusCode::BAD_REQUEST, "the type is no name"),
            PushError::Full(_) | PushError::Engine(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "come again later"),
        }
    }

    fn answer(self) -> Response<Full<Bytes>> {
        let mut answer = answer(self.status, self.why);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        answer
    }
}

fn answer(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(text.into()));
    *answer.status_mut() = status;
    answer
}
