//! What is asked at about the same time is asked by one script: while one is under way, the next ones gather.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::engine::EngineError;

type Result<T> = std::result::Result<T, EngineError>;

/// Questions that gather, and who waits for what is answered.
pub(super) struct Batches<Q, A>(Arc<Mutex<Gathered<Q, A>>>);

struct Gathered<Q, A> {
    asked: Vec<(Q, oneshot::Sender<Result<A>>)>,
    /// Whether somebody sees to it.
    attended: bool,
}

impl<Q, A> Batches<Q, A> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Gathered { asked: Vec::new(), attended: false })))
    }

    /// Adds one. What is answered comes there; when nobody sees to them, who asked has to.
    pub(super) fn add(&self, question: Q) -> (oneshot::Receiver<Result<A>>, Option<Attending<Q, A>>) {
        let (answer, answered) = oneshot::channel();
        let mut gathered = self.gathered();
        gathered.asked.push((question, answer));
        let attended = std::mem::replace(&mut gathered.attended, true);
        (answered, (!attended).then(|| Attending { batches: Self(self.0.clone()), done: false }))
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered<Q, A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to them, on a task of its own: whoever asked may be dropped, and the others are not to hear of it. When this ends before
/// everything is answered, because its runtime does, all who wait are to ask again.
pub(super) struct Attending<Q, A> {
    batches: Batches<Q, A>,
    done: bool,
}

impl<Q, A> Attending<Q, A> {
    /// At most so many that somebody still waits for; `None` when there is nothing more, and it is over.
    pub(super) fn next(&mut self, most: usize) -> Option<Batch<Q, A>> {
        let mut gathered = self.batches.gathered();
        gathered.asked.retain(|(_, answer)| !answer.is_closed());
        let some = gathered.asked.len().min(most);
        if some == 0 {
            gathered.attended = false;
            self.done = true;
            return None;
        }
        let (questions, answers) = gathered.asked.drain(..some).unzip();
        Some(Batch { questions, answers })
    }
}

impl<Q, A> Drop for Attending<Q, A> {
    fn drop(&mut self) {
        if !self.done {
            let mut gathered = self.batches.gathered();
            gathered.asked.clear();
            gathered.attended = false;
        }
    }
}

/// What is asked at once.
pub(super) struct Batch<Q, A> {
    pub(super) questions: Vec<Q>,
    answers: Vec<oneshot::Sender<Result<A>>>,
}

impl<Q, A> Batch<Q, A> {
    /// Tells each its answer, or all that there is none.
    pub(super) fn answer(self, answers: Result<Vec<Result<A>>>) {
        match answers {
            Ok(answers) => self.answers.into_iter().zip(answers).for_each(|(asked, answer)| drop(asked.send(answer))),
            Err(error) => self.answers.into_iter().for_each(|asked| drop(asked.send(Err(again(&error))))),
        }
    }
}

/// What one hears whose question nobody sees to any more.
pub(super) fn unattended<A>(_: oneshot::error::RecvError) -> Result<A> {
    Err(EngineError::Unavailable("its runtime has ended".into()))
}

/// The same, for the next who asked.
fn again(error: &EngineError) -> EngineError {
    match error {
        EngineError::LeaseLost(id) => EngineError::LeaseLost(id.clone()),
        EngineError::StorageFull => EngineError::StorageFull,
        EngineError::Unavailable(error) => EngineError::Unavailable(error.to_string().into()),
        EngineError::Failed(error) => EngineError::Failed(error.to_string().into()),
        EngineError::Closed => EngineError::Closed,
    }
}
