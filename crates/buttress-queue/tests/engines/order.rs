use std::collections::HashSet;
use std::time::Duration;

use buttress_queue::{EngineConfig, Priority};

use crate::subject::{SECOND, Subject, T, ids, job};

pub(crate) async fn jobs_of_a_priority_come_in_the_order_of_their_pushes(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("z").due(T), job("y").due(T)], T).await;
    subject.push(vec![job("x").due(T)], T).await;
    subject.push(vec![job("a").due(T + 1)], T + 1).await;
    assert_eq!(subject.claim_ids(T + 1).await, ["z", "y", "x", "a"]);
}

pub(crate) async fn the_more_urgent_come_first(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    for (at, priority) in Priority::ALL.into_iter().rev().cycle().take(40).enumerate() {
        subject.push(vec![job(&format!("{priority}-{at:02}")).priority(priority).due(T)], T).await;
    }
    let mut claimed = Vec::new();
    for _ in 0..8 {
        claimed.extend(subject.claim(5, T).await);
    }
    let places: Vec<_> =
        claimed.iter().map(|claimed| (claimed.envelope.priority, claimed.envelope.id.clone())).collect();
    assert_eq!(places.len(), 40);
    assert!(places.is_sorted(), "{places:?}");
}

pub(crate) async fn what_has_waited_for_long_comes_before_what_is_more_urgent(
    make: impl AsyncFn(EngineConfig) -> Subject,
) {
    let subject = make(EngineConfig::default().ageing(Duration::from_secs(60))).await;
    let now = T + 60 * SECOND;
    subject.push(vec![job("old").priority(Priority::Low).due(T)], T).await;
    subject.push(vec![job("younger").priority(Priority::Low).due(T + 1)], T + 1).await;
    subject.push(vec![job("fresh").due(now)], now).await;
    assert_eq!(subject.claim_ids(now).await, ["old", "fresh", "younger"]);
}

pub(crate) async fn nothing_comes_before_the_critical_by_waiting(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default().ageing(Duration::from_millis(1))).await;
    let now = T + 3_600 * SECOND;
    subject.push(vec![job("old").priority(Priority::Low).due(T)], T).await;
    subject.push(vec![job("fresh").priority(Priority::Critical).due(now)], now).await;
    assert_eq!(subject.claim_ids(now).await, ["fresh", "old"]);
}

pub(crate) async fn a_delayed_job_comes_when_its_time_has_come(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    let later = job("later").priority(Priority::Critical).due(T + 5 * SECOND);
    subject.push(vec![later, job("soon").due(T + SECOND), job("now").due(T)], T).await;
    assert_eq!(subject.claim_ids(T).await, ["now"]);
    assert!(subject.claim_ids(T + SECOND - 1).await.is_empty());
    assert_eq!(subject.claim_ids(T + SECOND).await, ["soon"]);
    assert_eq!(subject.claim_ids(T + 5 * SECOND).await, ["later"]);
}

pub(crate) async fn no_more_come_than_were_asked_for(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push((0..5).map(|at| job(&format!("{at}")).due(T)).collect(), T).await;
    assert_eq!(ids(&subject.claim(2, T).await), ["0", "1"]);
    assert!(subject.claim(0, T).await.is_empty());
    assert_eq!(ids(&subject.claim(10, T).await), ["2", "3", "4"]);
}

pub(crate) async fn a_hundred_thousand_of_one_millisecond_come_once_each(make: impl AsyncFn(EngineConfig) -> Subject) {
    const ALL: usize = 100_000;
    const AT_ONCE: usize = 10_000;
    let subject = make(EngineConfig::default()).await;
    for batch in 0..ALL / AT_ONCE {
        let entries = (0..AT_ONCE).map(|at| job(&format!("{batch}-{at}")).due(T + SECOND)).collect();
        subject.push(entries, T).await;
    }
    assert!(subject.claim(1, T).await.is_empty());
    let mut seen = HashSet::new();
    loop {
        let claimed = subject.claim(AT_ONCE, T + SECOND).await;
        if claimed.is_empty() {
            break;
        }
        seen.extend(claimed.into_iter().map(|claimed| claimed.envelope.id));
    }
    assert_eq!(seen.len(), ALL);
}
