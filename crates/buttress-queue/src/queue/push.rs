//! How jobs get in, and around a queue that is down.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use buttress::signal::Signal;
use buttress::trace::SpanKind;
use tokio::time::timeout;
use tower_service::Service;

use super::{LONGEST_KIND, PushError, Queue};
use crate::BoxError;
use crate::engine::{self, Admitted, Entry};
use crate::job::{Delivery, Envelope, Job, JobId, Outcome, Pushed, Trace};

/// How often a push that waits for room looks, besides being woken by what is done in this process.
const LOOK: Duration = Duration::from_millis(250);

impl Queue {
    /// Pushes a job. When this returns, the job is kept as well as the engine keeps anything.
    ///
    /// With [`OnFull::Wait`](crate::OnFull::Wait) it waits for as long as there is no room. Cancelled, the job is in the
    /// queue or it is not.
    ///
    /// # Errors
    ///
    /// [`PushError`], and nothing was pushed; after [`PushError::Engine`] it may have been. Whoever pushes again with the
    /// same id is safe in any case.
    pub async fn push(&self, job: Job) -> Result<Pushed, PushError> {
        let mut pushed = self.push_all([job]).await;
        pushed.pop().unwrap_or_else(|| Err(PushError::unanswered()))
    }

    /// Pushes jobs together, which is faster than one after the other; an answer for each of them, in order.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), for each job alone.
    pub async fn push_all(&self, jobs: impl IntoIterator<Item = Job>) -> Vec<Result<Pushed, PushError>> {
        let jobs: Vec<_> = jobs.into_iter().collect();
        let pushing = self.push_now(jobs);
        match &self.telemetry {
            Some(telemetry) => {
                let send = telemetry.operation(format!("send {}", self.name)).kind(SpanKind::Producer).infallible();
                let send =
                    send.attribute("messaging.operation.name", "send").attribute("messaging.operation.type", "send");
                self.described(send).run(pushing).await
            }
            None => pushing.await,
        }
    }

