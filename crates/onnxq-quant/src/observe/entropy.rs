//! The range for which the quantized histogram tells least apart from the histogram.
//!
//! Szymon Migacz, "8-bit inference with TensorRT", GTC 2017. Windows of bins around 0 are
//! candidates; of each, the histogram with what is outside added to its ends is compared with
//! that of the window quantized to fewer bins and spread out again, by Kullback-Leibler
//! divergence. Details are those of `onnxruntime.quantization`, down to sums and quotients in
//! `f32`, of which ties and near-ties depend.

use super::{histogram::Histogram, percentile::cut};
use crate::{ValueRange, float8::pairwise};

/// What is added to empty bins.
const EPSILON: f64 = 1e-4;

pub(super) fn range(
    histogram: &Histogram,
    quantized_bins: usize,
    observed: ValueRange,
) -> ValueRange {
    let (counts, bins) = (&histogram.counts, histogram.counts.len());
    let middle = bins / 2;
    let total = histogram.total();
    let mut work = Work::default();
    let mut best = (f32::INFINITY, None);
    let (mut before, mut within) = (0u64, None::<u64>);
    // From the widest window inwards, so that what is outside is a running sum.
    for i in (quantized_bins / 2..=middle).rev() {
        let (start, end) = (middle - i, (middle + i + 1).min(bins));
        let inside = *within.get_or_insert_with(|| counts[start..end].iter().sum());
        let after = total - before - inside;
        let divergence = work.divergence(&counts[start..end], [before, after], quantized_bins);
        // The narrowest of equals.
        if divergence <= best.0 {
            best = (divergence, Some((start, end)));
        }
        before += counts[start];
        // The next window ends one bin earlier, or at the same one where this was cut.
        let next_end = (middle + i).min(bins);
        let dropped = counts[start] + counts[next_end..end].iter().sum::<u64>();
        within = Some(inside.saturating_sub(dropped));
    }
    match best.1 {
        Some((start, end)) => {
            let edges = &histogram.edges;
            cut(ValueRange::new(edges[start], edges[end]), observed)
        }
        None => observed,
    }
}

#[derive(Default)]
struct Work {
    p: Vec<u64>,
    q: Vec<u64>,
    smooth: [Vec<f32>; 2],
}

impl Work {
    /// Of the quantized from the true distribution; infinite where one has no values.
    fn divergence(&mut self, window: &[u64], outside: [u64; 2], quantized_bins: usize) -> f32 {
        let len = window.len();
        self.p.clear();
        self.p.extend_from_slice(window);
        self.p[0] += outside[0];
        self.p[len - 1] += outside[1];

        let width = len / quantized_bins;
        self.q.clear();
        self.q.resize(len, 0);
        for bin in 0..quantized_bins {
            let part = bin * width..(bin + 1) * width;
            let counted = match bin + 1 == quantized_bins {
                true => part.start..len,
                false => part.clone(),
            };
            let used = self.p[part.clone()].iter().filter(|&&p| p != 0).count();
            if used != 0 {
                let sum: u64 = window[counted].iter().sum();
                self.q[part].fill(sum / used as u64);
            }
        }
        let [p, q] = &mut self.smooth;
        if smooth(&self.p, p) && smooth(&self.q, q) {
            relative_entropy(p, q)
        } else {
            f32::INFINITY
        }
    }
}

/// The counts as floats, with [`EPSILON`] in empty bins, taken from the others. `false` where
/// all are empty, or there is nothing to take.
fn smooth(counts: &[u64], out: &mut Vec<f32>) -> bool {
    let zeros = counts.iter().filter(|&&c| c == 0).count();
    let others = counts.len() - zeros;
    let taken = EPSILON * zeros as f64 / others as f64;
    if others == 0 || taken >= 1.0 {
        return false;
    }
    let (given, taken) = (EPSILON as f32, -taken as f32);
    out.clear();
    out.extend(counts.iter().map(|&c| match c {
        0 => given,
        c => c as f32 + taken,
    }));
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
