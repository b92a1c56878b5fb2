//! Log-linear buckets: every power of two in equal parts, as HdrHistogram has them (Gil Tene, hdrhistogram.org).

use std::fmt;

/// How finely values are told apart: each power of two in `2^bits` parts, so that a value is known to one part in
/// `2^bits`.
///
/// 4, 7 and 10 bits are, bucket for bucket, HdrHistogram's with 1, 2 and 3 significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision(u8);

impl Precision {
    /// 3.1 %; the default.
    pub const DEFAULT: Self = Self(5);
    /// 6.3 %, HdrHistogram's 1 digit.
    pub const ONE_DIGIT: Self = Self(4);
    /// 0.78 %, HdrHistogram's 2 digits.
    pub const TWO_DIGITS: Self = Self(7);
    /// 0.098 %, HdrHistogram's 3 digits.
    pub const THREE_DIGITS: Self = Self(10);

    /// A bucket for each power of two, for models: every word that is read costs them time.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(0);

    /// So many bits: 3 to 10.
    ///
    /// # Errors
    ///
    /// [`PrecisionError`] for any other number.
    pub const fn bits(bits: u8) -> Result<Self, PrecisionError> {
        if bits < 3 || bits > 10 { Err(PrecisionError(bits)) } else { Ok(Self(bits)) }
    }

    /// The largest difference between a value and what is told of it, as a part of the value.
    pub fn error(self) -> f64 {
        1.0 / f64::from(1_u32 << self.0)
    }

    pub(crate) fn parts(self) -> usize {
        1 << self.0
    }

    /// The power of two of a value's bucket, and its place among the parts of that: [`index`](Self::index) in two.
    #[inline]
    pub(crate) fn place(self, value: u64) -> (usize, usize) {
        let (shift, top) = self.shifted(value);
        (shift + (top >> self.0), top & (self.parts() - 1))
    }

    /// The bucket of a value.
    #[inline]
    pub(crate) fn index(self, value: u64) -> usize {
        let (shift, top) = self.shifted(value);
        (shift << self.0) + top
    }

    /// How many bits of a value do not count, and the others.
    #[inline]
    fn shifted(self, value: u64) -> (usize, usize) {
        let value = value.min(LARGEST);
        let shift = (63 - (value | 1).leading_zeros()).saturating_sub(u32::from(self.0));
        (shift as usize, (value >> shift) as usize)
    }

    /// The least value of a bucket.
    pub(crate) fn lowest(self, index: usize) -> u64 {
        let shift = self.shift(index);
        ((index - (shift << self.0)) as u64) << shift
    }

    /// The largest value of a bucket.
    pub(crate) fn highest(self, index: usize) -> u64 {
        self.lowest(index) + (1 << self.shift(index)) - 1
    }

    /// Buckets for every value.
    pub(crate) fn buckets(self) -> usize {
        self.index(LARGEST) + 1
    }

    fn shift(self, index: usize) -> usize {
        (index >> self.0).saturating_sub(1)
    }
}

/// What is larger counts as this: 52 days in microseconds, 4 TiB in bytes.
pub(crate) const LARGEST: u64 = (1 << 42) - 1;

impl Default for Precision {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A number of bits that [`Precision`] has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrecisionError(u8);

impl fmt::Display for PrecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits of precision; accepted are 3 to 10", self.0)
    }
}

impl std::error::Error for PrecisionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_begins_where_the_one_before_it_ends() {
        for bits in 3..=10 {
            let precision = Precision::bits(bits).unwrap();
            assert_eq!(precision.lowest(0), 0);
            for index in 1..precision.buckets() {
                assert_eq!(precision.lowest(index), precision.highest(index - 1) + 1);
                let place = precision.place(precision.highest(index));
                assert_eq!(place, (index / precision.parts(), index % precision.parts()));
                assert_eq!(precision.index(precision.lowest(index)), index);
                assert_eq!(precision.index(precision.highest(index)), index);
            }
            assert_eq!(precision.highest(precision.buckets() - 1), LARGEST);
        }
    }

    #[test]
    fn the_buckets_are_those_of_hdrhistogram() {
        for (precision, digits) in [(Precision::ONE_DIGIT, 1), (Precision::TWO_DIGITS, 2), (Precision::THREE_DIGITS, 3)]
        {
            let histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, LARGEST, digits).unwrap();
            for index in 0..precision.buckets() {
                let (lowest, highest) = (precision.lowest(index), precision.highest(index));
                assert_eq!(histogram.lowest_equivalent(lowest), lowest);
                assert_eq!(histogram.highest_equivalent(lowest), highest);
            }
        }
    }

    #[test]
    fn a_number_of_bits_that_makes_no_sense_is_refused() {
        assert_eq!(Precision::bits(2).unwrap_err().to_string(), "2 bits of precision; accepted are 3 to 10");
        assert!(Precision::bits(11).is_err());
    }
}
