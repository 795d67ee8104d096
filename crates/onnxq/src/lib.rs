//! onnxq as a library: load a model, run pipelines over it, with passes of your own if you like,
//! execute it, save it.
//!
//! ```no_run
//! let mut model = onnxq::load("model.onnx")?;
//! onnxq::optimize(&mut model, "preprocess,quantize,fuse")?;
//! onnxq::save(&model, "model.int8.onnx", &Default::default())?;
//! # Ok::<(), onnxq::Error>(())
//! ```
//!
//! [`ir`] has the graph, [`pass`] what a pass is made of, [`registry`] the passes there are,
//! [`Runner`] runs models, [`Executor`] has the reference semantics, [`data`] arrays in and out. A
//! [`Session`] runs a pipeline with calibration data, for static quantization. Two models are held
//! against each other by [`compare`](mod@compare), and tensor by tensor ([`matching`]) by
//! [`debug`](mod@debug).

pub mod calibrate;
pub mod compare;
mod compile;
pub mod data;
pub mod debug;
pub mod distance;
pub mod matching;
mod runner;
mod session;

use std::path::Path;

pub use calibrate::{CalibrationOptions, Calibrator, Shard, calibrate};
pub use compile::{CompileOptions, PIPELINE, ShapeError, bind, compile};
pub use onnxq_emit::{Crate, EmitError, EmitOptions, emit};
pub use onnxq_ir::{self as ir, Model};
pub use onnxq_onnx::{self as onnx, SaveOptions, SaveReport};
pub use onnxq_ops as ops;
pub use onnxq_pass as pass;
pub use onnxq_passes::{Calibrate, RangeRequest, RangeSource, registry};
pub use onnxq_quant as quant;
pub use onnxq_runtime::{
    Cpu, Executor, Isa, Memory, Plan, Program, ProgramError, ProgramOptions, RunError, SampleError,
    StepInfo, View, Workspace, peak_operations, sample_values,
};
pub use onnxq_tensor as tensor;
pub use runner::{NoProgram, Runner};
pub use session::Session;

use onnxq_pass::{Registry, Summary};
use onnxq_tensor::Buffer;

/// What can go wrong on the way.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    File(#[from] onnxq_onnx::Error),
    #[error("{file}: {source}")]
    Model {
        file: String,
        source: onnxq_ir::Error,
    },
    #[error("{file}: {violation}")]
    Invalid { file: String, violation: String },
    #[error(transparent)]
    Pass(#[from] onnxq_pass::Error),
    #[error(transparent)]
    Data(#[from] data::DataError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Emit(#[from] EmitError),
    #[error(transparent)]
    Calibration(#[from] calibrate::CalibrationError),
    #[error(transparent)]
    Compare(#[from] compare::CompareError),
    #[error(transparent)]
    Debug(#[from] debug::DebugError),
}

/// Loads an ONNX file. Weights stay in the mapped file.
///
/// # Errors
/// The file cannot be read or is no valid model; the message names file, node and value.
pub fn load(path: impl AsRef<Path>) -> Result<Model, Error> {
    let path = path.as_ref();
    build(onnxq_onnx::load(path)?, &path.display().to_string())
}

/// Loads a model from memory. External data is looked for in `dir`; `name` is for messages.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(bytes: Buffer, dir: Option<&Path>, name: &str) -> Result<Model, Error> {
    build(onnxq_onnx::from_buffer(bytes, dir, name)?, name)
}

fn build(def: onnxq_ir::def::ModelDef, file: &str) -> Result<Model, Error> {
    let model = Model::from_def(def).map_err(|source| Error::Model {
        file: file.to_owned(),
        source,
    })?;
    match model.verify().first() {
        None => Ok(model),
        Some(first) => Err(Error::Invalid {
            file: file.to_owned(),
            violation: first.to_string(),
        }),
    }
}

/// Parses a model in the text form (see `docs/ir.md`).
///
/// # Errors
/// The text is malformed, by line and column, or is no valid model.
pub fn parse(text: &str) -> Result<Model, Error> {
    let file = "text";
    let def = onnxq_ir::text::parse(text, &()).map_err(|e| Error::Invalid {
        file: file.to_owned(),
        violation: e.to_string(),
    })?;
    build(def, file)
}

/// Prints a model in the text form.
pub fn print(model: &Model) -> String {
    onnxq_ir::text::print(&model.to_def())
}

/// Saves a model as an ONNX file: whole, or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn save(
    model: &Model,
    path: impl AsRef<Path>,
    options: &SaveOptions,
) -> Result<SaveReport, Error> {
    Ok(onnxq_onnx::save(&model.to_def(), path.as_ref(), options)?)
}

/// Runs a pipeline of the passes that come with onnxq, such as `preprocess,quantize,fuse`.
///
/// # Errors
/// The pipeline is misspelt, or a pass fails; the model is in no particular state then.
pub fn optimize(model: &mut Model, pipeline: &str) -> Result<Summary, Error> {
    optimize_with(model, pipeline, &registry())
}

/// Runs a pipeline of the passes in `registry`, which may have some of your own.
///
/// # Errors
/// As [`optimize`].
pub fn optimize_with(
    model: &mut Model,
    pipeline: &str,
    registry: &Registry,
) -> Result<Summary, Error> {
    Session::new(pipeline).registry(registry).run(model)
}

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
