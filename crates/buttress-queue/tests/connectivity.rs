//! When something counts as reachable, and what a worker does while it is not.

mod support;

use std::future::{pending, ready};
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use buttress::signal::Signal;
use buttress_queue::{Connectivity, JobState, Outcome, Worker};
use support::{Running, counting, found, job, queue, second};
use tokio::time::sleep;

fn unreachable() -> tower::BoxError {
    Error::from(ErrorKind::ConnectionRefused).into()
}

#[test]
fn one_unlucky_call_changes_nothing_and_three_in_a_row_do() {
    let backend = Connectivity::new("backend", || ready(true));
    let seen = backend.watch();
    for _ in 0..9 {
        backend.unreachable();
        backend.unreachable();
        backend.reached();
    }
    assert!(backend.is_online() && !seen.has_changed().unwrap());
    (0..3).for_each(|_| backend.unreachable());
    assert!(!backend.is_online() && seen.has_changed().unwrap() && !*seen.borrow());
}

#[test]
fn one_lucky_call_changes_nothing_and_two_in_a_row_do() {
    let backend = Connectivity::new("backend", || ready(true));
    (0..3).for_each(|_| backend.unreachable());
    for _ in 0..9 {
        backend.reached();
        backend.unreachable();
    }
    assert!(!backend.is_online());
    (0..2).for_each(|_| backend.reached());
    assert!(backend.is_online());
}

#[test]
fn only_errors_that_reached_nobody_count_unless_something_else_is_said() {
    let backend = Connectivity::new("backend", || ready(true));
    assert!(backend.is_unreachable(&*unreachable()));
    assert!(backend.is_unreachable(&Error::other(Error::from(ErrorKind::TimedOut))), "a source of it");
    assert!(!backend.is_unreachable(&Error::from(ErrorKind::InvalidData)));
    let backend = backend.unreachable_when(|error| error.to_string().contains("offline"));
    assert!(backend.is_unreachable(&Error::other("offline")) && !backend.is_unreachable(&*unreachable()));
}

#[tokio::test(start_paused = true)]
async fn offline_nothing_is_claimed_and_no_attempt_is_used() {
    let queue = queue();
    let up = Arc::new(AtomicBool::new(false));
    let (probed, asked) = (up.clone(), up.clone());
    let connectivity = Connectivity::new("backend", move || ready(probed.load(SeqCst)));
    let connectivity = connectivity.signals(queue.signals());
    let mut signals = queue.signals().subscribe();
    let (service, calls) =
        counting(move |_, _| ready(if asked.load(SeqCst) { Ok(Outcome::Ack) } else { Err(unreachable()) }));
    let worker = Worker::new(&queue, service).concurrency(10).max_attempts(2).backoff(second());
    let running = Running::start(worker.connectivity(connectivity.clone()));
    for number in 0..50 {
        queue.push(job(&format!("job-{number}"))).await.unwrap();
    }
    sleep(Duration::from_secs(60)).await;
    assert!(!connectivity.is_online());
    let while_offline = calls.load(SeqCst);
    assert!(while_offline <= 20, "{while_offline} calls");
    up.store(true, SeqCst);
    // Two probes, two seconds apart.
    sleep(Duration::from_millis(4100)).await;
    assert!(connectivity.is_online());
    let told = [signals.next().await, signals.next().await].map(|signal| match signal {
        Some(Signal::Connectivity { online, .. }) => online,
        other => panic!("{other:?}"),
    });
    assert_eq!(told, [false, true]);
    sleep(Duration::from_secs(20)).await;
    for number in 0..50 {
        let seen = found(&queue, &format!("job-{number}")).await;
        assert_eq!((seen.state, seen.attempts), (JobState::Done, 0));
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn back_online_it_begins_with_little() {
    let queue = queue();
    let connectivity = Connectivity::new("backend", || ready(true)).ramp(Duration::from_secs(10));
    (0..3).for_each(|_| connectivity.unreachable());
    (0..2).for_each(|_| connectivity.reached());
    let (service, calls) = counting(async |_, _| pending().await);
    let running = Running::start(Worker::new(&queue, service).concurrency(11).connectivity(connectivity));
    for number in 0..20 {
        queue.push(job(&format!("job-{number}"))).await.unwrap();
    }
    for (after, expected) in [(500, 1), (1000, 2), (4000, 6), (6000, 11)] {
        sleep(Duration::from_millis(after)).await;
        assert_eq!(calls.load(SeqCst), expected);
    }
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_or_hangs_has_reached_nobody_and_is_asked_again() {
    let queue = queue();
    let probes = Arc::new(AtomicUsize::new(0));
    let probed = probes.clone();
    let connectivity = Connectivity::new("backend", move || {
        let nth = probed.fetch_add(1, SeqCst);
        assert!(nth != 0, "before there is a future");
        async move {
            assert!(nth != 1, "in it");
            if nth == 2 {
                pending::<()>().await;
            }
            true
        }
    });
    (0..3).for_each(|_| connectivity.unreachable());
    let (service, _) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service).connectivity(connectivity.clone()));
    // Three in vain, one of which takes all of its time, and two that reach somebody.
    sleep(Duration::from_secs(13)).await;
    assert!(connectivity.is_online(), "{} probes", probes.load(SeqCst));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_workers_ask_one_probe() {
    let queue = queue();
    let probes = Arc::new(AtomicUsize::new(0));
    let probed = probes.clone();
    let connectivity = Connectivity::new("backend", move || {
        probed.fetch_add(1, SeqCst);
        ready(false)
    });
    (0..3).for_each(|_| connectivity.unreachable());
    let start = || {
        let (service, _) = counting(async |_, _| Ok(Outcome::Ack));
        Running::start(Worker::new(&queue, service).connectivity(connectivity.clone()))
    };
    let (first, second) = (start(), start());
    sleep(Duration::from_millis(10_100)).await;
    assert_eq!(probes.load(SeqCst), 5);
    first.stop().await;
    sleep(Duration::from_secs(10)).await;
    assert!(probes.load(SeqCst) >= 9, "the other one goes on with it: {}", probes.load(SeqCst));
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_put_off_or_could_not_be_read_says_nothing_of_who_can_be_reached() {
    let queue = queue();
    let connectivity = Connectivity::new("backend", || ready(false));
    let (service, _) = counting(|_, call| {
        ready(match call {
            1 | 3 | 5 => Err(unreachable()),
            2 => Ok(Outcome::defer(Duration::from_secs(3600), "its circuit is open")),
            _ => Ok(Outcome::bury("nobody knows this type")),
        })
    });
    let worker =
        Worker::new(&queue, service).concurrency(1).backoff(buttress::backoff::Backoff::constant(Duration::MAX));
    let running = Running::start(worker.connectivity(connectivity.clone()));
    for number in 0..5 {
        queue.push(job(&format!("job-{number}"))).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert!(!connectivity.is_online());
    running.stop().await;
}
