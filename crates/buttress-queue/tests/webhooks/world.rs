//! Secrets, destinations, and what is sent to them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use buttress_queue::Job;
use buttress_queue::webhook::{Endpoint, Secret, Sender, Webhook};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower::{Service, service_fn};

use crate::support::id;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

pub(crate) fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    let pairs = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
}

/// Answers each destination's requests by its host, and keeps what came.
#[derive(Clone, Default)]
pub(crate) struct World {
    answers: Arc<Mutex<HashMap<String, Answers>>>,
    came: Arc<Mutex<Vec<Came>>>,
}

pub(crate) type Answers = Vec<Response<Full<Bytes>>>;
pub(crate) type Came = (Request<()>, Bytes);

impl World {
    pub(crate) fn answer(&self, host: &str, status: u16, retry_after: Option<&str>) {
        let mut answer = Response::builder().status(status);
        if let Some(after) = retry_after {
            answer = answer.header("retry-after", after);
        }
        let answer = answer.body(Full::default()).unwrap();
        self.answers.lock().unwrap().entry(host.into()).or_default().push(answer);
    }

    pub(crate) fn client(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + use<>
    {
        let world = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let world = world.clone();
            async move {
                let host = request.uri().host().unwrap().to_owned();
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                world.came.lock().unwrap().push((Request::from_parts(head, ()), body));
                let mut answers = world.answers.lock().unwrap();
                let left = answers.get_mut(&host).filter(|answers| !answers.is_empty());
                Ok(left.map_or_else(Response::default, |answers| answers.remove(0)))
            }
        })
    }

    /// What came last.
    pub(crate) fn last(&self) -> Came {
        self.came.lock().unwrap().pop().unwrap()
    }

    pub(crate) fn came(&self) -> usize {
        self.came.lock().unwrap().len()
    }
}

pub(crate) fn to(destination: &str, name: &str) -> Job {
    Webhook::new(destination, "order.created", &json!({ "order": 17 })).unwrap().into_job().unwrap().id(id(name))
}

pub(crate) fn sender<S>(client: S, destinations: &[&str]) -> Sender<S> {
    let sender = Sender::new("webhooks", client);
    for destination in destinations {
        let url = format!("https://{destination}.example.com/in").parse().unwrap();
        sender.endpoints().set(*destination, Endpoint::new(url, secret(SECRET)).unwrap());
    }
    sender
}
