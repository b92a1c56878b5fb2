//! One attempt at one job: from its claim to what it is settled as.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use buttress::context::{self, Context};
use buttress::signal::Signal;
use buttress::trace::{Operation, SpanKind};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, interval_at, sleep};
use tower_service::Service;

use super::{Counts, Rules, Stop};
use crate::BoxError;
use crate::engine::{self, Claimed, EngineError, Settlement};
use crate::job::{Delivery, Envelope, Outcome, Reason};

type Answer = Result<Outcome, BoxError>;

pub(super) async fn process<S>(
    service: S,
    claimed: Claimed,
    rules: &Rules,
    counts: &Counts,
    stopped: &mut watch::Receiver<Stop>,
) where
    S: Service<Delivery> + Send + 'static,
    S::Response: Into<Outcome>,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let attempt = Attempt { rules, claimed: &claimed, begun: Instant::now() };
    attempt.count_claim();
    let ended = match attempt.refusal() {
        Some(settlement) => Some(settlement),
        None => attempt.run(service, stopped).await,
    };
    if let Some(settlement) = ended {
        let counted = if settlement == Settlement::Release { &counts.released } else { &counts.finished };
        attempt.settle(settlement).await;
        counted.fetch_add(1, Relaxed);
    }
    counts.busy.fetch_sub(1, Relaxed);
}

struct Attempt<'a> {
    rules: &'a Rules,
    claimed: &'a Claimed,
    begun: Instant,
}

