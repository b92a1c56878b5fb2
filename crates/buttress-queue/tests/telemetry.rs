//! What a queue shows: spans, metrics, health.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::context::{self, Baggage, Context};
use buttress::metrics::export::Exposition;
use buttress::trace::{SpanKind, SpanRecord};
use buttress::{Telemetry, settings::Settings};
use buttress_queue::engine::Engine;
use buttress_queue::{
    Delivery, EngineConfig, HealthLimits, HealthStatus, Job, Memory, Outcome, Priority, Queue, Worker,
};
use serde_json::json;
use support::{Running, counting, id, job, queue};
use tokio::time::sleep;
use tower::{BoxError, service_fn};

const HOUR: Duration = Duration::from_secs(3600);

fn telemetry() -> Telemetry {
    Telemetry::new(Settings::read("test", |_| None).unwrap())
}

/// The oldest first.
fn spans(telemetry: &Telemetry) -> Vec<Arc<SpanRecord>> {
    telemetry.latest_spans(16).into_iter().rev().collect()
}

fn page(telemetry: &Telemetry) -> String {
    Exposition::new(&telemetry.metrics().snapshot()).text()
}

/// What the line of this name says that has these labels.
fn value(page: &str, name: &str, labels: &[impl AsRef<str> + std::fmt::Debug]) -> f64 {
    let is_meant = |line: &str| line.starts_with(name) && labels.iter().all(|label| line.contains(label.as_ref()));
    let line = page.lines().find(|line| is_meant(line)).unwrap_or_else(|| panic!("no {name} {labels:?} in {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn attribute(span: &SpanRecord, key: &str) -> String {
    span.attribute(key).unwrap_or_else(|| panic!("no {key} in {span:?}")).to_string()
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_a_trace_of_its_own_linked_to_who_pushed_it() {
    let telemetry = telemetry();
    let queue = queue().telemetry(&telemetry);
    let request = telemetry.operation("request");
    request.run(async { queue.push(job("one")).await.map(drop) }).await.unwrap();
    let (service, _) = counting(async |_, call| Ok(if call == 1 { Outcome::retry("no") } else { Outcome::Ack }));
    let running = Running::start(Worker::new(&queue, service).backoff(support::second()));
    sleep(Duration::from_secs(3)).await;
    running.stop().await;

    let spans = spans(&telemetry);
    let request = spans.iter().find(|span| span.name == "request").unwrap();
    let send = spans.iter().find(|span| span.name == "send work").unwrap();
    assert_eq!(
        (send.trace_id, send.parent_span_id, send.kind),
        (request.trace_id, Some(request.span_id), SpanKind::Producer)
    );
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "process work").collect();
    let [first, second] = attempts[..] else { panic!("{attempts:?}") };
    assert!(first.trace_id != second.trace_id && first.trace_id != request.trace_id);
    for (attempt, number) in [(first, "1"), (second, "2")] {
        assert_eq!((attempt.kind, attempt.links[0].trace.span_id), (SpanKind::Consumer, send.span_id));
        assert_eq!(attribute(attempt, "buttress.job.attempt"), number);
        assert_eq!(attribute(attempt, "messaging.message.id"), "one");
        assert_eq!(attribute(attempt, "messaging.destination.name"), "work");
        assert_eq!(attribute(attempt, "messaging.system"), "memory");
    }
    assert_eq!(first.error_type.as_ref().unwrap().as_str(), "retry");
    assert!(second.error_type.is_none());
}

#[tokio::test(start_paused = true)]
async fn attempts_are_children_of_who_pushed_when_asked() {
    let telemetry = telemetry();
    let queue = queue().telemetry(&telemetry);
    queue.push(job("one")).await.unwrap();
    let (service, _) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service).in_trace_of_producer());
    sleep(Duration::from_millis(1)).await;
    running.stop().await;
    let spans = spans(&telemetry);
    let [send, process] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((process.trace_id, process.parent_span_id), (send.trace_id, Some(send.span_id)));
    assert!(process.parent_is_remote);
}

