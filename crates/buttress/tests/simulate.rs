//! The simulator against what can be worked out by hand.
#![cfg(feature = "simulate")]

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::simulate::{Backend, Fault, Report, SimulatedBackend, Simulation, Workload};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Channel, Full};
use tokio::time::Instant;
use tower::{Service, service_fn};

type Call = Request<Full<Bytes>>;
type Answer = Response<Full<Bytes>>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn outage(fault: Fault) -> Simulation {
    let workload = Workload::poisson(1000.0, seconds(20)).seed(42);
    Simulation::new(workload, Backend::new(ms(5)).fault(fault.between(seconds(8), seconds(14))))
}

async fn send(mut backend: SimulatedBackend, request: Call) -> Result<Answer, Infallible> {
    poll_fn(|cx| Service::<Call>::poll_ready(&mut backend, cx)).await?;
    backend.call(request).await
}

/// Opens for so long at the tenth failure in a row, and is closed by any success.
#[derive(Clone)]
struct Naive {
    backend: SimulatedBackend,
    wait: Duration,
    state: Arc<Mutex<(u32, Option<Instant>)>>,
}

impl Naive {
    fn new(backend: SimulatedBackend, wait: Duration) -> Self {
        Self { backend, wait, state: Arc::default() }
    }
}

impl Service<Call> for Naive {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Call) -> Self::Future {
        let Self { backend, wait, state } = self.clone();
        Box::pin(async move {
            if state.lock().expect("nothing panics while it is held").1.is_some_and(|until| Instant::now() < until) {
                return Ok(refused(StatusCode::SERVICE_UNAVAILABLE));
            }
            let response = send(backend, request).await?;
            let (failures, open) = &mut *state.lock().expect("nothing panics while it is held");
            *failures = if response.status().is_success() { 0 } else { *failures + 1 };
            *open = (*failures >= 10).then(|| Instant::now() + wait);
            Ok(response)
        })
    }
}

#[test]
fn without_a_breaker_every_request_of_the_outage_reaches_the_sick_backend() {
    let report = outage(Fault::errors(ms(1))).run(|backend| backend);
    assert_eq!(report.sick.sent, report.sick.offered);
    assert!((5750..6250).contains(&report.sick.offered), "{}", report.sick.offered);
    assert!((19_500..20_500).contains(&report.total.offered), "{}", report.total.offered);
    assert_eq!((report.sick.ok, report.sick.failed), (0, report.sick.offered));
    assert_eq!((report.total.ok, report.total.unanswered()), (report.total.offered - report.sick.offered, 0));
    assert_eq!(report.sick.mean_wait(), Some(ms(1)));
    assert_eq!(report.between(seconds(0), seconds(8)).mean_wait(), Some(ms(5)));
    assert_eq!(report.stops(Duration::ZERO, Duration::MAX), 0);
}

