//! Running models.
//!
//! [`Executor`] is the reference: it evaluates the graph node by node over the operators'
//! own definitions. [`Plan`] is the fast way, held against it.
//!
//! *Invariant*: models come in as IR; nothing here reads files.

mod executor;
mod peak;
mod plan;
mod program;
mod sample;

pub use executor::{Executor, RunError};
pub use onnxq_kernels::{Cpu, Isa};
pub use peak::peak_operations;
pub use plan::{Plan, View, Workspace};
pub use program::{
    Change, Location, Memory, Needs, Parameter, Port, Program, ProgramError, ProgramOptions,
    ProgramSource, StepInfo, StepSource, Unwritten,
};
pub use sample::{SampleError, sample_values};
