//! The range of the least squared error of quantization.
//!
//! A wider range has coarser steps, a narrower one cuts more values off. The error of a candidate
//! is that of the values in the middles of the bins. Ends move one after the other, each through
//! [`CANDIDATES`] fractions of its full length, until neither improves; ranges always hold 0.

use super::{histogram::Histogram, percentile::cut};
use crate::ValueRange;

/// Lengths that an end is tried at.
const CANDIDATES: u32 = 128;

/// How often both ends are tried at most. Few tensors need three times.
const ROUNDS: usize = 8;

pub(super) fn range(
    histogram: &Histogram,
    steps: usize,
    symmetric: bool,
    observed: ValueRange,
) -> ValueRange {
    let full = [
        f64::from(observed.lo.min(0.0)),
        f64::from(observed.hi.max(0.0)),
    ];
    if full == [0.0, 0.0] {
        return observed;
    }
    let search = Search::new(histogram, steps);
    let [lo, hi] = match symmetric {
        true => {
            let a = full[1].max(-full[0]);
            let best = search.best(&|f| [-a * f, a * f]);
            [-a * best, a * best]
        }
        false => search.descend(full),
    };
    cut(ValueRange::new(lo as f32, hi as f32), observed)
}

struct Search {
    /// Middles of bins and how many values they stand for.
    weighted: Vec<(f64, f64)>,
    steps: f64,
}

impl Search {
    /// Values in the bin of 0 count as 0: most are, where there are many.
    fn new(histogram: &Histogram, steps: usize) -> Search {
        let bins = histogram.edges.windows(2).zip(&histogram.counts);
        let weighted = bins.filter(|(_, count)| **count > 0).map(|(edges, &n)| {
            let [a, b] = [edges[0], edges[1]].map(f64::from);
            let middle = if a <= 0.0 && 0.0 < b {
                0.0
            } else {
                (a + b) / 2.0
            };
            (middle, n as f64)
        });
        Search {
            weighted: weighted.collect(),
            steps: steps as f64,
        }
    }

    fn descend(&self, full: [f64; 2]) -> [f64; 2] {
        let mut range = full;
        for _ in 0..ROUNDS {
            let before = range;
            for end in [1, 0].into_iter().filter(|&end| full[end] != 0.0) {
                let fraction = self.best(&|f| {
                    let mut range = range;
                    range[end] = full[end] * f;
                    range
                });
                range[end] = full[end] * fraction;
            }
            if range == before {
                break;
            }
        }
        range
    }

    /// The fraction whose range has the least error; the widest of equals.
    fn best(&self, range: &dyn Fn(f64) -> [f64; 2]) -> f64 {
        let mut best = (f64::INFINITY, 1.0);
        for i in (1..=CANDIDATES).rev() {
            let fraction = f64::from(i) / f64::from(CANDIDATES);
            let error = self.error(range(fraction));
            if error < best.0 {
                best = (error, fraction);
            }
        }
        best.1
    }

    fn error(&self, [lo, hi]: [f64; 2]) -> f64 {
        /// Adding this rounds to an integer, ties to even.
        const ROUND: f64 = 6_755_399_441_055_744.0;
        let scale = (hi - lo) / self.steps;
        let inverse = 1.0 / scale;
        if !inverse.is_finite() {
            return f64::INFINITY;
        }
        let least = (lo * inverse).round_ties_even();
        let most = least + self.steps;
        let square = |(x, n): (f64, f64)| {
            let code = x * inverse;
            let code = if code > least { code } else { least };
            let code = if code < most { code } else { most };
            let error = x - scale * ((code + ROUND) - ROUND);
            n * error * error
        };
        let mut sums = [0.0; 8];
        let (blocks, rest) = self.weighted.as_chunks::<8>();
        for block in blocks {
            for (sum, &v) in sums.iter_mut().zip(block) {
                *sum += square(v);
            }
        }
        let rest: f64 = rest.iter().map(|&v| square(v)).sum();
        sums.iter().sum::<f64>() + rest
    }
}