impl Attempt<'_> {
    fn envelope(&self) -> &Envelope {
        &self.claimed.envelope
    }

    fn count_claim(&self) {
        if let Some(meters) = &self.rules.queue.meters {
            meters.claimed(&self.envelope().kind, self.envelope().priority);
        }
    }

    /// What becomes of a job that is not processed at all.
    fn refusal(&self) -> Option<Settlement> {
        let Claimed { envelope, attempts, crashes, .. } = self.claimed;
        if self.rules.queue.shared.delivered.has(&envelope.id) {
            return Some(self.counted("delivered_directly", None, Settlement::Done));
        }
        if *crashes > self.rules.max_crashes {
            let reason = format!("its processor was never heard of again, {crashes} times");
            return Some(self.counted("bury", None, Settlement::Bury { reason: reason.into(), attempts: *attempts }));
        }
        None
    }

    /// Has it processed; `None` when the lease was lost meanwhile.
    async fn run<S>(&self, mut service: S, stopped: &mut watch::Receiver<Stop>) -> Option<Settlement>
    where
        S: Service<Delivery> + Send + 'static,
        S::Response: Into<Outcome>,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let producer = self.envelope().trace.context();
        let delivery = self.delivery(producer.clone());
        let processing = async move {
            let answer = service.call(delivery).await;
            answer.map(Into::into).map_err(Into::into)
        };
        let mut work = Work(tokio::spawn(self.observed(producer, processing)));
        let mut renewal = interval_at(self.begun + self.rules.lease / 3, self.rules.lease / 3);
        let mut too_long = std::pin::pin!(sleep(self.rules.timeout));
        loop {
            tokio::select! {
                biased;
                answer = &mut work.0 => return Some(self.judged(answer)),
                () = &mut too_long => return Some(self.failed("timeout", format!("took longer than {:?}", self.rules.timeout).into())),
                () = stop_now(stopped) => return Some(self.counted("release", None, Settlement::Release)),
                _ = renewal.tick() => {
                    if let Err(EngineError::LeaseLost(_)) = self.renew().await {
                        self.lease_lost();
                        return None;
                    }
                }
            }
        }
    }

    async fn renew(&self) -> Result<(), EngineError> {
        let queue = &self.rules.queue;
        queue.engine.extend(&self.claimed.lease, self.rules.lease, queue.clock.now()).await
    }

    fn delivery(&self, producer: Option<Context>) -> Delivery {
        let Envelope { id, kind, priority, key, created, data, .. } = self.envelope().clone();
        Delivery { id, kind, priority, key, created, attempt: self.claimed.attempts + 1, producer, data }
    }

    /// The work in a span of its own, when there is telemetry; in the baggage of who pushed it in any case.
    fn observed(
        &self,
        producer: Option<Context>,
        processing: impl Future<Output = Answer> + Send + 'static,
    ) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>> {
        let queue = &self.rules.queue;
        let baggage = producer.as_ref().map(|producer| producer.baggage().clone()).unwrap_or_default();
        let processing = async move {
            match context::current() {
                Some(context) => context.with_baggage(baggage).scope(processing).await,
                None => processing.await,
            }
        };
        let Some(telemetry) = &queue.telemetry else {
            return match producer {
                Some(producer) => Box::pin(producer.scope(processing)),
                None => Box::pin(processing),
            };
        };
        let process = self.described(telemetry.operation(format!("process {}", queue.name)));
        let process = if self.rules.in_trace_of_producer { process } else { process.in_own_trace() };
        let process = process.judged(|answer: &Answer| match answer {
            Ok(Outcome::Ack) => None,
            Ok(outcome) => Some(outcome.as_str()),
            Err(_) => Some("error"),
        });
        let starter = producer.map(|producer| match self.rules.in_trace_of_producer {
            // As it pushed the job in another process, whichever it was.
            true => Context::below_remote(producer.trace()).with_tracestate(producer.tracestate().clone()),
            false => producer,
        });
        match starter {
            Some(starter) => Box::pin(starter.enter(|| process.run(processing))),
            None => Box::pin(process.run(processing)),
        }
    }

    fn described(&self, process: Operation) -> Operation {
        let envelope = self.envelope();
        let process = self.rules.queue.described(process).kind(SpanKind::Consumer);
        let process =
            process.attribute("messaging.operation.name", "process").attribute("messaging.operation.type", "process");
        let process = process.attribute("messaging.message.id", envelope.id.to_string());
        let process = process.attribute("buttress.job.type", envelope.kind.to_string());
        process.attribute("buttress.job.attempt", i64::from(self.claimed.attempts) + 1)
    }

    fn judged(&self, answer: Result<Answer, JoinError>) -> Settlement {
        let connectivity = self.rules.connectivity.as_ref();
        match answer {
            Ok(Ok(outcome)) => {
                // What was put off or is no job of this processor's has asked nobody.
                if let (Some(connectivity), Outcome::Ack | Outcome::Retry { .. }) = (connectivity, &outcome) {
                    connectivity.reached();
                }
                self.settled_as(outcome)
            }
            Ok(Err(error)) => match connectivity.filter(|connectivity| connectivity.is_unreachable(&*error)) {
                Some(connectivity) => {
                    connectivity.unreachable();
                    let after = self.rules.backoff.delay(self.claimed.attempts);
                    self.settled_as(Outcome::defer(after, super::judge::told(&error)))
                }
                None => self.settled_as(self.rules.judge.outcome(&error)),
            },
            Err(panicked) => self.failed("panic", panic_message(panicked)),
        }
    }

    fn settled_as(&self, outcome: Outcome) -> Settlement {
        let name = outcome.as_str();
        match outcome {
            Outcome::Ack => self.counted(name, Some(self.begun.elapsed()), Settlement::Done),
            Outcome::Retry { after, reason } => self.retry(name, after, reason),
            Outcome::Defer { after, reason: _ } => {
                self.counted(name, Some(self.begun.elapsed()), Settlement::Defer { due: self.due(after) })
            }
            Outcome::Bury { reason } => {
                let attempts = self.claimed.attempts + 1;
                self.counted(name, Some(self.begun.elapsed()), Settlement::Bury { reason, attempts })
            }
        }
    }

    fn failed(&self, name: &'static str, reason: Reason) -> Settlement {
        self.retry(name, None, reason)
    }

    fn retry(&self, name: &'static str, after: Option<Duration>, reason: Reason) -> Settlement {
        let attempts = self.claimed.attempts + 1;
        let took = Some(self.begun.elapsed());
        if attempts >= self.rules.max_attempts {
            let reason = format!("given up after {attempts} attempts: {reason}").into();
            return self.counted(name, took, Settlement::Bury { reason, attempts });
        }
        let after = after.unwrap_or_else(|| self.rules.backoff.delay(attempts - 1));
        self.counted(name, took, Settlement::Retry { due: self.due(after), reason })
    }

    fn due(&self, after: Duration) -> u64 {
        engine::after(self.rules.queue.clock.now(), after)
    }

    fn counted(&self, name: &'static str, took: Option<Duration>, settlement: Settlement) -> Settlement {
        if let Some(meters) = &self.rules.queue.meters {
            meters.processed(&self.envelope().kind, self.envelope().priority, name, took);
        }
        let flows = &self.rules.queue.shared.flows;
        flows.ended(&self.envelope().kind, self.envelope().priority, name, took.unwrap_or_default());
        settlement
    }

    /// Settles it, for as long as the lease may hold if the engine cannot be reached.
    async fn settle(&self, settlement: Settlement) {
        let queue = &self.rules.queue;
        let until = Instant::now() + self.rules.lease;
        let mut wait = Duration::from_millis(20);
        loop {
            match queue.engine.settle(&self.claimed.lease, settlement.clone(), queue.clock.now()).await {
                Ok(()) => break,
                Err(EngineError::LeaseLost(_)) => return self.lease_lost(),
                Err(EngineError::Closed) => return,
                Err(_) if Instant::now() + wait >= until => return self.lease_lost(),
                Err(_) => sleep(wait).await,
            }
            wait = (wait * 2).min(Duration::from_secs(1));
        }
        queue.shared.room.notify_waiters();
        if let Settlement::Bury { reason, .. } = settlement {
            self.tell_dead(&reason);
        }
    }

    fn tell_dead(&self, reason: &Reason) {
        let (queue, envelope) = (&self.rules.queue, self.envelope());
        queue.signals.send(Signal::JobDeadLettered {
            queue: Arc::clone(&queue.name),
            id: envelope.id.as_str().into(),
            kind: Arc::clone(&envelope.kind),
            reason: reason.as_str().into(),
        });
    }

    fn lease_lost(&self) {
        if let Some(meters) = &self.rules.queue.meters {
            meters.lease_lost(&self.envelope().kind);
        }
    }
}

/// Work on a task of its own, where a panic stays; dropped with this.
struct Work(JoinHandle<Answer>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn stop_now(stopped: &mut watch::Receiver<Stop>) {
    // Whoever could say so is gone when it fails: the worker was dropped, and so is this.
    if stopped.wait_for(|stop| *stop == Stop::Now).await.is_err() {
        std::future::pending().await
    }
}

fn panic_message(panicked: JoinError) -> Reason {
    let Ok(panic) = panicked.try_into_panic() else { return Reason::from("was aborted") };
    let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
    match said.or_else(|| panic.downcast_ref::<String>().cloned()) {
        Some(said) => format!("panicked: {said}").into(),
        None => Reason::from("panicked"),
    }
}