    async fn push_now(&self, jobs: Vec<Job>) -> Vec<Result<Pushed, PushError>> {
        let trace = Trace::current(&self.keep_baggage);
        let mut answers = Vec::with_capacity(jobs.len());
        let mut entries = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.entry(job, &trace) {
                Ok(entry) => {
                    answers.push(None);
                    entries.push(entry);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut admitted = self.admit(entries).await.into_iter();
        answers
            .into_iter()
            .map(|answer| answer.or_else(|| admitted.next()).unwrap_or_else(|| Err(PushError::unanswered())))
            .collect()
    }

    /// Pushes a job; when that has not succeeded within `patience`, has it processed here and now, by the same service that
    /// a worker would have. For what may not wait until a queue that is down comes back: give it a quarter of a second.
    ///
    /// The job keeps its id, so that a copy which did get into the queue is dropped by the workers of this process; those
    /// of others tell it by its id.
    ///
    /// # Errors
    ///
    /// What the service answers when it fails; of a job that is refused for what it is, [`PushError`].
    pub async fn push_or_process<S>(&self, job: Job, patience: Duration, mut service: S) -> Result<Handed, BoxError>
    where
        S: Service<Delivery>,
        S::Response: Into<Outcome>,
        S::Error: Into<BoxError>,
    {
        let job = if job.id.is_some() { job } else { job.id(JobId::random()) };
        let refused = match timeout(patience, self.push(job.clone())).await {
            Ok(Ok(pushed)) => return Ok(Handed::Pushed(pushed)),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        if let Some(error @ (PushError::TooLarge { .. } | PushError::Kind(_))) = refused {
            return Err(error.into());
        }
        let Entry { envelope, .. } = self.entry(job, &Trace::current(&self.keep_baggage))?;
        let Envelope { id, kind, priority, key, created, trace, data, .. } = envelope;
        let delivery =
            Delivery { id: id.clone(), kind, priority, key, created, attempt: 1, producer: trace.context(), data };
        poll_fn(|context| service.poll_ready(context)).await.map_err(Into::into)?;
        // Before it is known what comes of it: a copy in the queue might be claimed meanwhile.
        self.shared.delivered.add(id.clone());
        let outcome = service.call(delivery).await.map(Into::into).map_err(Into::into);
        if !matches!(outcome, Ok(Outcome::Ack)) {
            self.shared.delivered.remove(&id);
        }
        outcome.map(Handed::Processed)
    }

    fn entry(&self, job: Job, trace: &Trace) -> Result<Entry, PushError> {
        let Job { id, kind, priority, key, delay, data } = job;
        if kind.is_empty() || kind.len() > LONGEST_KIND || kind.chars().any(char::is_control) {
            return Err(PushError::Kind(kind));
        }
        if data.get().len() > self.largest {
            return Err(PushError::TooLarge { bytes: data.get().len(), most: self.largest });
        }
        let id = id.unwrap_or_else(JobId::random);
        let created = self.clock.now();
        let due = engine::after(created, delay);
        let trace = trace.clone();
        Ok(Entry { envelope: Envelope { v: Envelope::VERSION, id, kind, priority, key, created, trace, data }, due })
    }

    /// Has the engine take these in, again and again those that wait for room.
    async fn admit(&self, entries: Vec<Entry>) -> Vec<Result<Pushed, PushError>> {
        let mut answers: Vec<Option<Result<Pushed, PushError>>> = entries.iter().map(|_| None).collect();
        let mut left: Vec<_> = entries.into_iter().enumerate().collect();
        while !left.is_empty() {
            let mut room = std::pin::pin!(self.shared.room.notified());
            // Listens before it asks, so that no room is made in between.
            room.as_mut().enable();
            let admitted =
                self.engine.push(left.iter().map(|(_, entry)| entry.clone()).collect(), self.clock.now()).await;
            let admitted = match admitted {
                Ok(admitted) => admitted,
                Err(error) => {
                    let error = Arc::new(error);
                    for (place, _) in left {
                        answers[place] = Some(Err(PushError::Engine(Arc::clone(&error))));
                    }
                    break;
                }
            };
            let mut waiting = Vec::new();
            for ((place, entry), admitted) in left.into_iter().zip(admitted) {
                match self.answer(&entry, admitted) {
                    Err(PushError::Full(full)) if full.waits => waiting.push((place, entry)),
                    answer => answers[place] = Some(answer),
                }
            }
            left = waiting;
            if !left.is_empty() {
                let _ = timeout(LOOK, room).await;
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(PushError::unanswered()))).collect()
    }

    fn answer(&self, entry: &Entry, admitted: Admitted) -> Result<Pushed, PushError> {
        let Envelope { id, kind, priority, .. } = &entry.envelope;
        if let Some(meters) = &self.meters {
            meters.pushed(kind, *priority, &admitted);
        }
        self.tell_full(
            matches!(&admitted, Admitted::Full(_))
                || matches!(&admitted, Admitted::New { evicted } if !evicted.is_empty()),
        );
        match admitted {
            Admitted::New { .. } => {
                self.shared.flows.pushed(kind, *priority, entry.envelope.size());
                Ok(Pushed::New(id.clone()))
            }
            Admitted::Duplicate(state) => Ok(Pushed::Duplicate { id: id.clone(), state }),
            Admitted::Full(full) => Err(PushError::Full(full)),
        }
    }

    fn tell_full(&self, full: bool) {
        if self.shared.full.load(Relaxed) != full && self.shared.full.swap(full, Relaxed) != full && full {
            self.signals.send(Signal::QueueFull { queue: Arc::clone(&self.name) });
        }
    }
}

/// What [`Queue::push_or_process`] did. Complete by nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// It is in the queue.
    Pushed(Pushed),
    /// It was processed here.
    Processed(Outcome),
}
