//! Everything random here comes from one generator for each thread: ids, jitter, ramps. It can be seeded.

use std::cell::RefCell;

use rand::rngs::{SmallRng, SysRng};
use rand::{Rng, SeedableRng};

thread_local! {
    static GENERATOR: RefCell<SmallRng> = RefCell::new(
        SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| SmallRng::seed_from_u64(fallback_seed())),
    );
}

/// Makes what is random on this thread repeatable from here on, for tests and simulations.
///
/// ```
/// use buttress::context::TraceId;
///
/// buttress::random::seed(7);
/// let first = TraceId::random();
/// buttress::random::seed(7);
/// assert_eq!(TraceId::random(), first);
/// ```
pub fn seed(seed: u64) {
    GENERATOR.with_borrow_mut(|generator| *generator = SmallRng::seed_from_u64(seed));
}

/// As long as it lives, what is random on this thread is repeatable; then it goes on where it was.
#[cfg(feature = "simulate")]
pub(crate) struct Seeded(SmallRng);

#[cfg(feature = "simulate")]
impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(GENERATOR.replace(SmallRng::seed_from_u64(seed)))
    }
}

#[cfg(feature = "simulate")]
impl Drop for Seeded {
    fn drop(&mut self) {
        GENERATOR.with_borrow_mut(|generator| std::mem::swap(generator, &mut self.0));
    }
}

/// 64 random bits.
pub(crate) fn next_u64() -> u64 {
    GENERATOR.with_borrow_mut(SmallRng::next_u64)
}

/// A number from 0 up to, and not including, 1.
#[cfg(any(feature = "circuit-breaker", feature = "retry"))]
pub(crate) fn unit() -> f64 {
    // The 53 bits that a float can hold exactly.
    (next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Random bytes.
#[cfg(feature = "propagate")]
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    GENERATOR.with_borrow_mut(|generator| generator.fill_bytes(&mut bytes));
    bytes
}

/// The operating system gave no entropy: the hasher's per-process keys are the next best source.
fn fallback_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::thread::current().id())
}
