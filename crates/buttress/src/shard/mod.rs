//! One copy of each number for each thread, so that threads that count do not wait for each other's cache lines.
//!
//! A thread leases a shard for as long as it lives. Its own shard nobody else writes, so that adding is a load and a
//! store; a thread that found none free shares shard 0 with the others of its kind, and adds atomically.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

/// An atomic word; of the standard library, or of a model checker.
pub(crate) trait Word: Send + Sync + 'static {
    fn zero() -> Self;
    fn load(&self, ordering: Ordering) -> u64;
    fn store(&self, value: u64, ordering: Ordering);
    fn fetch_add(&self, value: u64, ordering: Ordering) -> u64;
    /// Replaces `current` by `new`, and says whether it was `current`; acquires.
    fn replace(&self, current: u64, new: u64) -> bool;
    fn fence(ordering: Ordering);
}

macro_rules! word {
    ($word:ty, $fence:path) => {
        impl Word for $word {
            #[inline]
            fn zero() -> Self {
                Self::new(0)
            }

            #[inline]
            fn load(&self, ordering: Ordering) -> u64 {
                Self::load(self, ordering)
            }

            #[inline]
            fn store(&self, value: u64, ordering: Ordering) {
                Self::store(self, value, ordering);
            }

            #[inline]
            fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
                Self::fetch_add(self, value, ordering)
            }

            #[inline]
            fn replace(&self, current: u64, new: u64) -> bool {
                self.compare_exchange(current, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
            }

            #[inline]
            fn fence(ordering: Ordering) {
                $fence(ordering);
            }
        }
    };
}

word!(AtomicU64, std::sync::atomic::fence);

/// The shard that a thread writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard(usize);

impl Shard {
    /// The one that threads without a lease share.
    pub(crate) const SHARED: Self = Self(0);

    /// This thread's.
    #[inline]
    pub(crate) fn mine() -> Self {
        let shard = MINE.get();
        if shard == UNDECIDED { Self(lease()) } else { Self(shard) }
    }

    /// This, if no other thread writes it.
    #[inline]
    pub(crate) fn own(self) -> Option<Own> {
        (self != Self::SHARED).then_some(Own(self.0))
    }

    /// The one of these that is this shard's; shards share when there are fewer.
    #[cfg(feature = "metrics")]
    pub(crate) fn pick<T>(self, all: &[T]) -> &T {
        &all[self.0 % all.len()]
    }

    /// Adds to a word of this shard. Whoever reads the new value with `Acquire` sees what this thread did before.
    #[inline]
    pub(crate) fn add<W: Word>(self, word: &W, value: u64) {
        match self.own() {
            Some(own) => own.add(word, value),
            None => drop(word.fetch_add(value, Ordering::Release)),
        }
    }

    /// Changes a word of this shard; may ask more than once where it is shared.
    #[inline]
    #[cfg(feature = "circuit-breaker")]
    pub(crate) fn update<W: Word>(self, word: &W, change: impl Fn(u64) -> u64) {
        loop {
            let current = word.load(Ordering::Relaxed);
            if self != Self::SHARED {
                return word.store(change(current), Ordering::Release);
            }
            if word.replace(current, change(current)) {
                return;
            }
        }
    }
}

/// A shard that no other thread writes: what the shortest path of a record is for. Whatever else comes up (a thread that
/// shares, a copy that has to be made) is put into a function of its own and called last, so that this path keeps nothing
/// for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own(usize);

impl Own {
    /// This thread's, if it has leased one.
    #[inline]
    pub(crate) fn mine() -> Option<Self> {
        let shard = MINE.get();
        (shard != UNDECIDED && shard != Shard::SHARED.0).then_some(Self(shard))
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn shard(self) -> Shard {
        Shard(self.0)
    }

    /// As [`Shard::add`].
    #[inline]
    pub(crate) fn add<W: Word>(self, word: &W, value: u64) {
        word.store(word.load(Ordering::Relaxed).wrapping_add(value), Ordering::Release);
    }
}

/// How many are under way, of those that began and `ended`; `None` where there never was one.
///
/// What has ended is read first, all of it: nobody ends who has not begun, so that this never falls below nothing.
pub(crate) fn under_way<'a, W: Word>(ended: u64, started: impl Iterator<Item = &'a W>) -> Option<u64> {
    let started: u64 = started.map(|word| word.load(Ordering::Acquire)).sum();
    (started > 0).then(|| started - ended)
}

const UNDECIDED: usize = usize::MAX;

thread_local! {
    /// Without a destructor, so that it can be read until the thread is gone.
    static MINE: Cell<usize> = const { Cell::new(UNDECIDED) };
    static LEASE: Lease = const { Lease };
}

