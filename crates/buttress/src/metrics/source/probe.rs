//! A question that is asked every beat, and whose answer may be late.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::{self, Instant};

/// How often the runtime is asked.
pub(super) const BEAT: Duration = Duration::from_millis(10);

/// One question at a time, and how long each answer takes.
///
/// While an answer is overdue, the question's age counts at every beat, and at last the delay of the answer does. That are
/// the values which HdrHistogram's `record_correct` adds when a measurement was late (Gil Tene, "coordinated omission"),
/// told while it happens: nobody has to wait for an answer to see that there is none.
#[derive(Debug, Default)]
pub(super) struct Probe {
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    /// No answer on a true clock comes before this.
    at: Instant,
    /// From when on its answer is late.
    due: Instant,
    /// The next age that counts when there is no answer yet.
    next_age: Duration,
    answer: Answer,
}

/// Where the answer is looked for: empty until there is one, `None` inside when there will be none.
type Answer = Arc<OnceLock<Option<Instant>>>;

/// What has become of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Nothing was asked.
    Idle,
    /// No answer yet.
    Waiting,
    /// The answer is recorded.
    Answered,
    /// The clock of the answer is not ours: somebody's test has paused it.
    ForeignClock,
    /// Who should have answered is gone.
    Lost,
}

impl Probe {
    /// Asked at `now`, with the answer due at `due`. An older question is forgotten.
    pub(super) fn ask(&mut self, now: Instant, due: Instant) -> Mark {
        let answer = Answer::default();
        self.asked = Some(Asked { at: now, due, next_age: BEAT, answer: Arc::clone(&answer) });
        Mark(answer)
    }

    /// Records what is known by now of how late the answer is.
    pub(super) fn look(&mut self, now: Instant, mut record: impl FnMut(Duration)) -> Looked {
        let Some(mut asked) = self.asked.take() else {
            return Looked::Idle;
        };
        let answered = match asked.answer.get() {
            None => None,
            Some(Some(at)) if (asked.at..=now).contains(at) => Some(*at),
            Some(Some(_)) => return Looked::ForeignClock,
            Some(None) => return Looked::Lost,
        };
        // A late look loses nothing: the ages are those of the beats, not those of the looks.
        let age = answered.unwrap_or(now).saturating_duration_since(asked.due);
        while asked.next_age <= age {
            record(asked.next_age);
            asked.next_age += BEAT;
        }
        if answered.is_some() {
            record(age);
            Looked::Answered
        } else {
            self.asked = Some(asked);
            Looked::Waiting
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }
}

/// Goes where the answer is to come from.
#[derive(Debug)]
pub(super) struct Mark(Answer);

impl Mark {
    /// Answers, on the clock of whoever calls it.
    pub(super) fn reached(self) {
        let _ = self.0.set(Some(clock::now()));
    }
}

impl Drop for Mark {
    /// Without effect when the answer is there.
    fn drop(&mut self) {
        let _ = self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What is recorded when the answer comes after so long, and who asks looks at these times.
    fn recorded(answer: Option<u64>, looks: &[u64]) -> (Vec<u128>, Looked) {
        let (mut probe, mut recorded, start) = (Probe::default(), Vec::new(), clock::now());
        let mark = probe.ask(start, start);
        let mut last = Looked::Idle;
        for look in looks {
            if answer.is_some_and(|at| at <= *look) {
                let _ = mark.0.set(answer.map(|at| start + millis(at)));
            }
            last = probe.look(start + millis(*look), |delay| recorded.push(delay.as_millis()));
        }
        (recorded, last)
    }

    #[test]
    fn an_answer_in_time_is_one_sample() {
        assert_eq!(recorded(Some(3), &[10]), (vec![3], Looked::Answered));
    }

    #[test]
    fn a_question_without_answer_shows_its_age_at_once() {
        assert_eq!(recorded(None, &[10, 20, 31]), (vec![10, 20, 30], Looked::Waiting));
    }

    #[test]
    fn the_questions_that_were_not_asked_meanwhile_count_as_well() {
        let looks: Vec<u64> = (1..=25).map(|beat| beat * 10).collect();
        let (delays, _) = recorded(Some(205), &looks);
        let mut expected: Vec<u128> = (1..=20).map(|beat| beat * 10).collect();
        expected.push(205);
        assert_eq!(delays, expected);
    }

    #[test]
    fn who_looks_late_records_what_who_looks_in_time_does() {
        let punctual: Vec<u64> = (1..=21).map(|beat| beat * 10).collect();
        assert_eq!(recorded(Some(205), &[900]).0, recorded(Some(205), &punctual).0);
    }

    #[test]
    fn an_answer_before_it_is_due_is_not_late() {
        let (mut probe, start) = (Probe::default(), clock::now());
        let mark = probe.ask(start, start + millis(5));
        mark.0.set(Some(start + millis(4))).unwrap();
        let mut delays = Vec::new();
        assert_eq!(probe.look(start + millis(10), |delay| delays.push(delay)), Looked::Answered);
        assert_eq!(delays, [Duration::ZERO]);
    }

    #[test]
    fn an_answer_from_before_the_question_or_from_the_future_is_no_measurement() {
        for offset in [0, 50] {
            let (mut probe, start) = (Probe::default(), clock::now());
            let asked = start + millis(10);
            let mark = probe.ask(asked, asked);
            mark.0.set(Some(start + millis(offset))).unwrap();
            let looked = probe.look(start + millis(20), |_| panic!("nothing was measured"));
            assert_eq!(looked, Looked::ForeignClock);
            assert!(!probe.is_waiting());
        }
    }

    #[test]
    fn who_goes_without_an_answer_says_so() {
        let (mut probe, start) = (Probe::default(), clock::now());
        drop(probe.ask(start, start));
        assert_eq!(probe.look(start + millis(10), |_| panic!("nothing was measured")), Looked::Lost);
    }
}
