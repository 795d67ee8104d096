//! Observers: what calibration remembers of a tensor, and the range that follows from it.
//!
//! *Invariant*: what an observer has seen is a multiset of values and, for moving averages, the
//! range of each sample. So neither the order of samples, nor threads, nor how samples are cut
//! into shards that are [merged](TensorObserver::merge) changes any bit of a range.

mod cells;
mod distribution;
mod entropy;
mod extremes;
mod histogram;
mod mse;
mod observers;
mod percentile;
mod state;
mod values;

use std::sync::{Mutex, MutexGuard, PoisonError};

use onnxq_tensor::{DType, Tensor};

use crate::{
    CalibrationSpec, Error, Granularity, Method, Moments, Result, TensorRange, ValueRange,
    floats::{Floats, scratch},
    granularity::Layout,
    weights,
};
use cells::{Tally, exponent};
use extremes::{Extremes, around_zero, unsigned_zeros};
use histogram::Histogram;
use values::{Capacity, Values, least_magnitude};

pub use observers::Observers;
pub(crate) use state::ObserversState;

/// Values from which on a thread counts them in a table of its own, instead of in that which all
/// threads share, and adds the tables.
const APART: usize = 1 << 14;

/// Observes one tensor on many samples, from any number of threads.
#[derive(Debug)]
pub struct TensorObserver {
    spec: CalibrationSpec,
    axis: Option<i64>,
    keep: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    extremes: Extremes,
    /// By channel; empty where the method needs no more than the extremes.
    values: Vec<Values>,
}

impl TensorObserver {
    /// An observer of the tensor as a whole, or of each of its channels along an axis.
    ///
    /// Methods that need a histogram keep the values while there are at most `keep` (shared by
    /// the channels); the histogram is then NumPy's, bit for bit. Where there are more, counts in
    /// cells are kept instead, from the first value on: 128 KiB for a tensor, whatever is seen.
    /// The histogram is then as if every value had moved by less than a cell, which is 2^-13 of
    /// the largest magnitude at most, and an end chosen by percentile is at most one bin away (or
    /// one cell, where all magnitudes are so near to each other that bins are narrower). Where the
    /// percentile falls exactly between two values, rounding in the sum of the bins' shares
    /// decides for either, as it does in the reference, and may decide differently.
    ///
    /// # Errors
    /// The method's numbers mean nothing.
    pub fn new(spec: CalibrationSpec, axis: Option<i64>, keep: usize) -> Result<TensorObserver> {
        spec.method.check()?;
        Ok(TensorObserver {
            spec,
            axis,
            keep,
            state: Mutex::default(),
        })
    }

    /// Observes the values that the tensor has in sample number `sample`. A tensor may have
    /// values several times in a sample (in a loop), and other dimensions each time.
    ///
    /// # Errors
    /// NaN or infinity among the values (nothing is observed then), or a number of channels that
    /// differs from that seen before.
    pub fn observe(&self, sample: usize, values: &[f32], dims: &[usize]) -> Result<()> {
        self.observe_floats(sample, &Floats::of_slice(values), dims)
    }

    /// [`observe`](TensorObserver::observe) for a tensor of any float type.
    pub fn observe_tensor(&self, sample: usize, tensor: &Tensor) -> Result<()> {
        if tensor.dtype() == DType::F64 {
            let doubles = tensor.as_slice::<f64>()?;
            let values: Vec<f32> = doubles.iter().map(|&v| v as f32).collect();
            return self.observe(sample, &values, tensor.dims());
        }
        self.observe_floats(sample, &Floats::new(tensor)?, tensor.dims())
    }

    fn observe_floats(&self, sample: usize, floats: &Floats<'_>, dims: &[usize]) -> Result<()> {
        let granularity = match self.axis {
            Some(axis) => Granularity::PerChannel { axis },
            None => Granularity::PerTensor,
        };
        let layout = Layout::new(dims, granularity)?;
        let ranges = weights::scan(floats, &layout)?;
        let mut state = self.state();
        state.extremes.check_channels(ranges.len())?;
        state.extremes.add(&self.spec.method, sample, &ranges);
        let Some(capacity) = self.capacity(ranges.len()) else {
            return Ok(());
        };
        let State { extremes, values } = &mut *state;
        values.resize_with(ranges.len(), Values::default);
        let magnitudes: Vec<f32> = extremes.all.iter().copied().map(magnitude).collect();
        let mut buffer = scratch();
        if let ([values], [m], Ok(len)) =
            (&mut values[..], &magnitudes[..], u32::try_from(layout.len))
            && len as usize >= APART
            && values.make_room(layout.len, *m, capacity).is_some()
        {
            drop(state);
            let mut tally = Tally::new(capacity.half, exponent(*m));
            let mut least = f32::INFINITY;
            layout.try_runs(|run| {
                let values = floats.load(run.span, &mut buffer);
                least = least.min(least_magnitude(values));
                tally.count(values);
                Ok(())
            })?;
            let values = &mut self.state().values[0];
            values.note(layout.len, least);
            if let Some(cells) = values.make_room(0, *m, capacity) {
                tally.finish(ranges[0], cells);
            }
            return Ok(());
        }
        layout.try_runs(|run| {
            let (group, width) = (run.group, run.width);
            let rows = floats.load(run.span, &mut buffer).chunks(width);
            for (channel, row) in (group..).zip(rows) {
                values[channel].add(row, magnitudes[channel], capacity);
            }
            Ok(())
        })
    }

