//! What a client does to a server in trouble, in virtual time.
#![cfg(feature = "retry")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::retry::{AttemptError, AttemptTimeoutLayer, ReplayBody, Retry, RetryLayer, RetryPolicy, Tier, TierLayer};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

type Asked = Request<ReplayBody<Full<Bytes>>>;

/// Twenty workers, one queue, and work goes on whether or not somebody still waits for it.
#[derive(Clone)]
struct Backend(Rc<RefCell<Queue>>);

struct Queue {
    start: Instant,
    free: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
    attempts: usize,
}

impl Backend {
    fn new() -> Self {
        let queue = Queue { start: Instant::now(), free: 20, waiting: VecDeque::new(), attempts: 0 };
        Self(Rc::new(RefCell::new(queue)))
    }

    fn begin(&self, done: oneshot::Sender<()>) {
        let queue = Rc::clone(&self.0);
        let since = queue.borrow().start.elapsed().as_secs_f64();
        // A second of brown-out.
        let takes = if (4.0..5.0).contains(&since) { 200 } else { 20 };
        let backend = self.clone();
        tokio::task::spawn_local(async move {
            // Paused: each test of this file starts so.
            tokio::time::sleep(Duration::from_millis(takes)).await;
            let _ = done.send(());
            let next = queue.borrow_mut().waiting.pop_front();
            match next {
                Some(next) => backend.begin(next),
                None => queue.borrow_mut().free += 1,
            }
        });
    }
}

impl Service<Asked> for Backend {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Asked) -> Self::Future {
        let (done, answer) = oneshot::channel();
        let mut queue = self.0.borrow_mut();
        queue.attempts += 1;
        if queue.free > 0 {
            queue.free -= 1;
            drop(queue);
            self.begin(done);
        } else {
            queue.waiting.push_back(done);
        }
        Box::pin(async move {
            let _ = answer.await;
            Ok(Response::default())
        })
    }
}

struct Run {
    attempts: usize,
    /// Successes and requests by the quarter of a second in which the request came.
    quarters: HashMap<u64, (usize, usize)>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (early, late) = (self.success(5, 10), self.success(15, 20));
        write!(f, "{} requests, {} attempts, success ", self.requests(), self.attempts)?;
        write!(f, "{early:.3} in 5-10 s and {late:.3} in 15-20 s, recovery {} s", self.recovery())
    }
}

impl Run {
    fn requests(&self) -> usize {
        self.quarters.values().map(|(_, all)| all).sum()
    }

    fn success(&self, from: u64, to: u64) -> f64 {
        let within = self.quarters.iter().filter(|(quarter, _)| (4 * from..4 * to).contains(*quarter));
        let (ok, all) = within.fold((0, 0), |(ok, all), (_, one)| (ok + one.0, all + one.1));
        ok as f64 / all as f64
    }

    /// From the end of the brown-out until 95 % succeed and go on to.
    fn recovery(&self) -> f64 {
        let bad = |quarter: &u64| self.quarters.get(quarter).is_some_and(|(ok, all)| (*ok as f64) < 0.95 * *all as f64);
        let last = (20..80).filter(bad).max().map_or(20, |quarter| quarter + 1);
        (last as f64 - 20.0) / 4.0
    }
}

