//! Histograms of equal bins, as NumPy 2 makes them of `f32`s.
//!
//! Edges and numbers of bins are computed in `f32`: `edge[i] = f32(f32(i) * step) + first`, and a
//! number from the quotient `(x - first) / (last - first)`, corrected by one where the edges say
//! so. <https://numpy.org/doc/stable/reference/generated/numpy.histogram.html>

use super::values::{Form, Values};
use crate::ValueRange;

/// Counts of values between edges.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Histogram {
    pub(super) counts: Vec<u64>,
    /// One more than counts.
    pub(super) edges: Vec<f32>,
}

impl Histogram {
    /// Of values in `[-t, t]`, where `t` is the largest magnitude of `observed`.
    pub(super) fn signed(values: &Values, observed: ValueRange, bins: usize) -> Histogram {
        let t = observed.lo.abs().max(observed.hi.abs());
        Histogram::between(values, observed, ValueRange::new(-t, t), bins)
    }

    /// Of values, all in `observed`, which lies in `range`.
    pub(super) fn between(
        values: &Values,
        observed: ValueRange,
        range: ValueRange,
        bins: usize,
    ) -> Histogram {
        let grid = Grid::new(range, bins);
        let counts = match &values.form {
            Form::Kept(pieces) => grid.count(pieces.iter().flatten().copied()),
            Form::Counted(_) if observed.lo == observed.hi => grid.all(observed.lo, values.count),
            Form::Counted(cells) => {
                let counts = cells.counts();
                let sides = counts.iter().copied();
                grid.spread(sides, -(cells.half() as f64), cells.width(), observed)
            }
        };
        Histogram {
            counts,
            edges: grid.edges,
        }
    }

