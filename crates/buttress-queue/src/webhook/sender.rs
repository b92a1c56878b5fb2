//! Delivers webhooks: the processor of their jobs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buttress::circuit_breaker::{CallResult, CircuitConfig, Circuits};
use buttress::hint::Hint;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::calls::LONGEST_WAIT;
use super::endpoints::{Endpoint, Endpoints, State};
use super::guard::{NotPublic, names_private_address};
use super::priority_of;
use super::signature::{ID, SIGNATURE, TIMESTAMP, sign};
use crate::BoxError;
use crate::job::{Delivery, Job, JobId, Outcome};

/// An event for a destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Webhook {
    /// To whom: an id of [`Endpoints`].
    pub destination: Arc<str>,
    /// What happened: `payment.captured`.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// What is sent, to the letter, whenever it is.
    pub payload: Box<RawValue>,
}

impl Webhook {
    /// An event of this type: its payload is this data, as JSON.
    ///
    /// # Errors
    ///
    /// When the data cannot be written as JSON.
    pub fn new<T: Serialize + ?Sized>(
        destination: impl Into<Arc<str>>,
        kind: impl Into<Arc<str>>,
        data: &T,
    ) -> Result<Self, serde_json::Error> {
        let payload = serde_json::value::to_raw_value(data)?;
        Ok(Self { destination: destination.into(), kind: kind.into(), payload })
    }

    /// The job that delivers it: of its type, about its destination, as urgent as [`priority_of`] says. Give it the id of
    /// the event, and it is delivered once.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON.
    pub fn into_job(self) -> Result<Job, serde_json::Error> {
        let (kind, destination) = (Arc::clone(&self.kind), Arc::clone(&self.destination));
        let priority = priority_of(&kind);
        Ok(Job::new(kind, &self)?.priority(priority).key(destination))
    }
}

/// Delivers [webhooks](Webhook) over a client, signed.
///
/// | answer | outcome |
/// |---|---|
/// | 2xx | done |
/// | 410 | a dead letter, and the destination is [disabled](Endpoints::disable) |
/// | 429, 502, 503, 504 with `Retry-After` | deferred for that long, a day at most |
/// | 429 without | deferred for a minute |
/// | anything else, redirections among it, an error, no answer in time | retried |
/// | none: the destination's circuit is open | deferred until it may close, and not all of them to the same moment |
/// | none: as many are [under way](Sender::at_once) as may be | deferred, one after the other as fast as it answers: 0.25 to 30 s |
///
/// One circuit for each destination, and a bound to the calls that it has [at once](Sender::at_once): neither who is down
/// nor who takes requests and never answers them holds up the others.
#[derive(Clone)]
pub struct Sender<S> {
    client: S,
    rules: Rules,
}

#[derive(Clone)]
struct Rules {
    endpoints: Endpoints,
    circuits: Circuits,
    timeout: Duration,
    at_once: usize,
    largest: usize,
    allow_private: bool,
}

impl<S> Sender<S> {
    /// Delivers over this client. The name is that of its circuits.
    ///
    /// The client [resolves names](super::GuardedResolver) to public addresses only, and follows no redirections: the address
    /// that one leads to is looked at by nobody. hyper-util's does not; reqwest's has to be told (`redirect::Policy::none()`).
    pub fn new(name: &str, client: S) -> Self {
        let rules = Rules {
            endpoints: Endpoints::default(),
            circuits: Circuits::new(name, CircuitConfig::default()),
            timeout: Duration::from_secs(15),
            at_once: 8,
            largest: 64 * 1024,
            allow_private: false,
        };
        Self { client, rules }
    }

    /// With circuits of one's own.
    #[must_use]
    pub fn circuits(mut self, circuits: Circuits) -> Self {
        self.rules.circuits = circuits;
        self
    }

    /// How long a destination may take to answer. 15 s by default.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.rules.timeout = timeout;
        self
    }

    /// How many calls of one destination may be under way. 8 by default; 0 is taken as 1.
    ///
    /// A fraction of the worker's [concurrency](crate::Worker::concurrency) keeps the rest of it for the others while one
    /// hangs.
    #[must_use]
    pub const fn at_once(mut self, calls: usize) -> Self {
        self.rules.at_once = if calls == 0 { 1 } else { calls };
        self
    }

    /// The most bytes of a payload. 64 KiB by default; what is larger becomes a dead letter.
    #[must_use]
    pub const fn largest(mut self, bytes: usize) -> Self {
        self.rules.largest = bytes;
        self
    }

    /// Lets destinations be addresses of one's own network. For tests, and for those whose users name no destinations.
    ///
    /// Names are looked at when they are resolved: give the client a [`GuardedResolver`](super::GuardedResolver).
    #[must_use]
    pub const fn allow_private_addresses(mut self) -> Self {
        self.rules.allow_private = true;
        self
    }

    /// Its destinations.
    pub const fn endpoints(&self) -> &Endpoints {
        &self.rules.endpoints
    }
}