#[tokio::test(start_paused = true)]
async fn only_the_baggage_that_may_be_kept_comes_along() {
    for telemetry in [None, Some(telemetry())] {
        let queue = queue().keep_baggage(["flow"]);
        let queue = if let Some(telemetry) = &telemetry { queue.telemetry(telemetry) } else { queue };
        let mut baggage = Baggage::default();
        baggage.insert("flow", "17").unwrap();
        baggage.insert("user", "ada").unwrap();
        Context::root().with_baggage(baggage).scope(queue.push(job("one"))).await.unwrap();
        let (told, mut hears) = tokio::sync::mpsc::channel(1);
        let service = service_fn(move |delivery: Delivery| {
            let told = told.clone();
            async move {
                let here = context::current().unwrap().baggage().as_str().to_owned();
                told.send((here, delivery.producer.unwrap().baggage().as_str().to_owned())).await?;
                Ok::<_, BoxError>(Outcome::Ack)
            }
        });
        let running = Running::start(Worker::new(&queue, service));
        assert_eq!(hears.recv().await.unwrap(), ("flow=17".into(), "flow=17".into()));
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pushes_outcomes_and_depths_are_among_the_metrics() {
    let telemetry = telemetry();
    let queue = queue().telemetry(&telemetry);
    queue.push(job("one")).await.unwrap();
    queue.push(job("one")).await.unwrap();
    queue.push(Job::new("later", &json!(1)).unwrap().delay(Duration::from_secs(1000))).await.unwrap();
    let (service, _) = counting(async |_, _| Ok(Outcome::bury("never")));
    let running = Running::start(Worker::new(&queue, service));
    sleep(Duration::from_secs(6)).await;
    running.stop().await;

    let page = page(&telemetry);
    let value = |name, labels: &[&str]| value(&page, name, labels);
    let sent = "messaging_client_sent_messages_total";
    assert_eq!(value(sent, &["queue_result=\"new\"", "job_type=\"test\""]), 1.0);
    assert_eq!(value(sent, &["queue_result=\"duplicate\""]), 1.0);
    assert_eq!(value("messaging_client_consumed_messages_total", &["job_type=\"test\""]), 1.0);
    assert_eq!(value("buttress_queue_outcomes_total", &["job_outcome=\"bury\""]), 1.0);
    assert_eq!(value("messaging_process_duration_seconds_count", &["job_outcome=\"bury\""]), 1.0);
    assert_eq!(value("buttress_queue_depth", &["job_type=\"later\"", "job_state=\"delayed\""]), 1.0);
    assert_eq!(value("buttress_queue_dead_letters", &[]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_is_counted_by_type_and_priority() {
    let telemetry = telemetry();
    let memory = Memory::new(EngineConfig::default());
    let queue = Queue::new("work", memory.clone()).telemetry(&telemetry);
    let (service, _) = counting(async |delivery: Delivery, _| match &*delivery.kind {
        "fails" => Err("no".into()),
        "panics" => panic!("boom"),
        "hangs" => std::future::pending().await,
        _ => {
            sleep(Duration::from_secs(40)).await;
            Ok(Outcome::Ack)
        }
    });
    let push = async |kind: &str| {
        queue.push(Job::new(kind, &1).unwrap().priority(Priority::High).id(id(kind))).await.unwrap();
    };
    for kind in ["fails", "panics", "hangs"] {
        push(kind).await;
    }
    let worker = Worker::new(&queue, service).timeout(Duration::from_secs(50)).backoff(Backoff::constant(HOUR));
    let running = Running::start(worker);
    sleep(Duration::from_secs(51)).await;
    push("loses").await;
    sleep(Duration::from_secs(1)).await;
    // Somebody else is given what its worker still has, as after a pause of the whole machine.
    assert_eq!(memory.claim(9, HOUR, u64::MAX / 2).await.unwrap().len(), 4);
    sleep(Duration::from_secs(60)).await;
    running.stop().await;

    let page = page(&telemetry);
    let high = "job_priority=\"high\"";
    let count = |kind: &str, outcome: &str| {
        let labels = [format!("job_type=\"{kind}\""), format!("job_outcome=\"{outcome}\""), high.to_owned()];
        value(&page, "buttress_queue_outcomes_total", &labels)
    };
    assert_eq!((count("fails", "retry"), count("panics", "panic"), count("hangs", "timeout")), (1.0, 1.0, 1.0));
    assert_eq!(value(&page, "buttress_queue_leases_lost_total", &["job_type=\"loses\""]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_page_tells_depth_age_rates_and_errors_by_type_and_priority() {
    let queue = queue();
    let (service, _) = counting(async |delivery: Delivery, _| {
        sleep(Duration::from_millis(100)).await;
        if &*delivery.kind == "bad" { Err("no".into()) } else { Ok(Outcome::Ack) }
    });
    let running = Running::start(Worker::new(&queue, service).backoff(Backoff::constant(HOUR)));
    for second in 0..60 {
        queue.push(Job::new("good", &second).unwrap().priority(Priority::High)).await.unwrap();
        if second % 2 == 0 {
            queue.push(Job::new("bad", &second).unwrap()).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
    }
    running.stop().await;
    queue.push(Job::new("good", &0).unwrap().priority(Priority::High)).await.unwrap();
    sleep(Duration::from_secs(3)).await;

    let stats = queue.stats().await.unwrap();
    let [bad, good] = &stats.types[..] else { panic!("{stats:?}") };
    assert_eq!((&*bad.kind, bad.priority, bad.delayed, bad.waiting), ("bad", Priority::Normal, 30, 0));
    assert_eq!((&*good.kind, good.priority, good.delayed, good.waiting), ("good", Priority::High, 0, 1));
    assert_eq!((good.oldest_age, bad.oldest_age), (3.0, 0.0));
    let about = |rate: f64, expected: f64| (rate - expected).abs() < 0.1 * expected;
    assert!(about(good.pushed_per_second, 1.0) && about(bad.pushed_per_second, 0.5), "{stats:?}");
    assert!(about(good.processed_per_second, 1.0) && good.errors_per_second == 0.0, "{stats:?}");
    assert!(about(bad.processed_per_second, 0.5) && about(bad.errors_per_second, 0.5), "{stats:?}");
    assert!(good.p99.is_some_and(|p99| about(p99, 0.1)), "{stats:?}");
    // Of what nobody looks at any more, the next look tells what came since the last one.
    queue.stats().await.unwrap();
    sleep(Duration::from_secs(130)).await;
    queue.stats().await.unwrap();
    sleep(Duration::from_secs(130)).await;
    let later = queue.stats().await.unwrap();
    assert!(later.types.iter().all(|stats| stats.pushed_per_second == 0.0), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_health_page_warns_of_old_jobs_and_of_dead_letters() {
    let queue = queue();
    let healthy = queue.health(HealthLimits::default()).await;
    assert_eq!((healthy.status, healthy.problems.len()), (HealthStatus::Pass, 0));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(301)).await;
    let old = queue.health(HealthLimits::default()).await;
    assert_eq!((old.status, old.jobs), (HealthStatus::Warn, 1));
    assert_eq!(serde_json::to_value(&old).unwrap()["problems"], json!(["the oldest job has waited for 301s"]));
    let (service, _) = counting(async |_, _| Ok(Outcome::bury("never")));
    let running = Running::start(Worker::new(&queue, service));
    sleep(Duration::from_millis(1)).await;
    running.stop().await;
    let dead = queue.health(HealthLimits::default()).await;
    assert_eq!((dead.status, dead.problems), (HealthStatus::Warn, vec!["there are 1 dead letters".to_owned()]));
}

#[test]
fn a_queue_shows_its_name() {
    let shown = format!("{:?}", Queue::new("work", buttress_queue::Memory::new(Default::default())));
    assert!(shown.contains("\"work\"") && shown.contains("Memory"), "{shown}");
}
