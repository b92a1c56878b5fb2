use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The bounds of a histogram's buckets: what is equal to a bound lies in its bucket (Prometheus' `le`), what is above the
/// last lies in one more.
///
/// ```
/// use std::time::Duration;
///
/// use buttress::metrics::Buckets;
///
/// let buckets = Buckets::durations([10, 50, 250].map(Duration::from_millis))?;
/// assert!(Buckets::values([3, 2]).is_err());
/// # let _ = buckets;
/// # Ok::<(), buttress::metrics::BucketsError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Buckets(Arc<Bounds>);

#[derive(PartialEq, Eq)]
struct Bounds {
    bounds: Box<[u64]>,
    /// For each number of bits, the first bucket in which a value of so many may lie.
    first: [u16; 65],
}

/// More would make every series and every scrape large.
const MOST: usize = 256;

impl Buckets {
    /// For [`Timer`](super::Timer)s.
    ///
    /// # Errors
    ///
    /// [`BucketsError`] unless the bounds rise, and there are 1 to 256 of them.
    pub fn durations(bounds: impl IntoIterator<Item = Duration>) -> Result<Self, BucketsError> {
        Self::values(bounds.into_iter().map(nanos))
    }

    /// For [`Histogram`](super::Histogram)s.
    ///
    /// # Errors
    ///
    /// [`BucketsError`] unless the bounds rise, and there are 1 to 256 of them.
    pub fn values(bounds: impl IntoIterator<Item = u64>) -> Result<Self, BucketsError> {
        let bounds: Vec<u64> = bounds.into_iter().take(MOST + 1).collect();
        if bounds.is_empty() || bounds.len() > MOST {
            return Err(BucketsError::Count);
        }
        match bounds.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(at) => Err(BucketsError::Order { before: bounds[at], after: bounds[at + 1] }),
            None => Ok(Self::of(bounds)),
        }
    }

    /// 5 ms to 10 s in 14 steps: what OpenTelemetry advises for the durations of HTTP and RPC. The default of timers.
    pub fn http() -> Self {
        Self::millis(&[5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000])
    }

    /// 25 ms to 5 s in 11 steps: finer where a page is felt to be slow.
    pub fn page() -> Self {
        Self::millis(&[25, 50, 100, 200, 350, 500, 750, 1000, 1500, 2500, 5000])
    }

    /// 256 bytes to 64 MiB in steps of four. The default of histograms.
    pub fn sizes() -> Self {
        Self::of((4..14).map(|power| 1 << (2 * power)).collect())
    }

    fn millis(bounds: &[u64]) -> Self {
        Self::of(bounds.iter().map(|millis| millis * 1_000_000).collect())
    }

    fn of(bounds: Vec<u64>) -> Self {
        let least = |bits: usize| if bits == 0 { 0 } else { 1_u64 << (bits - 1) };
        let first = std::array::from_fn(|bits| bounds.partition_point(|bound| *bound < least(bits)) as u16);
        Self(Arc::new(Bounds { bounds: bounds.into(), first }))
    }

    /// The bucket of a value: few bounds lie within one power of two, so that this is less than a binary search.
    #[inline]
    pub(crate) fn index(&self, value: u64) -> usize {
        let Bounds { bounds, first } = &*self.0;
        let mut index = usize::from(first[(u64::BITS - value.leading_zeros()) as usize]);
        while bounds.get(index).is_some_and(|bound| *bound < value) {
            index += 1;
        }
        index
    }

    pub(crate) fn bounds(&self) -> &[u64] {
        &self.0.bounds
    }
}

/// A duration as histograms count it: nanoseconds, 584 years at most.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    match duration.as_secs() {
        seconds if seconds < u64::MAX / SECOND => seconds * SECOND + u64::from(duration.subsec_nanos()),
        _ => u64::MAX,
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.bounds()).finish()
    }
}

/// Bounds that make no [`Buckets`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BucketsError {
    /// None, or too many.
    Count,
    /// A bound that is not above the one before it.
    Order {
        /// The one before it; nanoseconds for durations.
        before: u64,
        /// The bound.
        after: u64,
    },
}

impl fmt::Display for BucketsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => write!(f, "accepted are 1 to {MOST} bounds of buckets"),
            Self::Order { before, after } => {
                write!(f, "the bound {after} follows {before}; accepted are bounds that rise")
            }
        }
    }
}

impl std::error::Error for BucketsError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_that_equals_a_bound_lies_in_its_bucket() {
        let buckets = Buckets::values([10, 20]).unwrap();
        assert_eq!([0, 10, 11, 20, 21, u64::MAX].map(|value| buckets.index(value)), [0, 0, 1, 1, 2, 2]);
    }

    proptest! {
        #[test]
        fn the_bucket_is_that_of_a_search(
            mut bounds in prop::collection::vec(any::<u64>().prop_map(|bound| bound >> (bound % 64)), 1..40),
            values in prop::collection::vec(any::<u64>().prop_map(|value| value >> (value % 64)), 0..40),
        ) {
            bounds.sort_unstable();
            bounds.dedup();
            let buckets = Buckets::values(bounds.iter().copied()).unwrap();
            for value in values.iter().chain(&bounds).copied() {
                prop_assert_eq!(buckets.index(value), bounds.partition_point(|bound| *bound < value));
            }
        }
    }

    #[test]
    fn the_ready_made_bounds_are_accepted_ones() {
        for buckets in [Buckets::http(), Buckets::page(), Buckets::sizes()] {
            assert_eq!(Buckets::values(buckets.bounds().iter().copied()), Ok(buckets));
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_is_accepted() {
        let error = |bounds: &[u64]| Buckets::values(bounds.iter().copied()).unwrap_err().to_string();
        assert_eq!(error(&[1, 5, 5]), "the bound 5 follows 5; accepted are bounds that rise");
        assert_eq!(error(&[]), "accepted are 1 to 256 bounds of buckets");
        assert!(Buckets::values(0..).is_err());
    }
}
