//! [`Program`]: a model with bound shapes, lowered to kernels.
//!
//! Every shape is known, so that everything that can be decided once is: weights are packed for
//! the tiles with the zero points folded into the bias, convolutional regions are kept
//! channels-last, what follows a product is computed with it, and each tensor has its place in one
//! arena. What has no kernel is evaluated by the reference, which the [profile](Program::steps) shows.
//!
//! *Invariants*: results do not depend on threads, tiers or on what ran before in the same
//! [`Memory`]; steps on codes give exactly what the reference executor gives.

mod arena;
mod call;
mod dead;
mod in_place;
mod lower;
mod pages;
mod source;
mod steps;
mod store;
mod threads;

use std::{sync::Arc, time::Duration};

use onnxq_ir::Model;
use onnxq_kernels::{Cpu, Line};
use onnxq_ops::EvalError;
use onnxq_tensor::{Buffer, DType, Dims, Tensor};
use smallvec::SmallVec;

pub use self::source::{
    Change, Location, Needs, Parameter, Port, ProgramSource, StepSource, Unwritten,
};
use self::{call::Call, steps::Kernel, store::Store, threads::Threads};
use crate::{RunError, executor::check_inputs};

/// How a program is to run.
#[derive(Clone, Copy, Debug)]
pub struct ProgramOptions {
    /// The tier of instructions.
    pub cpu: Cpu,
    /// Threads that a run is spread over.
    pub threads: usize,
}

impl Default for ProgramOptions {
    /// The best tier, one thread.
    fn default() -> ProgramOptions {
        ProgramOptions {
            cpu: Cpu::detect(),
            threads: 1,
        }
    }
}

/// Why there is no program for a model.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ProgramError {
    #[error("the shape of '{value}' ({node}) is not known before the model runs")]
    Shape { value: String, node: String },
    #[error("'{value}' ({node}) is no tensor of numbers")]
    Type { value: String, node: String },
    #[error("there is not enough memory for the tensors of the model")]
    Memory,
    #[error("{0} threads cannot be started: {1}")]
    Threads(usize, String),
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// A model with bound shapes, lowered to kernels, see the [module](self). Threads may share it.
pub struct Program {
    model: Arc<Model>,
    steps: Vec<Step>,
    constants: Vec<Tensor>,
    /// About how long a run takes on one thread.
    nanoseconds: u64,
    /// Packed weights.
    weights: Store,
    /// Offset and length of each buffer, in lines.
    buffers: Vec<(usize, usize)>,
    arena: usize,
    scratch: usize,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    options: ProgramOptions,
    threads: Threads,
}

/// Memory to run programs in: reused from run to run, one for each run at a time.
#[derive(Default)]
pub struct Memory {
    /// The arena, then scratch memory.
    pages: pages::Pages,
    inputs: Vec<Tensor>,
    pool: crate::plan::Pool,
}

impl Memory {
    /// No memory yet: the first run takes it.
    pub fn new() -> Memory {
        Memory::default()
    }
}

/// Where an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Input(usize),
    Constant(usize),
    Buffer(usize),
}

struct Input {
    port: Port,
    /// What it is where the caller gives nothing.
    default: Option<Tensor>,
}

struct Output {
    place: Place,
    dtype: DType,
    dims: Dims,
}

struct Step {
    /// The names of the nodes.
    name: String,
    kernel: Box<dyn Kernel>,
    operands: SmallVec<[Place; 4]>,
    results: SmallVec<[usize; 1]>,
}

/// One step of a program, for people.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// The name of the first node it computes.
    pub name: String,
    /// What computes it.
    pub kernel: String,
    /// Multiplications and additions of integers, counted apart; 0 for what is no product.
    pub operations: u64,
    /// Whether the reference evaluates it, for want of a kernel.
    pub by_reference: bool,
}

impl Program {
    /// The program for `model`, all of whose shapes must be known.
    ///
    /// # Errors
    /// A tensor whose shape is not known, or that is none of numbers; what is computed before
    /// any run cannot be.
    pub fn new(model: Arc<Model>, options: ProgramOptions) -> Result<Program, ProgramError> {
        lower::lower(model, options)
    }

