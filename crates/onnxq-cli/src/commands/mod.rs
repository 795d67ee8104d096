//! The commands, one file each.

mod bench;
mod calibrate;
mod compare;
mod debug;
mod diff;
mod emit;
pub(crate) mod opt;
mod passes;
mod print;
mod run;

use crate::console::Failure;

/// Every command but the default one, which runs passes.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run a model on data
    Run(run::Args),
    /// Measure how long models take
    Bench(bench::Args),
    /// Find the ranges of a model's tensors on data, for static quantization
    ///
    /// The model is observed as it is, and `quantize` looks for the tensors by name. Passes that
    /// run before `quantize` may rename and fuse tensors: calibrate the model that they give
    /// (`onnxq-opt MODEL --passes preprocess -o PRE`), and quantize that.
    Calibrate(calibrate::Args),
    /// Compare two models on data
    Compare(compare::Args),
    /// Find where a quantized model loses accuracy
    Debug(debug::Args),
    /// Write a Rust crate with the kernels of a model
    Emit(emit::Args),
    /// Show the rewrites between two models as a diff of their text
    Diff(diff::Args),
    /// Print a model as text, or figures about it
    Print(print::Args),
    /// List the passes and pipelines with their options
    Passes(passes::Args),
}

impl Command {
    /// Runs the command; gives the exit status.
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self {
            Command::Run(args) => run::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Calibrate(args) => calibrate::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Debug(args) => debug::run(&args),
            Command::Emit(args) => emit::run(&args),
            Command::Diff(args) => diff::run(&args),
            Command::Print(args) => print::run(&args),
            Command::Passes(args) => passes::run(&args),
        }
    }
}