/// 700 requests a second for 20 s, on a server that can do 1,000.
async fn brown_out<S>(client: impl FnOnce(Backend) -> S, seed: u64) -> Run
where
    S: Service<Request<Full<Bytes>>, Future: 'static> + Clone + 'static,
{
    buttress::random::seed(seed);
    let mut random = SmallRng::seed_from_u64(seed);
    let backend = Backend::new();
    let service = client(backend.clone());
    let quarters = Rc::new(RefCell::new(HashMap::<u64, (usize, usize)>::new()));
    let start = backend.0.borrow().start;
    let mut at = 0.0;
    let mut calls = Vec::new();
    loop {
        at += -(1.0 - random.random::<f64>()).ln() / 700.0;
        if at >= 20.0 {
            break;
        }
        tokio::time::sleep_until(start + Duration::from_secs_f64(at)).await;
        let (service, quarters) = (service.clone(), Rc::clone(&quarters));
        calls.push(tokio::task::spawn_local(async move {
            let answer = service.oneshot(Request::new(Full::default())).await;
            let mut quarters = quarters.borrow_mut();
            let quarter = quarters.entry((4.0 * at) as u64).or_default();
            quarter.0 += usize::from(answer.is_ok());
            quarter.1 += 1;
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    Run { attempts: backend.0.borrow().attempts, quarters: quarters.take() }
}

const PATIENCE: Duration = Duration::from_millis(200);

#[tokio::test(start_paused = true, flavor = "current_thread")]
async fn a_second_of_brown_out_is_over_soon_after_its_end() {
    let client = |backend| RetryLayer::new().attempt_timeout(PATIENCE).layer(backend);
    let runs = async {
        for seed in [42, 1, 7] {
            let run = brown_out(client, seed).await;
            println!("buttress, seed {seed}: {run}");
            assert_eq!(run.success(15, 20), 1.0);
            assert!(run.attempts <= run.requests() + 200 && run.recovery() <= 2.5);
        }
    };
    tokio::task::LocalSet::new().run_until(runs).await;
}

/// Three attempts, whatever happens.
#[derive(Clone)]
struct Stubborn(u32);

impl<E> tower::retry::Policy<Request<Full<Bytes>>, Response<Full<Bytes>>, E> for Stubborn {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        result: &mut Result<Response<Full<Bytes>>, E>,
    ) -> Option<Self::Future> {
        self.0 -= 1;
        (result.is_err() && self.0 > 0).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

/// Below tower's retry: attempts that time out, with bodies as the backend takes them.
fn timed(
    backend: Backend,
) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = AttemptError, Future: 'static>
+ Clone
+ 'static {
    let passing = |request: Request<_>| request.map(ReplayBody::passing);
    AttemptTimeoutLayer::new(PATIENCE).layer(backend.map_request(passing))
}

/// The server of the test above is one that a storm keeps down.
#[tokio::test(start_paused = true, flavor = "current_thread")]
async fn without_a_budget_the_storm_does_not_end_with_its_cause() {
    let client = |backend| tower::retry::Retry::new(Stubborn(3), timed(backend));
    let run = tokio::task::LocalSet::new().run_until(brown_out(client, 42)).await;
    println!("tower without a budget: {run}");
    assert!(run.success(15, 20) < 0.01 && run.attempts > 30_000);
}

#[tokio::test(start_paused = true, flavor = "current_thread")]
async fn towers_own_retry_with_this_policy_is_no_storm_either() {
    let client = |backend| tower::retry::Retry::new(RetryPolicy::new(), timed(backend));
    let run = tokio::task::LocalSet::new().run_until(brown_out(client, 42)).await;
    println!("tower with this policy: {run}");
    assert_eq!(run.success(15, 20), 1.0);
    assert!(run.attempts <= run.requests() + 200 && run.attempts > run.requests() + 20);
}

/// The last of all tiers, which is down.
#[derive(Clone, Default)]
struct Leaf(Rc<RefCell<usize>>);

impl Service<Asked> for Leaf {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Asked) -> Self::Future {
        *self.0.borrow_mut() += 1;
        let mut response = Response::default();
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        ready(Ok(response))
    }
}

/// A server whose handler asks the next tier, and answers 503 of its own making if that fails.
#[derive(Clone)]
struct Handler<S>(Retry<S>);

impl<S, E> Service<Asked> for Handler<S>
where
    S: Service<Asked, Response = Response<Full<Bytes>>, Error = E> + Clone + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Asked) -> Self::Future {
        let next = self.0.clone();
        Box::pin(async move {
            let answer = next.oneshot(Request::new(Full::default())).await;
            let mut response = Response::default();
            if answer.is_err() || answer.is_ok_and(|answer| !answer.status().is_success()) {
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok(response)
        })
    }
}

fn tier<S: Clone>(next: S) -> Tier<Handler<S>> {
    TierLayer::new().layer(Handler(RetryLayer::new().layer(next)))
}

#[tokio::test(start_paused = true)]
async fn three_tiers_of_three_attempts_do_not_become_twenty_seven() {
    // One request to tiers that know nothing yet: every budget has its reserve.
    let leaf = Leaf::default();
    let user = RetryLayer::new().layer(tier(tier(leaf.clone())));
    user.oneshot(Request::new(Full::default())).await.unwrap();
    assert_eq!(*leaf.0.borrow(), 3);

    // A thousand, ten a second.
    let leaf = Leaf::default();
    let user = RetryLayer::new().layer(tier(tier(leaf.clone())));
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        user.clone().oneshot(Request::new(Full::default())).await.unwrap();
    }
    let attempts = *leaf.0.borrow() as f64 / 1000.0;
    println!("{attempts} attempts at the leaf for each request");
    assert!(attempts <= 1.2, "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn without_marks_three_tiers_would_be_twenty_seven() {
    let leaf = Leaf::default();
    let retry = || RetryLayer::new().backoff(Backoff::constant(Duration::from_secs(60)));
    let user = retry().layer(Handler(retry().layer(Handler(retry().layer(leaf.clone())))));
    user.oneshot(Request::new(Full::default())).await.unwrap();
    assert_eq!(*leaf.0.borrow(), 27);
}