    /// What is kept of each channel, where the method needs values at all.
    fn capacity(&self, channels: usize) -> Option<Capacity> {
        let bins = self.spec.method.bins()?;
        let half = (8 * bins).next_power_of_two().max(1 << 14);
        Some(Capacity {
            keep: (self.keep / channels.max(1)) as u64,
            half: (half / channels.next_power_of_two()).max(1 << 11),
        })
    }

    /// Adds what `other` has observed, on other samples.
    ///
    /// # Errors
    /// The two do not observe the same in the same way.
    pub fn merge(&self, other: TensorObserver) -> Result<()> {
        if self.spec != other.spec {
            return Err(Error::Merge("they are for different methods"));
        }
        if self.axis != other.axis {
            return Err(Error::Merge("they are along different axes"));
        }
        if self.keep != other.keep {
            return Err(Error::Merge("they keep different numbers of values"));
        }
        let other = other.state.into_inner();
        let other = other.unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        state.extremes.merge(other.extremes)?;
        let State { extremes, values } = &mut *state;
        if let Some(capacity) = self.capacity(extremes.all.len()) {
            values.resize_with(extremes.all.len(), Values::default);
            for ((own, other), all) in values.iter_mut().zip(other.values).zip(&extremes.all) {
                own.merge(other, magnitude(*all), capacity);
            }
        }
        Ok(())
    }

    /// The range that follows, or `None` where no value was seen.
    pub fn range(&self) -> Option<TensorRange> {
        let state = self.state();
        let mut ranges = state.extremes.ranges(&self.spec.method);
        for (range, values) in ranges.iter_mut().zip(&state.values) {
            if values.count > 0 {
                *range = self.choose(values, *range);
            }
        }
        if self.spec.symmetric {
            ranges.iter_mut().for_each(|r| *r = around_zero(*r));
        }
        ranges.iter_mut().for_each(|r| *r = unsigned_zeros(*r));
        match self.axis {
            None => ranges.into_iter().next().map(TensorRange::Tensor),
            Some(_) if ranges.is_empty() => None,
            Some(axis) => Some(TensorRange::Channels { axis, ranges }),
        }
    }

    /// Mean and deviation, by [`Method::Distribution`] for a tensor as a whole.
    pub fn moments(&self) -> Option<Moments> {
        let Method::Distribution { bins } = self.spec.method else {
            return None;
        };
        let state = self.state();
        match (state.values.as_slice(), self.axis) {
            ([values], None) if values.count > 0 => {
                let histogram = Histogram::signed(values, state.extremes.all[0], bins);
                Some(distribution::moments(&histogram))
            }
            _ => None,
        }
    }

    /// What the method makes of the values, which lie in `observed`.
    fn choose(&self, values: &Values, observed: ValueRange) -> ValueRange {
        let signed = |bins| Histogram::signed(values, observed, bins);
        match self.spec.method {
            Method::MinMax { .. } => observed,
            Method::Percentile {
                percentile,
                bins,
                magnitudes: true,
            } => {
                let histogram = Histogram::magnitudes(values, observed, bins);
                percentile::of_magnitudes(&histogram, percentile, observed)
            }
            Method::Percentile {
                percentile, bins, ..
            } => percentile::of_values(&signed(bins), percentile, observed),
            Method::Entropy {
                bins,
                quantized_bins,
            } => entropy::range(&signed(bins), quantized_bins, observed),
            Method::Distribution { bins } => {
                let edges = signed(bins).edges;
                ValueRange::new(edges[0], edges[bins])
            }
            Method::Mse { bins, steps } => {
                let with_zero = observed.merge(ValueRange::new(0.0, 0.0));
                let histogram = Histogram::between(values, observed, with_zero, bins);
                mse::range(&histogram, steps, self.spec.symmetric, observed)
            }
        }
    }

    /// Nothing panics while a state is locked, and a state is whole between any two statements
    /// that change it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The largest magnitude in a range, 0 in the empty one.
fn magnitude(range: ValueRange) -> f32 {
    match range.is_empty() {
        true => 0.0,
        false => range.lo.abs().max(range.hi.abs()),
    }
}
