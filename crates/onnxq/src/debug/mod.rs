//! [`debug`]: where the accuracy of a quantized model goes.
//!
//! Weights are compared with their float twins as they stand. Activations are compared on data,
//! each sample in three runs:
//!
//! 1. the float model, whose tensors are kept;
//! 2. the quantized model: how far its tensors are from those, all that came before included
//!    ([`ActivationFigures::model`]);
//! 3. the quantized model again, with every matched tensor replaced by that of the float model once
//!    it is compared: what each layer adds by itself ([`ActivationFigures::layer`]), and what
//!    putting its result in codes adds ([`ActivationFigures::quantization`]).
//!
//! The layer that does the harm is the one that adds most by itself: a layer behind it is far from
//! the float model too, but not when it is given what the float model gives it.
//!
//! Samples run in parallel, their tensors are dropped when they are done, and figures are collected
//! in the order of the samples.

mod activations;
mod dequantize;
mod report;
mod weights;

use onnxq_ir::Model;

use crate::{
    RunError,
    compare::{CompareError, pair_inputs},
    data::{Data, DataError},
    matching::Matching,
};

pub use activations::ActivationFigures;
pub use report::{ActivationRow, DebugReport, WeightRow};
pub use weights::WeightFigures;

/// Why two models cannot be held against each other.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DebugError {
    #[error(transparent)]
    Models(#[from] CompareError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("the {place} model: sample {sample}: {source}")]
    Run {
        place: &'static str,
        sample: usize,
        source: RunError,
    },
    #[error(
        "no tensor of the quantized model is quantized and has a float twin: is it made from this \
         float model?"
    )]
    NothingMatched,
}

/// Holds a quantized model against the float model that it was made from, on `data` for the float
/// model. `done` is called after every sample.
///
/// # Errors
/// The models have nothing in common, or one does not run.
pub fn debug(
    float: &Model,
    quantized: &Model,
    data: &Data,
    threads: Option<usize>,
    done: &(dyn Fn() + Sync),
) -> Result<DebugReport, DebugError> {
    pair_inputs(&float.graph, &quantized.graph)?;
    let preprocessed = preprocessed(float);
    let floats: Vec<&Model> = [float].into_iter().chain(&preprocessed).collect();
    let matching = Matching::new(&floats, quantized);
    if matching.quantized_count().1 == 0 {
        return Err(DebugError::NothingMatched);
    }
    let weights = weights::measure(&floats, quantized, &matching);
    let activations = activations::measure(&floats, quantized, &matching, data, threads, done)?;
    Ok(report::report(&matching, weights, activations, data.len()))
}

/// The model after `preprocess`, which quantization may have started from: its weights are folded
/// and its functions inlined.
pub fn preprocessed(float: &Model) -> Option<Model> {
    let mut model = float.clone();
    // Where a pass fails, quantization cannot have started from there.
    crate::optimize(&mut model, "preprocess").ok()?;
    Some(model)
}
