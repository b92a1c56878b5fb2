//! What has been charged, so that who asks twice is charged once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Keys that are remembered; a caller stops repeating long before so many others have come.
const KEPT: usize = 4096;
/// A longer key is refused, so that what is kept has a bound.
pub(crate) const LONGEST_KEY: usize = 128;

/// The charges made so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Charges(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    made: u64,
    by_key: HashMap<String, Made>,
    /// Oldest first.
    keys: VecDeque<String>,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    number: u64,
    cents: u64,
}

/// The key was used before for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyReused;

impl Charges {
    /// Charges, and says the number of the charge: that of the first time for a key that was here before.
    pub(crate) fn charge(&self, key: Option<&str>, cents: u64) -> Result<u64, KeyReused> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = key.and_then(|key| book.by_key.get(key)) {
            return if made.cents == cents { Ok(made.number) } else { Err(KeyReused) };
        }
        book.made += 1;
        let number = book.made;
        if let Some(key) = key {
            book.remember(key, Made { number, cents });
        }
        Ok(number)
    }
}

impl Book {
    fn remember(&mut self, key: &str, made: Made) {
        if self.keys.len() == KEPT
            && let Some(oldest) = self.keys.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        self.keys.push_back(key.to_owned());
        self.by_key.insert(key.to_owned(), made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_twice_with_a_key_is_charged_once() {
        let charges = Charges::default();
        assert_eq!(charges.charge(Some("a"), 100), Ok(1));
        assert_eq!(charges.charge(Some("b"), 100), Ok(2));
        assert_eq!(charges.charge(Some("a"), 100), Ok(1));
        assert_eq!(charges.charge(None, 100), Ok(3));
        assert_eq!(charges.charge(None, 100), Ok(4));
    }

    #[test]
    fn a_key_is_not_good_for_another_amount() {
        let charges = Charges::default();
        assert_eq!(charges.charge(Some("a"), 100), Ok(1));
        assert_eq!(charges.charge(Some("a"), 200), Err(KeyReused));
    }

    #[test]
    fn the_oldest_keys_are_forgotten() {
        let charges = Charges::default();
        for number in 0..=KEPT {
            charges.charge(Some(&number.to_string()), 100).unwrap();
        }
        assert_eq!(charges.charge(Some("1"), 100), Ok(2));
        assert_eq!(charges.charge(Some("0"), 100), Ok(KEPT as u64 + 2));
        let book = charges.0.lock().unwrap();
        assert_eq!((book.by_key.len(), book.keys.len()), (KEPT, KEPT));
    }
}