impl<S, B> Service<Delivery> for Sender<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let (webhook, endpoint) = match self.rules.look_up(delivery) {
            Ok(found) => found,
            Err(outcome) => return Box::pin(async { Ok(outcome) }),
        };
        let destination = Arc::clone(&webhook.data.destination);
        let mut place = match endpoint.place(self.rules.at_once, Instant::now()) {
            Ok(place) => place,
            Err(wait) => {
                let outcome = Outcome::defer(wait, format!("{destination} has as many calls under way as it may"));
                return Box::pin(async { Ok(outcome) });
            }
        };
        let circuit = self.rules.circuits.get(&destination);
        let permit = match circuit.admit(Instant::now()) {
            Ok(permit) => permit,
            Err(rejected) => {
                let wait = endpoint.wait_for_circuit(rejected.retry_after, Instant::now());
                let outcome = Outcome::defer(wait, rejected.to_string());
                return Box::pin(async { Ok(outcome) });
            }
        };
        let sending = match request(&webhook.id, webhook.data.payload, &endpoint) {
            Ok(request) => self.client.call(request),
            Err(error) => return Box::pin(async move { Ok(Outcome::bury(error.to_string())) }),
        };
        place.begin(Instant::now());
        let (endpoints, limit) = (self.rules.endpoints.clone(), self.rules.timeout);
        Box::pin(async move {
            let _place = place;
            let answer = match timeout(limit, sending).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(format!("{destination} did not answer within {limit:?}").into()),
            };
            let outcome = answer.map(|answer| judge(&answer, &destination, &endpoints));
            permit.report(health(&outcome), Instant::now());
            outcome
        })
    }
}

impl Rules {
    /// The webhook and where it goes; what becomes of it when it goes nowhere.
    fn look_up(&self, delivery: Delivery) -> Result<(Delivery<Webhook>, Endpoint), Outcome> {
        let delivery: Delivery<Webhook> =
            delivery.read().map_err(|error| Outcome::bury(format!("its data is no webhook: {error}")))?;
        let destination = &delivery.data.destination;
        let size = delivery.data.payload.get().len();
        if size > self.largest {
            return Err(Outcome::bury(format!("a payload of {size} bytes, and {} at most", self.largest)));
        }
        let endpoint = match self.endpoints.find(destination) {
            Some(State::Enabled(endpoint)) => endpoint,
            Some(State::Disabled(reason)) => return Err(Outcome::bury(format!("{destination} is disabled: {reason}"))),
            None => return Err(Outcome::bury(format!("no destination is called {destination:?}"))),
        };
        if !self.allow_private && names_private_address(&endpoint.url) {
            return Err(Outcome::bury(NotPublic.to_string()));
        }
        Ok((delivery, endpoint))
    }
}

fn request(id: &JobId, payload: Box<RawValue>, endpoint: &Endpoint) -> Result<Request<Full<Bytes>>, http::Error> {
    // Wall time: the receiver compares it with its own.
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let payload = Bytes::from(String::from(Box::<str>::from(payload)));
    Request::post(endpoint.url.clone())
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(ID, id.as_str())
        .header(TIMESTAMP, timestamp)
        .header(SIGNATURE, sign(&endpoint.secrets, id, timestamp, &payload))
        .body(Full::new(payload))
}

fn judge<B>(answer: &Response<B>, destination: &Arc<str>, endpoints: &Endpoints) -> Outcome {
    let status = answer.status();
    let hint = match Hint::of_http(answer.headers()) {
        Some(Hint::After(after)) => Some(after.min(LONGEST_WAIT)),
        _ => None,
    };
    match (status, hint) {
        (status, _) if status.is_success() => Outcome::Ack,
        (StatusCode::GONE, _) => {
            endpoints.disable(destination, "it answered 410 Gone");
            Outcome::bury(format!("{destination} answered {status}"))
        }
        (StatusCode::TOO_MANY_REQUESTS, hint) => {
            Outcome::defer(hint.unwrap_or(Duration::from_secs(60)), format!("{destination} answered {status}"))
        }
        (StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT, Some(after)) => {
            Outcome::defer(after, format!("{destination} answered {status}"))
        }
        _ => Outcome::retry(format!("{destination} answered {status}")),
    }
}

/// What an outcome says about the destination.
fn health(outcome: &Result<Outcome, BoxError>) -> CallResult {
    match outcome {
        Ok(Outcome::Ack) => CallResult::Ok,
        Ok(Outcome::Defer { after, .. }) => CallResult::Failed { retry_after: Some(*after) },
        Ok(Outcome::Retry { .. }) | Err(_) => CallResult::FAILED,
        Ok(Outcome::Bury { .. }) => CallResult::Ignored,
    }
}

impl<S> fmt::Debug for Sender<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("endpoints", &self.rules.endpoints).finish_non_exhaustive()
    }
}
