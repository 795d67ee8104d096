//! Observers: what calibration remembers of a tensor, and the range that follows from it.
//!
//! *Invariant*: what an observer has seen is a multiset of values and, for moving averages, the
//! range of each sample. So neither the order of samples, nor threads, nor how samples are cut
//! into shards that are [merged](TensorObserver::merge) changes any bit of a range.

mod extremes;
mod observers;

use std::sync::{Mutex, MutexGuard, PoisonError};

use onnxq_tensor::{DType, Tensor};

use crate::{
    CalibrationSpec, Error, Granularity, Result, TensorRange, floats::Floats, granularity::Layout,
    weights,
};
use extremes::Extremes;

pub use observers::Observers;

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
}

impl TensorObserver {
    /// An observer of the tensor as a whole, or of each of its channels along an axis. For
    /// methods that need a histogram, up to `keep` values are kept, and the histogram is exact;
    /// where there are more, only counts are kept from the first value on, and ends of ranges
    /// are at most one bin away.
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
        Ok(())
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
        self.state().extremes.merge(other.extremes)
    }

    /// The range that follows, or `None` where no value was seen.
    pub fn range(&self) -> Result<Option<TensorRange>> {
        let ranges = self.state().extremes.ranges(&self.spec);
        Ok(match self.axis {
            None => ranges.into_iter().next().map(TensorRange::Tensor),
            Some(_) if ranges.is_empty() => None,
            Some(axis) => Some(TensorRange::Channels { axis, ranges }),
        })
    }

    /// Nothing panics while a state is locked, and a state is whole between any two statements
    /// that change it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
