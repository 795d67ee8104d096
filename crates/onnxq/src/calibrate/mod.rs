//! Calibration: the ranges that the tensors of a model have on data.
//!
//! The model runs on every sample, samples side by side; a tensor is observed when it is produced
//! and freed when its last user has run. What is observed does not depend on threads, on the
//! order of samples or on how they are cut into shards (see [`onnxq_quant::Observers`]).
//!
//! *Invariant*: memory does not grow with the number of samples.

mod method;
mod run;
mod tensors;

use std::path::PathBuf;

use onnxq_ir::Model;
use onnxq_passes::{Calibrate, RangeRequest};
use onnxq_quant::{CalibrationSpec, Observers, Ranges, tables::RangeTable};
use onnxq_runtime::RunError;

use crate::{
    Error,
    data::{Batch, Data},
};
pub use method::parse_method;
pub use tensors::float_tensors;

/// How far a calibration has come: samples done, of how many.
pub type OnSample<'a> = dyn FnMut(usize, usize) + 'a;

/// What can go wrong when a model is observed on data.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CalibrationError {
    #[error("{}: sample {sample}: {source}", file.display())]
    Run {
        file: PathBuf,
        sample: usize,
        source: RunError,
    },
    #[error("{}: sample {sample}: tensor '{tensor}': {source}", file.display())]
    Observe {
        file: PathBuf,
        sample: usize,
        tensor: String,
        source: onnxq_quant::Error,
    },
    #[error("shard {index} of {count}: expected a number from 1 to {count}")]
    Shard { index: usize, count: usize },
    #[error(
        "the data makes {samples} samples, of which none is in shard {} of {}", shard.index, shard.count
    )]
    EmptyShard { samples: usize, shard: Shard },
    #[error(transparent)]
    Quant(#[from] onnxq_quant::Error),
}

/// A part of the samples: those whose number leaves the remainder `index - 1` when divided by
/// `count`, so that every shard has its share of every part of the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// From 1 to `count`.
    pub index: usize,
    /// How many shards there are.
    pub count: usize,
}

impl Shard {
    /// All samples.
    pub const WHOLE: Shard = Shard { index: 1, count: 1 };

    fn check(self) -> Result<(), CalibrationError> {
        let Shard { index, count } = self;
        match (1..=count).contains(&index) {
            true => Ok(()),
            false => Err(CalibrationError::Shard { index, count }),
        }
    }

    /// The samples of the shard, of `samples`.
    fn samples(self, samples: usize) -> impl ExactSizeIterator<Item = usize> + Send {
        (self.index - 1..samples).step_by(self.count)
    }
}

/// How to calibrate.
#[derive(Clone, PartialEq, Debug)]
pub struct CalibrationOptions {
    /// What follows from what is observed.
    pub spec: CalibrationSpec,
    /// The part of the samples to observe.
    pub shard: Shard,
    /// How many samples run side by side; as many as there are cores if not given.
    pub threads: Option<usize>,
}

impl Default for CalibrationOptions {
    fn default() -> CalibrationOptions {
        CalibrationOptions {
            spec: CalibrationSpec::MINMAX,
            shard: Shard::WHOLE,
            threads: None,
        }
    }
}

/// Observes every float tensor of `model` on `data`: what quantization with any options may need.
/// What a shard gives can be [merged](RangeTable::merge) with the other shards, into what the whole
/// data gives.
///
/// `progress` is told how many samples are done.
///
/// # Errors
/// The model does not run on a sample, or a value is NaN or infinite; the message names file,
/// sample and tensor.
pub fn calibrate(
    model: &Model,
    data: &Data,
    options: &CalibrationOptions,
    progress: &mut OnSample<'_>,
) -> Result<RangeTable, Error> {
    let tensors = float_tensors(model, &options.spec.method);
    let observers =
        Observers::new(options.spec, tensors, Observers::MEMORY).map_err(CalibrationError::from)?;
    run::observe(model, data, options, &observers, progress)?;
    let to_merge = options.shard != Shard::WHOLE;
    let table = || RangeTable::of(observers, Some(hash(model)), to_merge);
    Ok(on_threads(options.threads, table))
}

/// What `f` gives, which uses as many threads.
fn on_threads<T: Send>(threads: Option<usize>, f: impl FnOnce() -> T + Send) -> T {
    let pool = threads.and_then(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().ok());
    match pool {
        Some(pool) => pool.install(f),
        None => f(),
    }
}

/// The SHA-256 of the model's text, in which large constants are their own SHA-256.
fn hash(model: &Model) -> String {
    let text = crate::print(model).into_bytes();
    onnxq_ir::text::ContentHash::of(&onnxq_tensor::Tensor::vector(text)).to_string()
}

/// Data that static quantization is calibrated on: a [`Calibrate`] for
/// [`RangeSource::Data`](onnxq_passes::RangeSource::Data).
#[derive(Debug)]
pub struct Calibrator {
    source: Source,
    threads: Option<usize>,
}

#[derive(Debug)]
enum Source {
    Files(Vec<PathBuf>, Batch),
    Data(Data),
}

impl Calibrator {
    /// Calibrates on files (see [`crate::data`] for what they may be).
    pub fn files(paths: impl IntoIterator<Item = impl Into<PathBuf>>, batch: Batch) -> Calibrator {
        let paths = paths.into_iter().map(Into::into).collect();
        Calibrator {
            source: Source::Files(paths, batch),
            threads: None,
        }
    }

    /// Calibrates on data that is open, or in memory.
    pub fn data(data: Data) -> Calibrator {
        Calibrator {
            source: Source::Data(data),
            threads: None,
        }
    }

    /// The same with this many samples side by side.
    #[must_use]
    pub fn threads(self, threads: usize) -> Calibrator {
        Calibrator {
            threads: Some(threads),
            ..self
        }
    }

    fn observe(
        &self,
        model: &Model,
        request: &RangeRequest,
        progress: &mut OnSample<'_>,
    ) -> Result<Ranges, Error> {
        let tensors = request.tensors.iter().map(|(name, &axis)| (&**name, axis));
        let observers = Observers::new(request.spec, tensors, Observers::MEMORY)
            .map_err(CalibrationError::from)?;
        let options = CalibrationOptions {
            spec: request.spec,
            threads: self.threads,
            ..CalibrationOptions::default()
        };
        match &self.source {
            Source::Data(data) => run::observe(model, data, &options, &observers, progress)?,
            Source::Files(paths, batch) => {
                let data = Data::open_all(paths, &model.graph, *batch)?;
                run::observe(model, &data, &options, &observers, progress)?;
            }
        }
        Ok(on_threads(self.threads, || observers.ranges()))
    }
}

impl Calibrate for Calibrator {
    fn calibrate(
        &self,
        model: &Model,
        request: &RangeRequest,
        progress: &mut OnSample<'_>,
    ) -> Result<Ranges, String> {
        self.observe(model, request, progress)
            .map_err(|e| e.to_string())
    }
}
