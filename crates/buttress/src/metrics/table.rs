//! A table that only grows: found without a lock, made under one.

use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, OnceLock, PoisonError};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

/// Slots that a key may lie in, in each level but the last.
const PROBES: usize = 8;
const FIRST: usize = 16;

/// At most `cap` entries, none of which ever moves or goes.
///
/// Levels of doubling size, with room for twice the cap in all. An entry lies in the first free one of the slots that its
/// hash names, so that an empty slot says that the key is not there. In the last level it may lie anywhere: keys that
/// collide cost time, never memory.
pub(crate) struct Table<K, V> {
    levels: Box<[OnceLock<Level<K, V>>]>,
    making: Mutex<usize>,
    cap: usize,
}

type Level<K, V> = Box<[Slot<K, V>]>;
type Slot<K, V> = OnceLock<Entry<K, V>>;

struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> Table<K, V> {
    pub(crate) fn new(cap: usize) -> Self {
        let levels = (2 * cap / FIRST + 1).next_power_of_two().trailing_zeros() + 1;
        Self { levels: (0..levels).map(|_| OnceLock::new()).collect(), making: Mutex::new(0), cap }
    }

    /// The value of the key that `is` this one.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&V> {
        for (nth, level) in self.levels.iter().enumerate() {
            for slot in self.window(nth, level.get()?, hash) {
                let entry = slot.get()?;
                if entry.hash == hash && is(&entry.key) {
                    return Some(&entry.value);
                }
            }
        }
        None
    }

    /// As [`find`](Self::find), made when it is not there; `None` when the table is full.
    pub(crate) fn find_or_make(
        &self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce(usize) -> (K, V),
    ) -> Option<&V> {
        match self.find(hash, &is) {
            Some(value) => Some(value),
            None => self.make(hash, is, make),
        }
    }

    #[cold]
    fn make(&self, hash: u64, is: impl Fn(&K) -> bool, make: impl FnOnce(usize) -> (K, V)) -> Option<&V> {
        let mut len = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        for (nth, level) in self.levels.iter().enumerate() {
            let level = level.get_or_init(|| (0..FIRST << nth).map(|_| OnceLock::new()).collect());
            for slot in self.window(nth, level, hash) {
                match slot.get() {
                    Some(entry) if entry.hash == hash && is(&entry.key) => return Some(&entry.value),
                    Some(_) => {}
                    None if *len >= self.cap => return None,
                    None => {
                        let (key, value) = make(*len);
                        *len += 1;
                        return Some(&slot.get_or_init(|| Entry { hash, key, value }).value);
                    }
                }
            }
        }
        None
    }

    fn window<'a>(
        &self,
        nth: usize,
        level: &'a [Slot<K, V>],
        hash: u64,
    ) -> impl Iterator<Item = &'a Slot<K, V>> + use<'a, K, V> {
        let mask = level.len() - 1;
        let probes = if nth + 1 == self.levels.len() { level.len() } else { PROBES };
        (0..probes).map(move |probe| &level[(hash as usize).wrapping_add(probe) & mask])
    }

    /// Every entry, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let slots = self.levels.iter().map_while(OnceLock::get).flatten();
        slots.filter_map(OnceLock::get).map(|entry| (&entry.key, &entry.value))
    }
}

/// The hash of what callers may choose: seeded, so that nobody can make keys collide from outside.
pub(crate) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    SeedableRandomState::with_seed(0, SharedSeed::global_random()).hash_one(value)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn intern(table: &Table<u64, usize>, key: u64, hash: u64) -> Option<usize> {
        table.find_or_make(hash, |known| *known == key, |nth| (key, nth)).copied()
    }

    #[test]
    fn keys_that_all_collide_are_told_apart() {
        let table = Table::new(100);
        (0..100).for_each(|key| assert_eq!(intern(&table, key, 7), Some(key as usize)));
        (0..100).for_each(|key| assert_eq!(intern(&table, key, 7), Some(key as usize)));
        assert_eq!(table.iter().count(), 100);
    }

    #[test]
    fn a_full_table_finds_what_it_has_and_makes_nothing() {
        let table = Table::new(3);
        let found: Vec<_> = (0..5).map(|key| intern(&table, key, key)).collect();
        assert_eq!(found, [Some(0), Some(1), Some(2), None, None]);
        assert_eq!(intern(&table, 1, 1), Some(1));
        assert_eq!(table.find(4, |key| *key == 4), None);
    }

    #[test]
    fn threads_that_race_for_a_key_get_the_same_value_and_make_it_once() {
        let (table, made) = (Table::new(10_000), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..1000_u64 {
                        let hash = hash_of(&key);
                        let value = table.find_or_make(
                            hash,
                            |known| *known == key,
                            |_| {
                                made.fetch_add(1, Relaxed);
                                (key, key * 2)
                            },
                        );
                        assert_eq!(value, Some(&(key * 2)));
                    }
                });
            }
        });
        assert_eq!((made.into_inner(), table.iter().count()), (1000, 1000));
    }
}