/// The free shards, lowest last. The lock is taken when a thread first counts and when it ends.
static FREE: LazyLock<Mutex<Vec<usize>>> = LazyLock::new(|| Mutex::new((1..count()).rev().collect()));

/// The shared one, and two for each core: the workers of a runtime, and as many other threads.
pub(crate) fn count() -> usize {
    static COUNT: LazyLock<usize> = LazyLock::new(|| {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        1 + (2 * cores).clamp(4, 32)
    });
    *COUNT
}

#[cold]
fn lease() -> usize {
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let shard = free.unwrap_or(Shard::SHARED.0);
    MINE.set(shard);
    // A thread that is ending has no use for a lease that nobody would give back.
    if shard != Shard::SHARED.0 && LEASE.try_with(|_| ()).is_err() {
        give_back();
    }
    MINE.get()
}

fn give_back() {
    let shard = MINE.replace(Shard::SHARED.0);
    if shard != UNDECIDED && shard != Shard::SHARED.0 {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(shard);
    }
}

/// Gives the shard back when the thread ends. The lock orders its writes before those of the next to lease it.
struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        give_back();
    }
}

/// A copy for each shard that was ever written, made when it first is.
pub(crate) struct Sharded<T> {
    shards: Box<[OnceLock<Box<Padded<T>>>]>,
}

/// On cache lines of its own; two, because processors fetch them in pairs.
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Sharded<T> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..count()).map(|_| OnceLock::new()).collect() }
    }

    /// The copy to write.
    #[inline]
    pub(crate) fn of(&self, shard: Shard, make: impl FnOnce() -> T) -> &T {
        let slot = &self.shards[shard.0];
        match slot.get() {
            Some(copy) => &copy.0,
            None => Self::fill(slot, make),
        }
    }

    /// What a copy takes, without what it holds elsewhere.
    #[cfg(feature = "metrics")]
    pub(crate) const COPY: usize = size_of::<Padded<T>>();

    /// The copy of a shard, if it has been made.
    #[cfg(feature = "metrics")]
    pub(crate) fn get(&self, shard: Shard) -> Option<&T> {
        Some(&self.shards[shard.0].get()?.0)
    }

    /// The copy to write, if it has been made.
    #[inline]
    pub(crate) fn own(&self, own: Own) -> Option<&T> {
        Some(&self.shards.get(own.0)?.get()?.0)
    }

    #[cold]
    #[inline(never)]
    fn fill(slot: &OnceLock<Box<Padded<T>>>, make: impl FnOnce() -> T) -> &T {
        &slot.get_or_init(|| Box::new(Padded(make()))).0
    }

    /// The copies to read.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.shards.iter().filter_map(|slot| slot.get()).map(|copy| &copy.0)
    }

    /// Bytes of all copies, each holding so many beyond itself.
    #[cfg(feature = "metrics")]
    pub(crate) fn bytes(&self, beyond: impl Fn(&T) -> usize) -> usize {
        let copies: usize = self.iter().map(|copy| Self::COPY + beyond(copy)).sum();
        size_of_val(&*self.shards) + copies
    }
}

#[cfg(all(test, any(feature = "metrics", feature = "circuit-breaker")))]
pub(crate) mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_live_at_once_never_lease_the_same_shard() {
        let (leases, barrier) = (Mutex::new(Vec::new()), std::sync::Barrier::new(100));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    leases.lock().unwrap().push(Shard::mine());
                    barrier.wait();
                });
            }
        });
        let mut leased: Vec<usize> =
            leases.into_inner().unwrap().into_iter().map(|shard| shard.0).filter(|shard| *shard != 0).collect();
        assert!(!leased.is_empty());
        leased.sort_unstable();
        let all = leased.len();
        leased.dedup();
        assert_eq!(leased.len(), all);
    }

    #[test]
    fn a_thread_that_ends_gives_its_shard_back() {
        // Other tests may hold every lease for a moment; what is not given back is gone for good.
        let mut leases = (0..100_000).map(|_| std::thread::spawn(Shard::mine).join().unwrap());
        let own = leases.by_ref().filter(|shard| *shard != Shard::SHARED).take(2 * count()).count();
        assert_eq!(own, 2 * count(), "leases ran out, although one thread lived at a time");
    }

    #[test]
    fn nothing_is_lost_when_more_threads_count_than_there_are_shards() {
        let sharded = Sharded::<AtomicU64>::new();
        std::thread::scope(|scope| {
            for _ in 0..3 * count() {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let shard = Shard::mine();
                        shard.add(sharded.of(shard, AtomicU64::zero), 1);
                    }
                });
            }
        });
        let sum: u64 = sharded.iter().map(|word| word.load(Ordering::Acquire)).sum();
        assert_eq!(sum, 3000 * count() as u64);
    }
}