#[test]
fn a_breaker_keeps_the_calls_away() {
    let simulation = outage(Fault::errors(ms(1)));
    let report = simulation.run(|backend| Naive::new(backend, seconds(1)));
    // Ten to trip, and five times the wait ends while it is sick; a few come before the first answer is there.
    assert!((15..30).contains(&report.sick.sent), "{:?}", report.sick);
    assert_eq!(report.stops(Duration::ZERO, Duration::MAX), 1);
    let recovery = report.recovery(seconds(14)).unwrap();
    assert!(recovery <= seconds(1), "{recovery:?}");
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_another() {
    let fault = Fault::share(0.5, ms(1)).between(seconds(1), seconds(3));
    let run = |seed| {
        let workload = Workload::poisson(500.0, seconds(4)).seed(seed);
        Simulation::new(workload, Backend::new(ms(20)).servers(9).fault(fault))
            .run(|backend| Naive::new(backend, ms(300)))
    };
    let first: Report = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}

#[test]
fn a_backend_serves_no_more_than_its_capacity() {
    let workload = Workload::poisson(2000.0, seconds(10)).seed(3);
    let backend = Backend::new(ms(20)).servers(20).queue(0);
    let report = Simulation::new(workload, backend).run(|backend| backend);
    assert_eq!(report.total.ok + report.total.failed, report.total.offered);
    // Erlang's loss formula: of 40 servers' worth of work 20 servers lose 52 %.
    assert!((9500..9800).contains(&report.total.ok), "{}", report.total.ok);
}

#[test]
fn abandoned_work_still_occupies_the_backend() {
    let workload = Workload::burst(Workload::poisson(0.0, Duration::ZERO), ms(1), 10).burst(ms(100), 1);
    let backend = Backend::new(ms(50)).servers(1);
    let simulation = Simulation::new(workload, backend);
    let report = simulation.run(|backend| {
        service_fn(move |request: Call| {
            let answer = send(backend.clone(), request);
            async {
                tokio::time::timeout(ms(75), answer).await.unwrap_or_else(|_| Ok(refused(StatusCode::GATEWAY_TIMEOUT)))
            }
        })
    });
    // The first alone is in time; the eleventh comes when eight are still before it, though nobody waits for them.
    assert_eq!((report.total.ok, report.total.failed), (1, 10));
    assert_eq!(report.total.sent, 11);
}

fn refused(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

#[test]
fn who_hangs_is_cut_off_and_counted_as_unanswered() {
    let workload = Workload::replay([ms(0), ms(10), ms(20)]);
    let backend = Backend::new(ms(1)).fault(Fault::hang().between(ms(5), ms(15)));
    let report = Simulation::new(workload, backend).grace(seconds(1)).run(|backend| backend);
    assert_eq!((report.total.ok, report.total.failed, report.total.unanswered()), (2, 0, 1));
    assert_eq!((report.sick.offered, report.sick.sent, report.sick.unanswered()), (1, 1, 1));
}

#[test]
fn retries_are_calls_more() {
    let twice = |backend: SimulatedBackend| {
        service_fn(move |request: Call| {
            let backend = backend.clone();
            async move {
                let answer = send(backend.clone(), request.clone()).await?;
                if answer.status().is_success() { Ok(answer) } else { send(backend, request).await }
            }
        })
    };
    let report = outage(Fault::errors(ms(1))).run(twice);
    assert!(report.sick.sent.abs_diff(2 * report.sick.offered) <= 5, "{:?}", report.sick);
    assert!((report.sick.load() - 2.0).abs() < 0.01);
}

#[test]
fn the_answer_is_judged_by_its_status_and_at_the_end_of_its_body() {
    let workload = Workload::replay([ms(0), ms(10), ms(20), ms(30)]);
    let simulation = Simulation::new(workload, Backend::new(ms(1)))
        .requests(|number| Request::builder().uri(format!("/{number}")).body(Full::default()).unwrap());
    let report = simulation.run(|_backend| {
        service_fn(async |request: Call| {
            let (sender, body) = Channel::<Bytes, &str>::new(1);
            let status = match request.uri().path() {
                "/0" => 404,
                "/1" => 429,
                "/2" => 500,
                _ => 200,
            };
            match status {
                200 => sender.abort("connection reset"),
                _ => drop(sender),
            }
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        })
    });
    assert_eq!((report.total.ok, report.total.failed, report.total.sent), (1, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn runs_on_a_paused_clock_of_the_callers_runtime() {
    let simulation = outage(Fault::hang());
    let here = simulation.run_async(|backend| Naive::new(backend, seconds(1))).await;
    let there = tokio::task::spawn_blocking(move || simulation.run(|backend| Naive::new(backend, seconds(1))));
    assert_eq!(here, there.await.unwrap());
}

#[test]
#[should_panic = "of the subject"]
fn a_panic_of_the_subject_comes_through() {
    let subject = |_| service_fn(async |_: Call| -> Result<Answer, Infallible> { panic!("of the subject") });
    Simulation::new(Workload::replay([ms(0)]), Backend::new(ms(1))).run(subject);
}
