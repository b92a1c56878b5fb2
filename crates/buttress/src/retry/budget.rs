//! How many repeats a client may send: a share of what succeeds, and a share of what is under way.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::shard::{Shard, Sharded, Word, under_way};

/// Of what succeeds.
const SHARE: f64 = 0.1;
const HEDGE_SHARE: f64 = 0.05;
/// Of what is under way, and never fewer than the floor.
const CONCURRENT_SHARE: f64 = 0.2;
const CONCURRENT_FLOOR: u64 = 3;
/// What a client may always send: so many a second, and so many at once.
const RESERVE: f64 = 1.0;
const RESERVE_BURST: f64 = 3.0;
/// After a denial requests are not kept for a repeat for this long.
const PAUSE: Duration = Duration::from_millis(100);
/// Without a denial for this long a budget has recovered. In the middle of trouble there is a token now and then: that
/// it is gone again is no news.
const RECOVERED: Duration = Duration::from_secs(10);

/// A budget for repeats, shared by its clones: give one to several clients of the same server.
///
/// Two conditions hold at once. Repeats under way are at most three, or a fifth of all requests under way. And each repeat
/// takes a token: every success earns a tenth of one, earned tokens fade with a time constant of one second, so that a
/// long time of health buys no storm; one token a second, three at most, is there without any success. Hedges take from
/// the same tokens, and may be a twentieth of the successes.
///
/// The first is Envoy's retry budget, the second goes back to finagle's and to gRPC's retry throttling (A6).
///
/// ```
/// use buttress::retry::{RetryBudget, RetryLayer};
///
/// let budget = RetryBudget::new();
/// let prices = RetryLayer::new().budget(budget.clone());
/// let stock = RetryLayer::new().budget(budget.clone());
/// assert_eq!(budget.counts().denied, 0);
/// # let _ = (prices, stock);
/// ```
#[derive(Clone)]
pub struct RetryBudget(Arc<Inner>);

struct Inner {
    share: f64,
    reserve: f64,
    tallies: Sharded<Arc<Tally>>,
    pool: Mutex<Pool>,
    zero: Instant,
    /// Nanoseconds after `zero` until which the last denial holds; 0 before the first.
    denied_until: AtomicU64,
    spent: AtomicBool,
    withdrawn: AtomicU64,
    denied: AtomicU64,
}

/// What every request writes, each thread its own, on cache lines of its own.
#[repr(align(128))]
pub(super) struct Tally {
    started: AtomicU64,
    ended: AtomicU64,
    successes: AtomicU64,
}

impl Tally {
    fn new() -> Self {
        Self { started: AtomicU64::zero(), ended: AtomicU64::zero(), successes: AtomicU64::zero() }
    }

    #[inline]
    pub(super) fn begin(&self, shard: Shard) {
        shard.add(&self.started, 1);
    }

    #[inline]
    pub(super) fn end(&self, shard: Shard) {
        shard.add(&self.ended, 1);
    }

    #[inline]
    pub(super) fn succeeded(&self, shard: Shard) {
        shard.add(&self.successes, 1);
    }
}

/// How a budget stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BudgetCounts {
    /// Repeats and hedges that were granted, ever.
    pub withdrawn: u64,
    /// Repeats and hedges that were not granted, ever.
    pub denied: u64,
    /// Tokens that are left.
    pub balance: f64,
    /// Repeats and hedges under way.
    pub repeats_in_flight: u64,
    /// Requests under way.
    pub in_flight: u64,
}

/// A budget that cannot be.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BudgetError {
    /// The share of successes is not from 0 to 1.
    Share(f64),
    /// The reserve is negative or no number.
    Reserve(f64),
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "a retry budget is a share of the successes from 0 to 1, not {share}"),
            Self::Reserve(reserve) => {
                write!(f, "a retry budget's reserve is a number of repeats a second from 0 on, not {reserve}")
            }
        }
    }
}

impl std::error::Error for BudgetError {}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Repeat,
    /// Of a request that was a repeat before it came here: only what was earned.
    RepeatOfRepeat,
    Hedge,
}

impl RetryBudget {
    /// A tenth of the successes, and one a second.
    pub fn new() -> Self {
        Self::checked(SHARE, RESERVE)
    }

