//! What a worker does with jobs, and what it does not.

mod support;

use std::future::pending;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, CircuitConfig};
use buttress::signal::Signal;
use buttress_queue::{
    CircuitLayer, DeadFilter, Delivery, EngineConfig, Job, JobState, Memory, Outcome, Pushed, Queue, Router, Worker,
};
use support::{Running, counting, found, id, job, queue, second};
use tokio::time::{Instant, sleep};
use tower::{BoxError, ServiceBuilder, service_fn};

/// Long enough, on the paused clock, for everything that can happen without a wait.
async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_is_done_once() {
    let queue = queue();
    assert_eq!(queue.push(job("one")).await.unwrap(), Pushed::New(id("one")));
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service));
    settled().await;
    let again = queue.push(job("one")).await.unwrap();
    assert_eq!(again, Pushed::Duplicate { id: id("one"), state: JobState::Done });
    settled().await;
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(running.stop().await.finished, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_leaves_the_job_to_others() {
    let queue = queue();
    let busy = ServiceBuilder::new().concurrency_limit(1).service(service_fn(async |_: Delivery| {
        pending::<()>().await;
        Ok::<_, BoxError>(Outcome::Ack)
    }));
    let running = Running::start(Worker::new(&queue, busy).concurrency(8));
    queue.push(job("first")).await.unwrap();
    queue.push(job("second")).await.unwrap();
    settled().await;
    assert_eq!(found(&queue, "first").await.state, JobState::Active);
    assert_eq!(found(&queue, "second").await.state, JobState::Waiting);
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_stops_the_claims() {
    let queue = queue();
    let circuit = Circuit::new("mail", CircuitConfig::default());
    circuit.force_open("it moves", None);
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let guarded = ServiceBuilder::new().layer(CircuitLayer::new(circuit.clone())).service(service);
    let running = Running::start(Worker::new(&queue, guarded));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((found(&queue, "one").await.state, calls.load(SeqCst)), (JobState::Waiting, 0));
    circuit.release("it has moved");
    // Closed again, it lets a growing share pass.
    sleep(Duration::from_secs(60)).await;
    assert_eq!((found(&queue, "one").await.state, calls.load(SeqCst)), (JobState::Done, 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_circuit_farther_in_defers_and_uses_no_attempt() {
    let queue = queue();
    let circuit = Circuit::new("mail", CircuitConfig::default());
    circuit.force_open("it moves", Some(Duration::from_secs(300)));
    let (service, calls) = counting(move |_, _| {
        let circuit = circuit.clone();
        async move {
            circuit.admit(Instant::now())?.report(CallResult::Ok, Instant::now());
            Ok(Outcome::Ack)
        }
    });
    let running = Running::start(Worker::new(&queue, service).max_attempts(2).backoff(second()));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(200)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.attempts), (JobState::Delayed, 0), "{} calls", calls.load(SeqCst));
    sleep(Duration::from_secs(400)).await;
    assert_eq!(found(&queue, "one").await.state, JobState::Done);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_too_often_is_buried_with_its_reason() {
    let queue = queue();
    let mut signals = queue.signals().subscribe();
    let (service, calls) = counting(async |_, _| Err::<Outcome, BoxError>("no such customer".into()));
    let running = Running::start(Worker::new(&queue, service).max_attempts(3).backoff(second()));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(calls.load(SeqCst), 3);
    let [letter] = &queue.dead_letters(&DeadFilter::default(), 9).await.unwrap()[..] else { panic!() };
    assert_eq!((letter.reason.as_str(), letter.attempts), ("given up after 3 attempts: no such customer", 3));
    let Some(Signal::JobDeadLettered { id, kind, .. }) = signals.next().await else { panic!() };
    assert_eq!((&*id, &*kind), ("one", "test"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_wait_for_the_backoff_or_for_what_the_outcome_says() {
    let queue = queue();
    let (service, calls) = counting(async |_, call| match call {
        1 => Ok(Outcome::retry("later")),
        2 => Ok(Outcome::retry_after(Duration::from_secs(60), "much later")),
        _ => Ok(Outcome::Ack),
    });
    let running = Running::start(Worker::new(&queue, service).backoff(second()));
    queue.push(job("one")).await.unwrap();
    for (after, expected) in [(500, 1), (1000, 2), (59_000, 2), (2000, 3)] {
        sleep(Duration::from_millis(after)).await;
        assert_eq!(calls.load(SeqCst), expected);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deferral_uses_no_attempt() {
    let queue = queue();
    let (service, calls) = counting(async |_, call| match call {
        1..=20 => Ok(Outcome::defer(Duration::from_secs(5), "429")),
        _ => Ok(Outcome::Ack),
    });
    let running = Running::start(Worker::new(&queue, service).max_attempts(2));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(101)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((calls.load(SeqCst), seen.state, seen.attempts, seen.crashes), (21, JobState::Done, 0, 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_panics_frees_its_place() {
    let queue = queue();
    let (service, calls) = counting(async |_, call| {
        assert!(call != 1, "boom");
        Ok(Outcome::Ack)
    });
    let running = Running::start(Worker::new(&queue, service).concurrency(1).backoff(second()));
    queue.push(job("one")).await.unwrap();
    queue.push(job("other")).await.unwrap();
    settled().await;
    assert_eq!(found(&queue, "other").await.state, JobState::Done, "the only place went on");
    sleep(Duration::from_secs(2)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.attempts, seen.crashes, calls.load(SeqCst)), (JobState::Done, 1, 0, 3));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_in_its_call_frees_its_place_as_well() {
    #[derive(Clone)]
    struct Panics;
    impl tower::Service<Delivery> for Panics {
        type Response = Outcome;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Outcome, BoxError>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, delivery: Delivery) -> Self::Future {
            assert!(delivery.attempt > 1, "boom");
            std::future::ready(Ok(Outcome::Ack))
        }
    }
    let queue = queue();
    let running = Running::start(Worker::new(&queue, Panics).concurrency(1).backoff(second()));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(found(&queue, "one").await.state, JobState::Done);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_hangs_is_given_up_within_the_timeout() {
    let queue = queue();
    let (service, _) = counting(async |_, call| {
        if call == 1 {
            pending::<()>().await;
        }
        Ok(Outcome::Ack)
    });
    let worker = Worker::new(&queue, service).concurrency(1).timeout(Duration::from_secs(10)).backoff(second());
    let running = Running::start(worker);
    queue.push(job("one")).await.unwrap();
    queue.push(job("other")).await.unwrap();
    sleep(Duration::from_millis(9900)).await;
    assert_eq!(found(&queue, "other").await.state, JobState::Waiting);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(found(&queue, "other").await.state, JobState::Done);
    assert_eq!(found(&queue, "one").await.attempts, 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_kills_its_process_is_buried() {
    let queue = queue();
    queue.push(job("one")).await.unwrap();
    for _ in 0..3 {
        let (service, _) = counting(async |_, _| pending().await);
        let running = Running::start(Worker::new(&queue, service).max_crashes(2));
        settled().await;
        assert_eq!(found(&queue, "one").await.state, JobState::Active);
        running.kill().await;
        sleep(Duration::from_secs(31)).await;
    }
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service).max_crashes(2));
    settled().await;
    assert_eq!(calls.load(SeqCst), 0);
    let [letter] = &queue.dead_letters(&DeadFilter::default(), 9).await.unwrap()[..] else { panic!() };
    assert_eq!((letter.crashes, letter.attempts), (3, 0));
    assert!(letter.reason.as_str().contains("never heard of again"), "{}", letter.reason);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_job_keeps_its_lease() {
    let queue = queue();
    let (service, calls) = counting(async |_, _| {
        sleep(Duration::from_secs(120)).await;
        Ok(Outcome::Ack)
    });
    let worker = Worker::new(&queue, service).timeout(Duration::from_secs(300)).lease(Duration::from_secs(9));
    let (one, other) = (Running::start(worker.clone()), Running::start(worker));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(121)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.crashes, calls.load(SeqCst)), (JobState::Done, 0, 1));
    one.stop().await;
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_finishes_before_the_worker_ends() {
    let queue = queue();
    let (service, _) = counting(async |_, _| {
        sleep(Duration::from_secs(5)).await;
        Ok(Outcome::Ack)
    });
    let running = Running::start(Worker::new(&queue, service).concurrency(2));
    for name in ["one", "two", "three", "four"] {
        queue.push(job(name)).await.unwrap();
    }
    settled().await;
    let drained = running.stop().await;
    assert_eq!((drained.finished, drained.released), (2, 0));
    for (name, state) in
        [("one", JobState::Done), ("two", JobState::Done), ("three", JobState::Waiting), ("four", JobState::Waiting)]
    {
        let seen = found(&queue, name).await;
        assert_eq!((seen.state, seen.attempts, seen.crashes), (state, 0, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_in_time_is_handed_back_untouched() {
    let queue = queue();
    let (service, _) = counting(async |_, _| pending().await);
    let running = Running::start(Worker::new(&queue, service).drain(Duration::from_secs(3)));
    queue.push(job("one")).await.unwrap();
    settled().await;
    assert_eq!(running.stop().await.released, 1);
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.attempts, seen.crashes), (JobState::Waiting, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn of_an_unknown_type_and_of_unreadable_data_dead_letters_are_made() {
    let queue = queue();
    let router = Router::new().on("known", async |number: Delivery<u32>| {
        assert_eq!(number.data, 7);
        Ok::<_, BoxError>(Outcome::Ack)
    });
    let running = Running::start(Worker::new(&queue, router));
    for (kind, data) in [("known", "7"), ("known", "\"seven\""), ("unknown", "7")] {
        queue.push(Job::raw(kind, serde_json::value::RawValue::from_string(data.into()).unwrap())).await.unwrap();
    }
    settled().await;
    let mut reasons: Vec<_> = queue
        .dead_letters(&DeadFilter::default(), 9)
        .await
        .unwrap()
        .into_iter()
        .map(|letter| letter.reason.to_string())
        .collect();
    reasons.sort();
    assert!(reasons[0].starts_with("its data cannot be read"), "{reasons:?}");
    assert_eq!(reasons[1..], ["no processor knows the type \"unknown\""]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_replayed_no_faster_than_asked() {
    let queue = queue();
    let (service, _) = counting(async |_, _| Ok(Outcome::bury("not yet")));
    let running = Running::start(Worker::new(&queue, service));
    for number in 0..100 {
        queue.push(Job::new(if number < 50 { "a" } else { "b" }, &number).unwrap()).await.unwrap();
    }
    settled().await;
    running.stop().await;
    assert_eq!(queue.contents().await.unwrap().dead, 100);
    let begun = Instant::now();
    assert_eq!(queue.replay(&DeadFilter::default().kind("a"), 20).await.unwrap(), 50);
    let took = begun.elapsed();
    assert!((2300..=2600).contains(&took.as_millis()), "{took:?}");
    assert_eq!(queue.discard(&DeadFilter::default().reason_contains("not yet")).await.unwrap(), 50);
    let contents = queue.contents().await.unwrap();
    assert_eq!((contents.dead, contents.depths[0].waiting), (0, 50));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_chosen_by_what_is_known_of_them() {
    let queue = queue();
    let (service, _) = counting(async |delivery: Delivery, _| Ok(Outcome::bury(format!("no {}", delivery.kind))));
    let running = Running::start(Worker::new(&queue, service));
    for (name, kind, key) in [("one", "a", "x"), ("two", "a", "y"), ("three", "b", "y"), ("four", "b", "x")] {
        queue.push(Job::new(kind, &1).unwrap().key(key).id(id(name))).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    running.stop().await;
    let all = DeadFilter::default;
    let names = async |filter: DeadFilter| {
        let letters = queue.inspect_dead_letters(&filter, 9).await.unwrap();
        letters.iter().map(|letter| letter.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    let third = queue.dead_letters(&all().ids([id("three")]), 1).await.unwrap()[0].buried;
    assert_eq!(names(all().kind("a")).await, "one two");
    assert_eq!(names(all().key("y")).await, "two three");
    assert_eq!(names(all().kind("b").key("y")).await, "three");
    assert_eq!(names(all().reason_contains("no b")).await, "three four");
    assert_eq!(names(all().buried_before(third)).await, "one two");
    assert_eq!(names(all().ids([id("four"), id("nobody")])).await, "four");
    assert_eq!(queue.replay(&all().ids([id("two"), id("nobody")]), 10).await.unwrap(), 1);
    assert_eq!(found(&queue, "two").await.state, JobState::Waiting);
    assert_eq!(queue.discard(&all().kind("b")).await.unwrap(), 2);
    assert_eq!(names(all()).await, "one");
}

#[tokio::test(start_paused = true)]
async fn a_push_waits_for_room_when_told_to() {
    use buttress_queue::{Bound, Bounds, OnFull};
    let bounds = Bounds::new(Bound { jobs: 1, bytes: u64::MAX }).on_full(OnFull::Wait);
    let queue = Queue::new("small", Memory::new(EngineConfig::default().bounds(bounds)));
    queue.push(job("one")).await.unwrap();
    let pushing = tokio::spawn({
        let queue = queue.clone();
        async move { queue.push(job("two")).await }
    });
    sleep(Duration::from_secs(5)).await;
    assert!(!pushing.is_finished());
    let (service, _) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service));
    assert_eq!(pushing.await.unwrap().unwrap(), Pushed::New(id("two")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_id_pushed_a_thousand_times_by_eight_is_done_once() {
    let queue = queue();
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service));
    let pushers = (0..8).map(|_| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut new = 0;
            for _ in 0..125 {
                new += usize::from(!queue.push(job("same")).await.unwrap().is_duplicate());
            }
            new
        })
    });
    let mut new = 0;
    for pusher in pushers.collect::<Vec<_>>() {
        new += pusher.await.unwrap();
    }
    settled().await;
    assert_eq!((new, calls.load(SeqCst)), (1, 1));
    running.stop().await;
}