    /// The outputs for one sample: a tensor for each input, in the order of the graph; one that
    /// has a default may be `None`.
    ///
    /// # Errors
    /// An input that is missing or does not fit; a node that fails, by name.
    pub fn run(
        &self,
        memory: &mut Memory,
        inputs: &[Option<Tensor>],
    ) -> Result<Vec<Tensor>, RunError> {
        self.run_timed(memory, inputs, None)
    }

    /// The same, with the time of each step added to `times`.
    ///
    /// # Errors
    /// As [`run`](Program::run).
    pub fn profile(
        &self,
        memory: &mut Memory,
        inputs: &[Option<Tensor>],
        times: &mut Vec<Duration>,
    ) -> Result<Vec<Tensor>, RunError> {
        times.resize(self.steps.len(), Duration::ZERO);
        self.run_timed(memory, inputs, Some(times))
    }

    /// The steps, in the order in which they run.
    pub fn steps(&self) -> impl Iterator<Item = StepInfo> {
        self.steps.iter().map(|step| StepInfo {
            name: step.name.clone(),
            kernel: step.kernel.name(self.options.cpu),
            operations: step.kernel.operations(),
            by_reference: step.kernel.by_reference(),
        })
    }

    /// Bytes of the arena that activations live in.
    pub fn arena_bytes(&self) -> usize {
        self.arena * size_of::<Line>()
    }

    /// The tier and the threads it runs on.
    pub fn options(&self) -> ProgramOptions {
        self.options
    }

    /// The model it was made of.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn run_timed(
        &self,
        memory: &mut Memory,
        inputs: &[Option<Tensor>],
        times: Option<&mut Vec<Duration>>,
    ) -> Result<Vec<Tensor>, RunError> {
        check_inputs(&self.model.graph, inputs)?;
        let lines = self.arena + self.scratch;
        if memory.pages.bytes().len() < lines * size_of::<Line>() {
            memory.pages = pages::Pages::new(lines);
        }
        memory.inputs.clear();
        for (input, given) in self.inputs.iter().zip(inputs) {
            let tensor = given.as_ref().or(input.default.as_ref());
            let tensor = tensor.map(aligned).unwrap_or_else(|| Tensor::scalar(0u8));
            memory.inputs.push(tensor);
        }
        self.threads
            .enter(self.nanoseconds, || self.run_steps(memory, times))
    }

    fn run_steps(
        &self,
        memory: &mut Memory,
        mut times: Option<&mut Vec<Duration>>,
    ) -> Result<Vec<Tensor>, RunError> {
        for (i, step) in self.steps.iter().enumerate() {
            let start = times.is_some().then(std::time::Instant::now);
            let mut call = Call::new(self, step, memory);
            step.kernel.run(&mut call)?;
            if let (Some(times), Some(start)) = (&mut times, start) {
                times[i] += start.elapsed();
            }
        }
        let outputs = self.outputs.iter().map(|output| {
            let len = onnxq_tensor::element_count(&output.dims)?;
            let bytes = output.dtype.byte_len(len).unwrap_or(0);
            match output.place {
                Place::Input(i) => Ok(memory.inputs[i].clone()),
                Place::Constant(i) => Ok(self.constants[i].clone()),
                Place::Buffer(b) => {
                    let (offset, _) = self.buffers[b];
                    let data = &memory.pages.bytes()[offset * size_of::<Line>()..][..bytes];
                    let buffer = Buffer::from(bytes::Bytes::copy_from_slice(data));
                    Tensor::new(output.dtype, output.dims.clone(), buffer)
                }
            }
        });
        let outputs: Result<Vec<Tensor>, _> = outputs.collect();
        Ok(outputs.map_err(EvalError::from)?)
    }
}

/// The tensor in memory that kernels can read as its elements.
fn aligned(tensor: &Tensor) -> Tensor {
    let size = tensor.dtype().bits().div_ceil(8).max(1);
    if tensor.bytes().as_ptr().align_offset(size) == 0 {
        return tensor.clone();
    }
    let words: Vec<u64> = {
        let mut words = vec![0u64; tensor.bytes().len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..tensor.bytes().len()]
            .copy_from_slice(tensor.bytes());
        words
    };
    let buffer = Buffer::from_vec(words).slice(0..tensor.bytes().len());
    Tensor::new(tensor.dtype(), tensor.dims(), buffer).unwrap_or_else(|_| tensor.clone())
}