    /// Another share of the successes (0.1 is a tenth), and another number of repeats a second that need no success.
    ///
    /// # Errors
    ///
    /// [`BudgetError`] when the share is not from 0 to 1, or the reserve is negative or no number.
    pub fn of(share: f64, reserve_per_second: f64) -> Result<Self, BudgetError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(BudgetError::Share(share));
        }
        if !(reserve_per_second >= 0.0 && reserve_per_second.is_finite()) {
            return Err(BudgetError::Reserve(reserve_per_second));
        }
        Ok(Self::checked(share, reserve_per_second))
    }

    fn checked(share: f64, reserve: f64) -> Self {
        let zero = clock::now();
        Self(Arc::new(Inner {
            share,
            reserve,
            tallies: Sharded::new(),
            pool: Mutex::new(Pool::new(zero, reserve)),
            zero,
            denied_until: AtomicU64::new(0),
            spent: AtomicBool::new(false),
            withdrawn: AtomicU64::new(0),
            denied: AtomicU64::new(0),
        }))
    }

    /// How it stands.
    pub fn counts(&self) -> BudgetCounts {
        let mut pool = self.pool();
        self.refill(&mut pool);
        BudgetCounts {
            withdrawn: self.0.withdrawn.load(Relaxed),
            denied: self.0.denied.load(Relaxed),
            balance: pool.earned + pool.reserve,
            repeats_in_flight: pool.repeats,
            in_flight: self.in_flight(),
        }
    }

    pub(super) fn succeeded(&self) {
        let shard = Shard::mine();
        self.tally(shard).succeeded(shard);
    }

    /// What is written on a thread with this shard.
    #[inline]
    pub(super) fn tally(&self, shard: Shard) -> &Arc<Tally> {
        self.0.tallies.of(shard, || Arc::new(Tally::new()))
    }

    /// Whether a repeat has been denied a moment ago, so that it is not worth to keep a request for one.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.0.spent.load(Relaxed) && self.nanos(clock::now()) < self.0.denied_until.load(Relaxed)
    }

    /// Takes a token and a place, or says no, and whether that is the first no since the budget had recovered.
    pub(super) fn withdraw(&self, ask: Ask) -> Result<Withdrawal, bool> {
        let in_flight = self.in_flight();
        let mut pool = self.pool();
        let now = self.refill(&mut pool);
        let granted = pool.withdraw(ask, in_flight);
        drop(pool);
        if let Some(from) = granted {
            self.0.withdrawn.fetch_add(1, Relaxed);
            self.0.spent.store(false, Relaxed);
            return Ok(Withdrawal { budget: self.clone(), from, sent: false });
        }
        self.0.denied.fetch_add(1, Relaxed);
        // That a hedge or a repeat of a repeat gets nothing says nothing about the others.
        if ask != Ask::Repeat {
            return Err(false);
        }
        self.0.spent.store(true, Relaxed);
        // One of those who are denied at the same time is the first: each sees what the one before it left.
        let before = self.0.denied_until.swap(self.nanos(now + PAUSE), Relaxed);
        let recovered = before.saturating_add((RECOVERED - PAUSE).as_nanos() as u64);
        Err(before == 0 || self.nanos(now) >= recovered)
    }

    /// A repeat that was not even thought of, because one was denied a moment ago.
    pub(super) fn deny(&self) {
        self.0.denied.fetch_add(1, Relaxed);
    }

    fn in_flight(&self) -> u64 {
        let ended = self.0.tallies.iter().map(|tally| tally.ended.load(Acquire)).sum();
        under_way(ended, self.0.tallies.iter().map(|tally| &tally.started)).unwrap_or(0)
    }

    fn refill(&self, pool: &mut Pool) -> Instant {
        let now = clock::now();
        let successes = self.0.tallies.iter().map(|tally| tally.successes.load(Acquire)).sum();
        pool.refill(now, successes, self.0.share, self.0.reserve);
        now
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.zero).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryBudget").field(&self.counts()).finish()
    }
}

/// A granted repeat. Dropped, it gives its place back, and its token if it was never sent.
#[derive(Debug)]
pub(super) struct Withdrawal {
    budget: RetryBudget,
    from: From,
    sent: bool,
}

impl Withdrawal {
    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    /// Gives it back as if it had not been sent.
    pub(super) fn unsent(mut self) {
        self.sent = false;
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.budget.pool().give_back(self.from, self.sent);
    }
}

/// Which tokens were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct From {
    earned: bool,
    hedge: bool,
}

/// The tokens: pure, knows no clock.
#[derive(Debug)]
struct Pool {
    at: Instant,
    /// Successes until then.
    seen: u64,
    earned: f64,
    reserve: f64,
    hedges: f64,
    repeats: u64,
}

impl Pool {
    fn new(at: Instant, reserve: f64) -> Self {
        Self { at, seen: 0, earned: 0.0, reserve: most_reserve(reserve), hedges: 0.0, repeats: 0 }
    }

