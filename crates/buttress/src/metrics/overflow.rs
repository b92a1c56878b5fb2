//! What did not fit: how often, and the values that were seen most.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Values that are remembered.
const REMEMBERED: usize = 16;
const LONGEST: usize = 64;

/// Counts what a bounded set refuses, and remembers the most frequent (Metwally et al., "Space-Saving", 2005).
#[derive(Debug, Default)]
pub(super) struct Overflow {
    count: AtomicU64,
    top: Mutex<Vec<Offender>>,
}

/// A value that did not fit into a bounded set of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offender {
    /// The value, without secrets, cut at 64 characters.
    pub value: String,
    /// How often it was seen: never too low, and too high by at most the count of the one whose place it took.
    pub count: u64,
}

impl Overflow {
    /// One more. The value is remembered unless somebody else is at it right now.
    pub(super) fn note(&self, value: &str) {
        self.count.fetch_add(1, Relaxed);
        let Ok(mut top) = self.top.try_lock() else {
            return;
        };
        let value = shown(value);
        if let Some(known) = top.iter_mut().find(|offender| offender.value == value) {
            known.count += 1;
        } else if top.len() < REMEMBERED {
            top.push(Offender { value, count: 1 });
        } else if let Some(least) = top.iter_mut().min_by_key(|offender| offender.count) {
            *least = Offender { value, count: least.count + 1 };
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The remembered ones, most frequent first.
    pub(super) fn top(&self) -> Vec<Offender> {
        let mut top = self.top.lock().unwrap_or_else(PoisonError::into_inner).clone();
        top.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.value.cmp(&other.value)));
        top
    }
}

/// Cut before it is looked at, so that a long value costs no more than a short one.
fn shown(value: &str) -> String {
    let end = value.char_indices().nth(LONGEST).map_or(value.len(), |(at, _)| at);
    crate::redact::text(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequent_ones_stay_among_thousands_of_rare_ones() {
        let overflow = Overflow::default();
        for nth in 0..10_000 {
            overflow.note(&format!("/rare/{nth}"));
            if nth % 3 == 0 {
                overflow.note("/frequent");
            }
        }
        assert_eq!(overflow.count(), 13_334);
        let top = overflow.top();
        assert_eq!((top.len(), top[0].value.as_str()), (REMEMBERED, "/frequent"));
        assert!(top[0].count >= 3334);
    }

    #[test]
    fn a_value_is_cut_between_characters_and_shows_no_secret() {
        let overflow = Overflow::default();
        overflow.note(&"é".repeat(1000));
        assert_eq!(overflow.top()[0].value.chars().count(), LONGEST);
        overflow.note("password=hunter2");
        assert!(overflow.top().iter().all(|offender| !offender.value.contains("hunter2")));
    }
}
