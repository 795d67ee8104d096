//! The range for which the quantized histogram tells least apart from the histogram.
//!
//! Szymon Migacz, "8-bit inference with TensorRT", GTC 2017. Windows of bins around 0 are
//! candidates; of each, the histogram with what is outside added to its ends is compared with
//! that of the window quantized to fewer bins and spread out again, by Kullback-Leibler
//! divergence. Details are those of `onnxruntime.quantization`, down to sums and quotients in
//! `f32`, of which ties and near-ties depend.

use std::ops::Range;

use super::{histogram::Histogram, percentile::cut};
use crate::{ValueRange, float8::pairwise};

/// What is added to empty bins.
const EPSILON: f64 = 1e-4;

pub(super) fn range(
    histogram: &Histogram,
    quantized_bins: usize,
    observed: ValueRange,
) -> ValueRange {
    let bins = histogram.counts.len();
    let middle = bins / 2;
    let mut search = Search::new(histogram, quantized_bins);
    let mut best = (f32::INFINITY, None);
    for i in quantized_bins / 2..=middle {
        let window = middle - i..(middle + i + 1).min(bins);
        let divergence = search.divergence(window.clone());
        // The narrowest of equals.
        if best.1.is_none() || divergence < best.0 {
            best = (divergence, Some(window));
        }
    }
    match best.1 {
        Some(window) => {
            let [lo, hi] = [window.start, window.end].map(|i| histogram.edges[i]);
            cut(ValueRange::new(lo, hi), observed)
        }
        None => observed,
    }
}

/// A histogram, and room for a window's distribution and the quantized one.
struct Search {
    quantized_bins: usize,
    floats: Vec<f32>,
    /// How many values are in all bins before.
    before: Vec<u64>,
    p: Vec<f32>,
    q: Vec<f32>,
}

impl Search {
    fn new(histogram: &Histogram, quantized_bins: usize) -> Search {
        let mut before = vec![0];
        let mut sum = 0u64;
        before.extend(histogram.counts.iter().map(|&count| {
            sum = sum.saturating_add(count);
            sum
        }));
        Search {
            quantized_bins,
            floats: histogram.counts.iter().map(|&count| count as f32).collect(),
            before,
            p: Vec::new(),
            q: Vec::new(),
        }
    }

    /// How many values are in these bins.
    fn sum(&self, bins: Range<usize>) -> u64 {
        self.before[bins.end] - self.before[bins.start]
    }

    /// Of the quantized from the true distribution; infinite where one has no values.
    fn divergence(&mut self, window: Range<usize>) -> f32 {
        let (len, bins) = (window.len(), self.floats.len());
        let mut p = std::mem::take(&mut self.p);
        p.clear();
        p.extend_from_slice(&self.floats[window.clone()]);
        // Both at once where the window is a single bin.
        let first = 0..window.start + 1;
        let last = window.end - 1..bins;
        if len == 1 {
            p[0] = self.sum(0..bins) as f32;
        } else {
            (p[0], p[len - 1]) = (self.sum(first) as f32, self.sum(last) as f32);
        }

        let mut q = std::mem::take(&mut self.q);
        q.clear();
        q.resize(len, 0.0);
        let width = len / self.quantized_bins;
        for bin in 0..self.quantized_bins {
            let part = bin * width..(bin + 1) * width;
            let used = p[part.clone()].iter().filter(|&&p| p != 0.0).count();
            if used != 0 {
                let end = match bin + 1 == self.quantized_bins {
                    true => len,
                    false => part.end,
                };
                let sum = self.sum(window.start + part.start..window.start + end);
                q[part].fill((sum / used as u64) as f32);
            }
        }
        let divergence = match smooth(&mut p) && smooth(&mut q) {
            true => relative_entropy(&mut p, &q),
            false => f32::INFINITY,
        };
        (self.p, self.q) = (p, q);
        divergence
    }
}

/// Puts [`EPSILON`] in empty bins, taken from the others. `false` where all are empty, or there
/// is nothing to take.
fn smooth(counts: &mut [f32]) -> bool {
    let zeros: u32 = counts.iter().map(|&c| u32::from(c == 0.0)).sum();
    let others = counts.len() - zeros as usize;
    let taken = EPSILON * f64::from(zeros) / others as f64;
    if others == 0 || taken >= 1.0 {
        return false;
    }
    let (given, taken) = (EPSILON as f32, -taken as f32);
    for c in counts {
        *c = if *c == 0.0 { given } else { *c + taken };
    }
    true
}

/// `sum P ln(P / Q)`, where P and Q are `p` and `q` divided by their sums.
fn relative_entropy(p: &mut [f32], q: &[f32]) -> f32 {
    let sums = [pairwise(p, &|v| v), pairwise(q, &|v| v)];
    for (p, &q) in p.iter_mut().zip(q) {
        let (share, other) = (*p / sums[0], q / sums[1]);
        *p = share * ln(share / other);
    }
    pairwise(p, &|v| v)
}

/// The natural logarithm of a positive normal number, correctly rounded but for rare ties: the
/// series of `atanh` in `f64`, which the vectorizer can have, and the same on every machine.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let offset = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = f64::from(offset as i32 >> 23);
    let mantissa = f64::from(f32::from_bits((offset & 0x7f_ffff) + SQRT_HALF));
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let s = z * z;
    let series = [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0]
        .into_iter()
        .fold(0.0, |sum, n| sum * s + 1.0 / n);
    (exponent * std::f64::consts::LN_2 + 2.0 * z * series) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms() {
        for i in 0..200_000u32 {
            let x = f32::from_bits(0x0080_0000 + i * 10_607);
            let expected = f64::from(x).ln() as f32;
            let near = [expected.next_down(), expected, expected.next_up()];
            assert!(near.contains(&ln(x)), "{x} {} {expected}", ln(x));
        }
        assert_eq!(ln(1.0), 0.0);
    }
}