    /// What was earned since the last time, as if it had come evenly, less what has faded.
    fn refill(&mut self, now: Instant, successes: u64, share: f64, reserve: f64) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let new = successes.saturating_sub(self.seen) as f64;
        let kept = (-passed).exp();
        // Of tokens that come evenly and fade all the while, this share is there in the end.
        let fresh = if passed > 1e-9 { new * (1.0 - kept) / passed } else { new };
        self.earned = self.earned * kept + share * fresh;
        self.hedges = self.hedges * kept + HEDGE_SHARE * fresh;
        self.reserve = (self.reserve + reserve * passed).min(most_reserve(reserve));
        (self.at, self.seen) = (self.at.max(now), successes.max(self.seen));
    }

    fn withdraw(&mut self, ask: Ask, in_flight: u64) -> Option<From> {
        let most = CONCURRENT_FLOOR.max((in_flight as f64 * CONCURRENT_SHARE) as u64);
        let hedge = ask == Ask::Hedge;
        if self.repeats >= most || (hedge && self.hedges < 1.0) {
            return None;
        }
        let earned = self.earned >= 1.0;
        if !earned && (ask != Ask::Repeat || self.reserve < 1.0) {
            return None;
        }
        if earned {
            self.earned -= 1.0;
        } else {
            self.reserve -= 1.0;
        }
        if hedge {
            self.hedges -= 1.0;
        }
        self.repeats += 1;
        Some(From { earned, hedge })
    }

    fn give_back(&mut self, from: From, sent: bool) {
        self.repeats -= 1;
        if sent {
            return;
        }
        if from.earned {
            self.earned += 1.0;
        } else {
            self.reserve += 1.0;
        }
        if from.hedge {
            self.hedges += 1.0;
        }
    }
}

