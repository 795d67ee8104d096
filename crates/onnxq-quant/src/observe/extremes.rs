//! The smallest and the largest value: of all samples, and of each for moving averages.

use std::{collections::BTreeMap, num::NonZeroUsize};

use crate::{Error, Method, Result, ValueRange};

/// The range of each channel, or the one of the tensor.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Extremes {
    /// Empty before anything was seen.
    pub(super) all: Vec<ValueRange>,
    /// By sample; kept for moving averages alone.
    pub(super) by_sample: BTreeMap<usize, Vec<ValueRange>>,
}

impl Extremes {
    /// Refuses a number of channels that differs from that seen before.
    pub(super) fn check_channels(&self, channels: usize) -> Result<()> {
        match self.all.len() {
            0 => Ok(()),
            expected if expected == channels => Ok(()),
            expected => Err(Error::Count {
                what: "channels",
                expected,
                found: channels,
            }),
        }
    }

    /// Adds the ranges of one sample, as many as there are channels.
    pub(super) fn add(&mut self, method: &Method, sample: usize, ranges: &[ValueRange]) {
        widen(&mut self.all, ranges);
        let averages = matches!(
            method,
            Method::MinMax {
                moving_average: true,
                ..
            }
        );
        if averages && ranges.iter().any(|r| !r.is_empty()) {
            widen(self.by_sample.entry(sample).or_default(), ranges);
        }
    }

    pub(super) fn merge(&mut self, other: Extremes) -> Result<()> {
        if !other.all.is_empty() {
            self.check_channels(other.all.len())?;
        }
        widen(&mut self.all, &other.all);
        for (sample, ranges) in other.by_sample {
            widen(self.by_sample.entry(sample).or_default(), &ranges);
        }
        Ok(())
    }

    /// What [`Method::MinMax`] makes of it. Channels without a value have the empty range, and
    /// there is none at all where no channel has one.
    pub(super) fn ranges(&self, method: &Method) -> Vec<ValueRange> {
        if self.all.iter().all(|r| r.is_empty()) {
            return Vec::new();
        }
        let averages = match *method {
            Method::MinMax {
                moving_average: true,
                round,
                averaging_constant,
            } => Some((round, averaging_constant)),
            _ => None,
        };
        let channel = |c: usize| match averages {
            Some((round, constant)) => self.average(c, round, constant),
            None => self.all[c],
        };
        (0..self.all.len()).map(channel).collect()
    }

    /// The mean of each round's ranges, the rounds combined exponentially in the order of
    /// samples. In `f64`, whose sums of `f32`s are exact but for absurd ranges of exponents; the
    /// order of summation is that of samples in any case.
    fn average(&self, channel: usize, round: Option<NonZeroUsize>, constant: f64) -> ValueRange {
        let mut average: Option<[f64; 2]> = None;
        let mut rounds: BTreeMap<usize, ([f64; 2], f64)> = BTreeMap::new();
        for (&sample, ranges) in &self.by_sample {
            let ValueRange { lo, hi } = ranges[channel];
            if ranges[channel].is_empty() {
                continue;
            }
            let number = round.map_or(0, |n| sample / n.get());
            let (sum, count) = rounds.entry(number).or_default();
            sum[0] += f64::from(lo);
            sum[1] += f64::from(hi);
            *count += 1.0;
        }
        for (sum, count) in rounds.into_values() {
            let mean = sum.map(|s| s / count);
            average = Some(match average {
                None => mean,
                Some(old) => [0, 1].map(|i| old[i] + constant * (mean[i] - old[i])),
            });
        }
        match average {
            Some([lo, hi]) => ValueRange::new(lo as f32, hi as f32),
            None => ValueRange::EMPTY,
        }
    }
}

/// `[-a, a]`, where `a` is the largest magnitude.
pub(super) fn around_zero(range: ValueRange) -> ValueRange {
    if range.is_empty() {
        return range;
    }
    let a = range.lo.abs().max(range.hi.abs());
    ValueRange::new(-a, a)
}

fn widen(all: &mut Vec<ValueRange>, ranges: &[ValueRange]) {
    if all.len() < ranges.len() {
        all.resize(ranges.len(), ValueRange::EMPTY);
    }
    for (all, &range) in all.iter_mut().zip(ranges) {
        *all = unsigned_zeros(all.merge(range));
    }
}

/// Which of two zeros is seen first does not matter.
pub(super) fn unsigned_zeros(range: ValueRange) -> ValueRange {
    ValueRange::new(range.lo + 0.0, range.hi + 0.0)
}
