//! Mean and standard deviation, from which `float8` has its scale.

use super::histogram::Histogram;
use crate::{Moments, float8::pairwise};

/// Of values in the middles of bins. Middles and their squares are `f32`, all else `f64`, with
/// the sums in NumPy's order.
pub(super) fn moments(histogram: &Histogram) -> Moments {
    let middles = histogram.edges.windows(2).map(|e| (e[0] + e[1]) * 0.5);
    let weighted: Vec<(f64, f32)> = histogram
        .counts
        .iter()
        .map(|&c| c as f64)
        .zip(middles)
        .collect();
    let total = histogram.total() as f64;
    let mean = pairwise(&weighted, &|(n, v)| n * f64::from(v)) / total;
    let square = pairwise(&weighted, &|(n, v)| n * square(v)) / total;
    Moments {
        mean: mean as f32,
        deviation: (square - mean * mean).max(0.0).sqrt() as f32,
    }
}

/// The square in `f32`, unless that is too small for its precision (where the reference makes
/// the deviation NaN).
fn square(v: f32) -> f64 {
    match v * v {
        tiny if tiny < f32::MIN_POSITIVE => f64::from(v) * f64::from(v),
        square => f64::from(square),
    }
}