    /// Of magnitudes, from the smallest to the largest.
    pub(super) fn magnitudes(values: &Values, observed: ValueRange, bins: usize) -> Histogram {
        let largest = observed.lo.abs().max(observed.hi.abs());
        let range = ValueRange::new(values.least, largest);
        let grid = Grid::new(range, bins);
        let counts = match &values.form {
            Form::Kept(pieces) => grid.count(pieces.iter().flatten().map(|v| v.abs())),
            Form::Counted(_) if range.lo == range.hi => grid.all(range.lo, values.count),
            Form::Counted(cells) => {
                let counts = cells.counts();
                let (negative, positive) = counts.split_at(cells.half());
                let both = positive.iter().zip(negative.iter().rev());
                let both = both.map(|(p, n)| p.saturating_add(*n));
                grid.spread(both, 0.0, cells.width(), range)
            }
        };
        Histogram {
            counts,
            edges: grid.edges,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

struct Grid {
    first: f32,
    last: f32,
    edges: Vec<f32>,
}

impl Grid {
    fn new(range: ValueRange, bins: usize) -> Grid {
        let (mut first, mut last) = (range.lo, range.hi);
        if first == last {
            (first, last) = (first - 0.5, last + 0.5);
        }
        let n = bins as f32;
        let step = (last - first) / n;
        let edge = |i: usize| match i {
            _ if i == bins => last,
            _ if step.is_finite() => i as f32 * step + first,
            // The distance of the ends is no `f32`. (NumPy fails then.)
            _ => {
                let (first, last) = (f64::from(first), f64::from(last));
                (first + (last - first) * (i as f64 / bins as f64)) as f32
            }
        };
        Grid {
            first,
            last,
            edges: (0..=bins).map(edge).collect(),
        }
    }

    fn bins(&self) -> usize {
        self.edges.len() - 1
    }

    /// The bin of a value in range.
    fn bin(&self, x: f32) -> usize {
        let bins = self.bins();
        let span = self.last - self.first;
        let share = match span.is_finite() {
            true => (x - self.first) / span * bins as f32,
            false => {
                let (first, last) = (f64::from(self.first), f64::from(self.last));
                ((f64::from(x) - first) / (last - first)) as f32 * bins as f32
            }
        };
        let i = (share as usize).min(bins - 1);
        if x < self.edges[i] {
            i.saturating_sub(1)
        } else if i + 1 < bins && x >= self.edges[i + 1] {
            i + 1
        } else {
            i
        }
    }

    fn count(&self, values: impl Iterator<Item = f32>) -> Vec<u64> {
        let mut counts = vec![0; self.bins()];
        for x in values {
            counts[self.bin(x)] += 1;
        }
        counts
    }

    /// Where all values are the same.
    fn all(&self, value: f32, count: u64) -> Vec<u64> {
        let mut counts = vec![0; self.bins()];
        counts[self.bin(value)] = count;
        counts
    }

    /// Spreads the counts of cells of `width`, the first from `origin * width` on, evenly over
    /// the part of each that lies in `support`. What lies below an edge is rounded down, so that
    /// the counts of bins are integers and their sum is that of the cells.
    fn spread(
        &self,
        cells: impl Iterator<Item = u64>,
        origin: f64,
        width: f64,
        support: ValueRange,
    ) -> Vec<u64> {
        let (lo, hi) = (f64::from(support.lo), f64::from(support.hi));
        let mut counts = Vec::with_capacity(self.bins());
        let mut edges = self.edges[1..self.bins()].iter().map(|&e| f64::from(e));
        let mut edge = edges.next();
        let (mut below, mut before) = (0u64, 0u64);
        for (i, count) in cells.enumerate().filter(|(_, count)| *count > 0) {
            let start = ((origin + i as f64) * width).clamp(lo, hi);
            let end = ((origin + (i + 1) as f64) * width).clamp(lo, hi);
            while let Some(e) = edge.filter(|&e| e < end) {
                let share = match end > start {
                    true => ((e - start) / (end - start)).clamp(0.0, 1.0),
                    false => 0.0,
                };
                let part = ((count as f64 * share) as u64).min(count);
                let here = below.saturating_add(part);
                counts.push(here - before);
                before = here;
                edge = edges.next();
            }
            below = below.saturating_add(count);
        }
        counts.push(below - before);
        counts.resize(self.bins(), 0);
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{data::min_max, observe::values::Capacity};

    fn values(data: &[f32], keep: u64, half: usize) -> Values {
        let mut values = Values::default();
        let mut largest = 0f32;
        for part in data.chunks(100) {
            largest = part.iter().fold(largest, |a, v| a.max(v.abs()));
            values.add(part, largest, Capacity { keep, half });
        }
        values
    }

    /// Of one of several shapes.
    fn data() -> impl Strategy<Value = Vec<f32>> {
        let value = (-1.0f32..1.0, 0..4u8, -3.0f32..3.0).prop_map(|(u, shape, s)| match shape {
            0 => u,
            1 => u / (1.001 - u * u),
            2 => u.max(0.0) * 7.0,
            _ => s + u * u * u * 1e-2,
        });
        (prop::collection::vec(value, 1..2000), -20..20i32)
            .prop_map(|(v, e)| v.into_iter().map(|v| v * 2f32.powi(e)).collect())
    }

    /// What was counted lies below an edge as if values had moved by less than a cell.
    fn check(data: &[f32], histogram: &Histogram, width: f32) {
        let mut below = 0;
        for (count, &edge) in histogram.counts.iter().zip(&histogram.edges[1..]) {
            below += count;
            let least = data.iter().filter(|&&v| v < edge - width).count() as u64;
            let most = data.iter().filter(|&&v| v <= edge + width).count() as u64;
            assert!(
                (least..=most).contains(&below),
                "{edge} {least} {below} {most}"
            );
        }
        assert_eq!(below, data.len() as u64);
    }

    proptest! {
        #[test]
        fn counted_values_are_spread_by_less_than_a_cell(data in data(), bins in 2usize..60) {
            let observed = min_max(&data).unwrap();
            let counted = values(&data, 0, 128);
            let Form::Counted(cells) = &counted.form else { panic!() };
            let width = cells.width() as f32;
            check(&data, &Histogram::signed(&counted, observed, bins), width);
            check(&data, &Histogram::between(&counted, observed, observed, bins), width);
            let magnitudes: Vec<f32> = data.iter().map(|v| v.abs()).collect();
            check(&magnitudes, &Histogram::magnitudes(&counted, observed, bins), width);
        }

        #[test]
        fn kept_values_lie_between_their_edges(data in data(), bins in 2usize..60) {
            let observed = min_max(&data).unwrap();
            let histogram = Histogram::signed(&values(&data, 1 << 20, 128), observed, bins);
            let bin = |v: f32| histogram.edges[..bins].partition_point(|&e| e <= v) - 1;
            let mut counts = vec![0; bins];
            data.iter().for_each(|&v| counts[bin(v)] += 1);
            prop_assert_eq!(histogram.counts, counts);
        }
    }

    #[test]
    fn ends_of_all_floats_and_single_values() {
        for data in [
            &[f32::MIN, 0.0, f32::MAX][..],
            &[-0.0, 0.0],
            &[7.5; 9],
            &[1e-45, -1e-40],
        ] {
            let observed = min_max(data).unwrap();
            for keep in [0, 100] {
                let values = values(data, keep, 128);
                for histogram in [
                    Histogram::signed(&values, observed, 10),
                    Histogram::magnitudes(&values, observed, 10),
                    Histogram::between(&values, observed, observed, 10),
                ] {
                    assert_eq!(histogram.total(), data.len() as u64);
                    assert!(histogram.edges.is_sorted(), "{histogram:?}");
                }
            }
        }
    }
}
