//! The queue on Redis beside the crate that it stands on: jobs a second that do nothing, and how long an outage lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bullmq::options::RedisConnectionOptions;
use buttress_benches::{print, print_least};
use buttress_queue::{Delivery, EngineConfig, JobId, Outcome, Queue, Redis, RedisConfig, Worker};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tower::service_fn;

use crate::bed::{Server, job, open};

const JOBS: usize = 20_000;
const IN_FLIGHT: usize = 32;
const ROUNDS: usize = 5;
/// How long Redis is away.
const DOWN: Duration = Duration::from_secs(3);

/// Speed in rounds that take turns, and this many outages.
pub async fn measure(json: bool, outages: usize) {
    let Some(server) = Server::start() else { return };
    let (mut bares, mut processed, mut ratios, mut pushes) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let bare = bare(&server.url(), round).await;
        let ours = ours(&server.url(), round).await;
        bares.push(bare.1);
        processed.push(ours.1);
        ratios.push(bare.1 / ours.1);
        pushes.push(bare.0 / ours.0);
    }
    drop(server);
    print(json, "redis.process", "bullmq-official", median(bares), "jobs/s", None);
    print_least(json, "redis.process", "buttress", median(processed), "jobs/s", Some(5_000.0));
    print(json, "redis.process.ratio", "bare over buttress", median(ratios), "times", Some(1.1));
    print(json, "redis.push.ratio", "bare over buttress", median(pushes), "times", None);
    let (push, back) = outage(outages).await;
    print(json, "redis.outage.push_decides_ms", "buttress", push.as_secs_f64() * 1e3, "ms", Some(250.0));
    print(json, "redis.outage.works_again_s", "buttress", back.as_secs_f64(), "s", Some(5.0));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is counted down while jobs are done.
#[derive(Clone)]
struct Left(Arc<(AtomicUsize, Notify)>);

impl Left {
    fn new(jobs: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(jobs), Notify::new())))
    }

    fn one(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_one();
        }
    }

    async fn none(&self) {
        self.0.1.notified().await;
    }
}

fn a_second(jobs: usize, since: Instant) -> f64 {
    jobs as f64 / since.elapsed().as_secs_f64()
}

/// Ours: jobs a second that are pushed by so many tasks, and that are done.
async fn ours(url: &str, round: usize) -> (f64, f64) {
    let queue = open("redis", url, &format!("ours-{round}"));
    let began = Instant::now();
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let queue = queue.clone();
        pushes.spawn(async move {
            for job in 0..JOBS / IN_FLIGHT {
                let id = format!("{:?}-{job}", tokio::task::id());
                queue.push(self::job(id)).await.expect("Redis is there");
            }
        });
    }
    pushes.join_all().await;
    let pushed = a_second(JOBS, began);
    let left = Left::new(JOBS);
    let counted = left.clone();
    let service = service_fn(move |_: Delivery| {
        counted.one();
        async { Ok::<_, tower::BoxError>(Outcome::Ack) }
    });
    let began = Instant::now();
    Worker::new(&queue, service).concurrency(IN_FLIGHT).run_until(left.none()).await;
    (pushed, a_second(JOBS, began))
}

/// The crate's own worker, and its own way to add.
async fn bare(url: &str, round: usize) -> (f64, f64) {
    let name = format!("bare-{round}");
    let connection = || RedisConnectionOptions::new().url(url);
    let queue = bullmq::Queue::with_options(&name, bullmq::QueueOptions::new().connection(connection())).await;
    let queue = Arc::new(queue.expect("Redis is there"));
    let began = Instant::now();
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let queue = queue.clone();
        pushes.spawn(async move {
            for job in 0..JOBS / IN_FLIGHT {
                // With a priority and an id, as ours have.
                let id = format!("{:?}-{job}", tokio::task::id());
                queue.add("bench", "x").priority(5).job_id(id).await.expect("Redis is there");
            }
        });
    }
    pushes.join_all().await;
    let pushed = a_second(JOBS, began);
    let left = Left::new(JOBS);
    let counted = left.clone();
    let began = Instant::now();
    let work = move |_: bullmq::Job, _| {
        counted.one();
        async { Ok(serde_json::Value::Null) }
    };
    let options = bullmq::WorkerOptions::new().connection(connection()).concurrency(IN_FLIGHT);
    let worker = bullmq::Worker::with_options(&name, work, options).await.expect("Redis is there");
    left.none().await;
    let processed = a_second(JOBS, began);
    let _ = worker.close(5_000).await;
    (pushed, processed)
}

/// Redis is killed and started again, so many times: how long at most a push takes meanwhile, and until a job is done
/// afterwards.
async fn outage(rounds: usize) -> (Duration, Duration) {
    let mut server = Server::start().expect("it has been started before");
    // As patient as it is by default: that is what decides a push.
    let engine = Redis::new(RedisConfig::new(server.url(), "outage"), EngineConfig::default()).expect("it is right");
    let queue = Queue::new("outage", engine);
    let (told, mut done) = mpsc::unbounded_channel::<JobId>();
    let service = service_fn(move |delivery: Delivery| {
        let _ = told.send(delivery.id);
        async { Ok::<_, tower::BoxError>(Outcome::Ack) }
    });
    let (mut longest, mut back) = (Duration::ZERO, Duration::ZERO);
    let rounds = async {
        for round in 0..rounds {
            until_done(&queue, &mut done, &format!("before-{round}")).await;
            server.kill();
            let (down, mut nth) = (Instant::now(), 0);
            while down.elapsed() < DOWN {
                nth += 1;
                let began = Instant::now();
                let _ = queue.push(job(format!("during-{round}-{nth}"))).await;
                longest = longest.max(began.elapsed());
                sleep(Duration::from_millis(20)).await;
            }
            server.start_again();
            let began = Instant::now();
            until_done(&queue, &mut done, &format!("after-{round}")).await;
            back = back.max(began.elapsed());
        }
    };
    Worker::new(&queue, service).concurrency(IN_FLIGHT).run_until(rounds).await;
    (longest, back)
}

/// Pushes a job until it is taken, and waits until it is done.
async fn until_done(queue: &Queue, done: &mut mpsc::UnboundedReceiver<JobId>, id: &str) {
    while queue.push(job(id)).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    while done.recv().await.expect("the worker runs").as_str() != id {}
}
