use std::time::Duration;

use buttress_queue::{Bound, EngineConfig, JobState};

use crate::subject::{SECOND, Subject, T, buried, id, job, jobs, letters, retry};

pub(crate) async fn a_dead_letter_keeps_the_job_the_reason_and_the_counts(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").kind("order.created").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, retry(T), T).await;
    subject.claim_one(T).await;
    let now = T + 30 * SECOND;
    let claimed = subject.claim_one(now).await;
    subject.settle(&claimed.lease, buried("it said 410", 2), now).await;
    let letter = subject.dead(None, 10).await.remove(0);
    assert_eq!(letter.envelope.data.get(), r#""a""#);
    assert_eq!(&*letter.envelope.kind, "order.created");
    assert_eq!(letter.reason.as_str(), "it said 410");
    assert_eq!((letter.attempts, letter.crashes, letter.buried), (2, 1, now));
}

async fn five_letters(subject: &Subject) {
    for at in 0..5 {
        subject.bury(&format!("{at}"), T + at * SECOND).await;
    }
}

pub(crate) async fn dead_letters_are_listed_in_pages(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    five_letters(&subject).await;
    let first = subject.dead(None, 2).await;
    assert_eq!(letters(&first), ["0", "1"]);
    let second = subject.dead(first.last(), 2).await;
    assert_eq!(letters(&second), ["2", "3"]);
    let third = subject.dead(second.last(), 2).await;
    assert_eq!(letters(&third), ["4"]);
    assert!(subject.dead(third.last(), 2).await.is_empty());
}

pub(crate) async fn the_next_page_is_found_when_the_last_letter_is_gone(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    five_letters(&subject).await;
    let page = subject.dead(None, 3).await;
    assert_eq!(subject.engine.discard(&[id("2")]).await.unwrap(), 1);
    assert_eq!(letters(&subject.dead(page.last(), 3).await), ["3", "4"]);
}

pub(crate) async fn a_replayed_letter_is_a_job_with_no_attempts(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    five_letters(&subject).await;
    let now = T + 60 * SECOND;
    assert_eq!(subject.engine.replay(&[id("3"), id("1")], now).await.unwrap(), 2);
    assert_eq!(subject.state("3", now).await, Some(JobState::Waiting));
    let claimed = subject.claim(10, now).await;
    assert_eq!(crate::subject::ids(&claimed), ["3", "1"]);
    assert_eq!((claimed[0].attempts, claimed[0].crashes), (0, 0));
    assert_eq!(letters(&subject.dead(None, 10).await), ["0", "2", "4"]);
}

pub(crate) async fn a_discarded_letter_is_gone(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    five_letters(&subject).await;
    assert_eq!(subject.engine.discard(&[id("0"), id("4")]).await.unwrap(), 2);
    assert_eq!(letters(&subject.dead(None, 10).await), ["1", "2", "3"]);
    assert_eq!(subject.state("0", T + 60 * SECOND).await, None);
    assert_eq!(subject.engine.contents(T).await.unwrap().dead, 3);
}

pub(crate) async fn what_is_no_letter_is_neither_replayed_nor_discarded(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T), job("b").due(T)], T).await;
    subject.claim(1, T).await;
    let all = [id("a"), id("b"), id("c")];
    assert_eq!(subject.engine.replay(&all, T).await.unwrap(), 0);
    assert_eq!(subject.engine.discard(&all).await.unwrap(), 0);
    assert_eq!(subject.state("a", T).await, Some(JobState::Active));
    assert_eq!(subject.state("b", T).await, Some(JobState::Waiting));
}

pub(crate) async fn of_too_many_letters_the_oldest_are_thrown_away(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default().most_dead(jobs(3))).await;
    five_letters(&subject).await;
    subject.engine.maintain(T + 10 * SECOND).await.unwrap();
    assert_eq!(letters(&subject.dead(None, 10).await), ["2", "3", "4"]);
    assert_eq!(subject.state("0", T + 10 * SECOND).await, None);
    subject.engine.replay(&[id("3")], T + 10 * SECOND).await.unwrap();
    subject.engine.discard(&[id("2")]).await.unwrap();
    subject.engine.maintain(T + 10 * SECOND).await.unwrap();
    assert_eq!(letters(&subject.dead(None, 10).await), ["4"], "there is room for it");
}

pub(crate) async fn of_too_large_letters_the_oldest_are_thrown_away(make: impl AsyncFn(EngineConfig) -> Subject) {
    let most = Bound { jobs: u64::MAX, bytes: 3 * job("0").size() };
    let subject = make(EngineConfig::default().most_dead(most)).await;
    five_letters(&subject).await;
    subject.engine.maintain(T + 10 * SECOND).await.unwrap();
    assert_eq!(letters(&subject.dead(None, 10).await), ["2", "3", "4"]);
}

pub(crate) async fn letters_are_thrown_away_when_their_time_is_over(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default().keep_dead(Duration::from_secs(10))).await;
    five_letters(&subject).await;
    subject.engine.maintain(T + 10 * SECOND).await.unwrap();
    assert_eq!(subject.dead(None, 10).await.len(), 5);
    subject.engine.maintain(T + 12 * SECOND).await.unwrap();
    assert_eq!(letters(&subject.dead(None, 10).await), ["2", "3", "4"]);
}