fn most_reserve(per_second: f64) -> f64 {
    if per_second > 0.0 { RESERVE_BURST.max(per_second) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MANY: u64 = 1_000_000;

    fn granted(budget: &RetryBudget, ask: Ask, asked: usize) -> Vec<Withdrawal> {
        (0..asked).filter_map(|_| budget.withdraw(ask).ok()).collect()
    }

    fn succeed(budget: &RetryBudget, times: usize) {
        (0..times).for_each(|_| budget.succeeded());
    }

    #[tokio::test(start_paused = true)]
    async fn sixty_percent_are_sixty_percent() {
        for (share, tokens) in [(0.6, 600), (0.4, 400), (0.1, 100), (1.0, 1000)] {
            let mut pool = Pool::new(clock::now(), 0.0);
            pool.refill(clock::now(), 1000, share, 0.0);
            let granted = (0..2000).filter(|_| pool.withdraw(Ask::Repeat, MANY).is_some()).count();
            assert!((tokens - 1..=tokens).contains(&granted), "{share}: {granted}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_may_be_under_way_at_once_or_a_fifth_of_all() {
        let budget = RetryBudget::new();
        succeed(&budget, 1000);
        assert_eq!(granted(&budget, Ask::Repeat, 10).len(), 3);
        (0..100).for_each(|_| budget.tally(Shard::mine()).begin(Shard::mine()));
        let taken = granted(&budget, Ask::Repeat, 50);
        assert_eq!((taken.len(), budget.counts().repeats_in_flight, budget.counts().in_flight), (20, 20, 100));
        drop(taken);
        assert_eq!(budget.counts().repeats_in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_time_of_health_buys_a_second_of_repeats_and_an_idle_month_nothing() {
        let budget = RetryBudget::new();
        for _ in 0..100 {
            succeed(&budget, 70);
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        // 700 a second, of which a tenth, and three in reserve.
        let balance = budget.counts().balance;
        assert!((65.0..=80.0).contains(&balance), "{balance}");
        tokio::time::advance(Duration::from_secs(30 * 24 * 3600)).await;
        assert!((2.9..=3.1).contains(&budget.counts().balance));
        assert!(budget.withdraw(Ask::Repeat).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_earned_in_the_last_moment_is_there_but_for_what_has_faded_of_it() {
        let budget = RetryBudget::of(0.1, 0.0).unwrap();
        succeed(&budget, 1000);
        tokio::time::advance(Duration::from_millis(100)).await;
        // 1,000 that came evenly in a tenth of a second: a twentieth has faded of them.
        let balance = budget.counts().balance;
        assert!((95.0..95.5).contains(&balance), "{balance}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_not_under_way_and_what_was_not_sent_is_paid_back() {
        let budget = RetryBudget::new();
        let (shard, tally) = (Shard::mine(), budget.tally(Shard::mine()));
        (0..100).for_each(|_| tally.begin(shard));
        (0..60).for_each(|_| tally.end(shard));
        assert_eq!(budget.counts().in_flight, 40);
        let before = budget.counts().balance;
        let mut repeat = budget.withdraw(Ask::Repeat).unwrap();
        repeat.sent();
        repeat.unsent();
        assert_eq!(budget.counts().balance, before);
        budget.withdraw(Ask::Repeat).unwrap().sent();
        assert_eq!(budget.counts().balance, before - 1.0);
        // A hedge that was not sent is one that may be sent later.
        succeed(&budget, 100);
        let before = budget.counts().balance;
        drop(budget.withdraw(Ask::Hedge).unwrap());
        assert_eq!(budget.counts().balance, before);
        let mut hedges = granted(&budget, Ask::Hedge, 20);
        hedges.iter_mut().for_each(Withdrawal::sent);
        assert_eq!(hedges.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_reserve_is_for_those_who_come_for_the_first_time() {
        let budget = RetryBudget::new();
        assert!(budget.withdraw(Ask::RepeatOfRepeat).is_err());
        assert!(budget.withdraw(Ask::Hedge).is_err());
        assert!(budget.withdraw(Ask::Repeat).is_ok());
        succeed(&budget, 20);
        assert!(budget.withdraw(Ask::RepeatOfRepeat).is_ok());
        assert!(budget.withdraw(Ask::Hedge).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_no_requests_are_not_kept_for_a_moment() {
        let budget = RetryBudget::of(0.0, 1.0).unwrap();
        granted(&budget, Ask::Repeat, 3).iter_mut().for_each(Withdrawal::sent);
        assert!(!budget.is_paused());
        assert!(budget.withdraw(Ask::Repeat).is_err());
        assert!(budget.is_paused());
        tokio::time::advance(PAUSE).await;
        assert!(!budget.is_paused());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_no_is_told_apart_until_there_was_none_for_ten_seconds() {
        let budget = RetryBudget::of(0.0, 1.0).unwrap();
        let first = |expected: bool| {
            let nos: Vec<_> =
                (0..10).filter_map(|_| budget.withdraw(Ask::Repeat).map(|mut taken| taken.sent()).err()).collect();
            assert!(nos.len() > 1);
            assert_eq!((nos[0], nos[1..].contains(&true)), (expected, false));
        };
        first(true);
        // More is asked for than the reserve has: for a minute there is a yes a second, and a no after it.
        for _ in 0..60 {
            tokio::time::advance(Duration::from_secs(1)).await;
            first(false);
        }
        tokio::time::advance(RECOVERED - Duration::from_nanos(1)).await;
        first(false);
        tokio::time::advance(RECOVERED).await;
        first(true);
    }

    #[test]
    fn wrong_values_are_told_with_what_is_accepted() {
        let error = RetryBudget::of(1.5, 1.0).unwrap_err();
        assert_eq!(error.to_string(), "a retry budget is a share of the successes from 0 to 1, not 1.5");
        for (share, reserve) in [(f64::NAN, 1.0), (-0.1, 1.0), (0.1, -1.0), (0.1, f64::INFINITY)] {
            assert!(RetryBudget::of(share, reserve).is_err(), "{share} {reserve}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Succeed(u64),
        Pass(Duration),
        Withdraw(Ask, u64),
        /// Drops the one of this place.
        Drop(prop::sample::Index, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let ask = prop_oneof![Just(Ask::Repeat), Just(Ask::RepeatOfRepeat), Just(Ask::Hedge)];
        let step = prop_oneof![
            (0..200_u64).prop_map(Step::Succeed),
            (0..5000_u64).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
            (ask, 0..100_u64).prop_map(|(ask, in_flight)| Step::Withdraw(ask, in_flight)),
            (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, sent)| Step::Drop(which, sent)),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn no_more_is_ever_granted_than_was_earned_and_held_in_reserve(steps in steps(), share in 0.0..1.0f64, reserve in 0.0..5.0f64) {
            let start = clock::now();
            let (mut now, mut successes) = (start, 0);
            let mut pool = Pool::new(now, reserve);
            let (mut spent, mut hedged, mut held) = (0.0, 0.0, Vec::new());
            for step in steps {
                match step {
                    Step::Succeed(more) => successes += more,
                    Step::Pass(time) => now += time,
                    Step::Withdraw(ask, in_flight) => {
                        pool.refill(now, successes, share, reserve);
                        if let Some(from) = pool.withdraw(ask, in_flight) {
                            held.push(from);
                            spent += 1.0;
                            hedged += f64::from(u8::from(ask == Ask::Hedge));
                            prop_assert!(pool.repeats <= 3.max(in_flight / 5));
                        }
                    }
                    Step::Drop(which, sent) => {
                        if !held.is_empty() {
                            let from = held.swap_remove(which.index(held.len()));
                            pool.give_back(from, sent);
                            if !sent {
                                spent -= 1.0;
                                hedged -= f64::from(u8::from(from.hedge));
                            }
                        }
                    }
                }
                prop_assert_eq!(pool.repeats as usize, held.len());
                let ever = most_reserve(reserve) + reserve * (now - start).as_secs_f64() + share * successes as f64;
                prop_assert!(spent <= ever + 1e-6, "{} of {}", spent, ever);
                prop_assert!(hedged <= HEDGE_SHARE * successes as f64 + 1e-6);
            }
        }
    }
}
