//! The observers of a model's tensors, and the samples they have seen.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use indexmap::IndexMap;
use rayon::prelude::*;

use super::TensorObserver;
use crate::{CalibrationSpec, Error, Ranges, Result};

/// Observes the tensors of a model on many samples, from any number of threads.
#[derive(Debug)]
pub struct Observers {
    spec: CalibrationSpec,
    keep: usize,
    tensors: IndexMap<String, TensorObserver>,
    samples: Mutex<BTreeSet<usize>>,
}

impl Observers {
    /// Bytes of values to keep, which is enough for a few samples of a large model.
    pub const MEMORY: usize = 96 << 20;

    /// An observer of each tensor, with the axis of its channels where they are to have ranges
    /// of their own. The values of tensors with few of them are kept, in `memory` bytes (see
    /// [`TensorObserver::new`]). Shards that are to be merged need the same tensors and memory.
    ///
    /// # Errors
    /// The method's numbers mean nothing.
    pub fn new<N: Into<String>>(
        spec: CalibrationSpec,
        tensors: impl IntoIterator<Item = (N, Option<i64>)>,
        memory: usize,
    ) -> Result<Observers> {
        let tensors: IndexMap<String, _> =
            tensors.into_iter().map(|(n, a)| (n.into(), a)).collect();
        let keep = memory / size_of::<f32>() / tensors.len().max(1);
        let observer = |axis| TensorObserver::new(spec, axis, keep);
        let tensors = tensors
            .into_iter()
            .map(|(name, axis)| Ok((name, observer(axis)?)))
            .collect::<Result<_>>()?;
        Ok(Observers {
            spec,
            keep,
            tensors,
            samples: Mutex::default(),
        })
    }

    /// Those of a file.
    pub(super) fn restored(
        spec: CalibrationSpec,
        keep: usize,
        tensors: Vec<(String, TensorObserver)>,
        samples: BTreeSet<usize>,
    ) -> Observers {
        Observers {
            spec,
            keep,
            tensors: tensors.into_iter().collect(),
            samples: Mutex::new(samples),
        }
    }

    /// How many values of a tensor are kept.
    pub(super) fn keep(&self) -> usize {
        self.keep
    }

    /// What is done with what is observed.
    pub fn spec(&self) -> CalibrationSpec {
        self.spec
    }

    /// The observer of a tensor.
    pub fn get(&self, tensor: &str) -> Option<&TensorObserver> {
        self.tensors.get(tensor)
    }

    /// All of them, by name, in the order they were given in.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TensorObserver)> {
        self.tensors.iter().map(|(name, o)| (&**name, o))
    }

    /// Notes that sample number `sample` has been observed in all tensors.
    pub fn sample_done(&self, sample: usize) {
        self.done().insert(sample);
    }

    /// How many samples have been observed.
    pub fn samples(&self) -> usize {
        self.done().len()
    }

    /// Adds what `other` has observed, on other samples.
    ///
    /// # Errors
    /// The two do not observe the same tensors in the same way, or have a sample in common.
    pub fn merge(&self, other: Observers) -> Result<()> {
        let theirs = other.done().clone();
        if let Some(&sample) = self.done().intersection(&theirs).next() {
            return Err(Error::Table(format!("sample {sample} is in both")));
        }
        let only = |a: &Observers, b: &Observers, which| {
            let name = a.tensors.keys().find(|&n| b.get(n).is_none());
            name.map_or(Ok(()), |n| {
                Err(Error::Table(format!("only the {which} has `{n}`")))
            })
        };
        only(self, &other, "first")?;
        only(&other, self, "second")?;
        for (name, theirs) in other.tensors {
            if let Some(ours) = self.tensors.get(&name) {
                let named = |e: Error| Error::Table(format!("`{name}`: {e}"));
                ours.merge(theirs).map_err(named)?;
            }
        }
        self.done().extend(theirs);
        Ok(())
    }

    /// The ranges that follow, of the tensors that had values.
    pub fn ranges(&self) -> Ranges {
        let observers: Vec<&TensorObserver> = self.tensors.values().collect();
        let found: Vec<_> = observers
            .into_par_iter()
            .map(|o| (o.range(), o.moments()))
            .collect();
        let mut ranges = Ranges::default();
        for (name, (range, moments)) in self.tensors.keys().zip(found) {
            if let Some(range) = range {
                ranges.insert(name, range);
            }
            if let Some(moments) = moments {
                ranges.set_moments(name, moments);
            }
        }
        ranges
    }

    pub(super) fn done(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
