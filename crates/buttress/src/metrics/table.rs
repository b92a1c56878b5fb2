//! A table that only grows: found without a lock, made under one.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

/// Slots of the first level.
const FIRST: usize = 16;

/// At most `cap` entries, none of which ever moves or goes.
///
/// Levels of doubling size, each of which holds every entry that there was when it was made, and is left for the next when
/// it is half full. An entry lies in the first slot that was free, from the one that its hash names, so that an empty slot
/// says that the key is not there. Keys that collide cost time, never memory.
pub(crate) struct Table<K, V> {
    levels: Box<[OnceLock<Level<K, V>>]>,
    newest: AtomicUsize,
    len: Mutex<usize>,
    cap: usize,
}

type Level<K, V> = Box<[OnceLock<Slot<K, V>>]>;

/// With its hash, so that few entries are looked at in vain.
struct Slot<K, V> {
    hash: u64,
    entry: Arc<(K, V)>,
}

impl<K, V> Table<K, V> {
    pub(crate) fn new(cap: usize) -> Self {
        let levels = (2 * cap).div_ceil(FIRST).next_power_of_two().trailing_zeros() + 1;
        let levels: Box<[_]> = (0..levels).map(|_| OnceLock::new()).collect();
        Self { levels, newest: AtomicUsize::new(0), len: Mutex::new(0), cap }
    }

    /// The value of the key that `is` this one.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&V> {
        let level = self.levels[self.newest.load(Ordering::Acquire)].get()?;
        let mask = level.len() - 1;
        let mut at = hash as usize;
        // A level is never full: there is an empty slot to end at.
        loop {
            let slot = level[at & mask].get()?;
            if slot.hash == hash && is(&slot.entry.0) {
                return Some(&slot.entry.1);
            }
            at = at.wrapping_add(1);
        }
    }

    /// As [`find`](Self::find), made when it is not there; `None` when the table is full.
    #[inline]
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
        let mut len = self.len.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have made it meanwhile.
        if let Some(value) = self.find(hash, &is) {
            return Some(value);
        }
        if *len >= self.cap {
            return None;
        }
        let level = self.level_for(*len + 1);
        let entry = Arc::new(make(*len));
        *len += 1;
        let slot = free_slot(level, hash).get_or_init(|| Slot { hash, entry });
        Some(&slot.entry.1)
    }

    /// The newest level, or one more with every entry when that would become too full; under the lock.
    fn level_for(&self, entries: usize) -> &Level<K, V> {
        let newest = self.newest.load(Ordering::Relaxed);
        let level = self.levels[newest].get_or_init(|| empty(FIRST << newest));
        if 2 * entries <= level.len() {
            return level;
        }
        let next = self.levels[newest + 1].get_or_init(|| {
            let next = empty(2 * level.len());
            for Slot { hash, entry } in level.iter().filter_map(OnceLock::get) {
                free_slot(&next, *hash).get_or_init(|| Slot { hash: *hash, entry: Arc::clone(entry) });
            }
            next
        });
        self.newest.store(newest + 1, Ordering::Release);
        next
    }

    /// Every entry, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let newest = self.levels[self.newest.load(Ordering::Acquire)].get();
        let slots = newest.into_iter().flatten().filter_map(OnceLock::get);
        slots.map(|slot| (&slot.entry.0, &slot.entry.1))
    }
}

fn empty<K, V>(slots: usize) -> Level<K, V> {
    (0..slots).map(|_| OnceLock::new()).collect()
}

fn free_slot<K, V>(level: &Level<K, V>, hash: u64) -> &OnceLock<Slot<K, V>> {
    let mask = level.len() - 1;
    let mut slots = (0..level.len()).map(|probe| &level[(hash as usize).wrapping_add(probe) & mask]);
    slots.find(|slot| slot.get().is_none()).expect("no level is ever full")
}

/// The hash of what callers may choose: seeded, so that nobody can make keys collide from outside.
pub(crate) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    SeedableRandomState::with_seed(0, SharedSeed::global_random()).hash_one(value)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

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
        for cap in [0, 1, 3, 8, 9, 1000] {
            let table = Table::new(cap);
            let made = (0..cap as u64 + 5).filter_map(|key| intern(&table, key, hash_of(&key))).count();
            assert_eq!((made, table.iter().count()), (cap, cap));
            (0..cap as u64).for_each(|key| assert_eq!(intern(&table, key, hash_of(&key)), Some(key as usize)));
        }
    }

    #[test]
    fn what_is_known_is_found_while_somebody_makes_something_else() {
        let table = Table::new(10);
        intern(&table, 1, 1);
        let _making = table.len.lock().unwrap();
        assert_eq!(std::thread::scope(|scope| scope.spawn(|| intern(&table, 1, 1)).join().unwrap()), Some(0));
    }

    #[test]
    fn threads_that_race_for_a_key_get_the_same_value_and_make_it_once() {
        let (table, made) = (Table::new(10_000), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..1000_u64 {
                        let make = |_| {
                            made.fetch_add(1, Relaxed);
                            (key, key * 2)
                        };
                        assert_eq!(table.find_or_make(hash_of(&key), |known| *known == key, make), Some(&(key * 2)));
                    }
                });
            }
        });
        assert_eq!((made.into_inner(), table.iter().count()), (1000, 1000));
    }
}
