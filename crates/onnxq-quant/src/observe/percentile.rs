//! The range that leaves out the farthest values.

use super::histogram::Histogram;
use crate::ValueRange;

/// Of magnitudes: the same end on both sides, then cut to what was observed.
pub(super) fn of_magnitudes(
    histogram: &Histogram,
    percentile: f64,
    observed: ValueRange,
) -> ValueRange {
    let end = histogram.edges[reaching(histogram, &[percentile / 100.0])[0]];
    cut(ValueRange::new(-end, end), observed)
}

/// Of values: half of what is left out at each end.
pub(super) fn of_values(
    histogram: &Histogram,
    percentile: f64,
    observed: ValueRange,
) -> ValueRange {
    let left_out = (100.0 - percentile) / 200.0;
    let ends = reaching(histogram, &[left_out, 1.0 - left_out]);
    let [lo, hi] = [ends[0], ends[1]].map(|i| histogram.edges[i]);
    cut(ValueRange::new(lo, hi), observed)
}

/// For each share the first bin up to which there is at least this share of the values, or the
/// number of bins where rounding leaves the sum of all below it.
fn reaching(histogram: &Histogram, shares: &[f64]) -> Vec<usize> {
    let total = histogram.total() as f64;
    let sums = histogram.counts.iter().scan(0.0, |sum, &count| {
        *sum += count as f64 / total;
        Some(*sum)
    });
    let sums: Vec<f64> = sums.collect();
    let first = |&share| sums.partition_point(|&sum| sum < share);
    shares.iter().map(first).collect()
}

/// Each end separately, so that one side may be longer than the other. Where the edges of bins
/// are not exact, the ends of a range without 0 can cross: the one farther from 0 stays, which
/// alone decides the scale.
pub(super) fn cut(range: ValueRange, observed: ValueRange) -> ValueRange {
    let lo = range.lo.max(observed.lo);
    let hi = range.hi.min(observed.hi);
    match lo <= hi {
        true => ValueRange { lo, hi },
        false if hi > 0.0 => ValueRange { lo: hi, hi },
        false => ValueRange { lo, hi: lo },
    }
}
