//! Programs as source text: what an emitter prints.
//!
//! A kernel writes itself ([`Kernel::write`](super::steps::Kernel::write)) beside the function that
//! runs it, as statements that call the same functions of `onnxq-kernels` with every size, stride
//! and factor as a literal. What is longer than a line goes to one block of constants, in the
//! order in which the steps read it.

mod code;
mod expr;
mod kernels;

use onnxq_tensor::{DType, Dims};

pub(super) use self::{
    code::{Code, Element, Written, unwritten},
    expr::{Expr, record},
};
use super::{Program, Step};

/// A program as source text, see the [module](self).
#[derive(Clone, Debug)]
pub struct ProgramSource {
    /// The steps, in order.
    pub steps: Vec<StepSource>,
    /// What the steps take.
    pub inputs: Vec<Port>,
    /// What they give, and where it is after the last of them.
    pub outputs: Vec<(Port, Location)>,
    /// Constants that are no literals: each begins at a multiple of 64 bytes; numbers are little-endian.
    pub constants: Vec<u8>,
    /// Lines of 64 bytes that activations live in.
    pub arena: usize,
    /// Lines that steps use for themselves.
    pub scratch: usize,
}

/// An input or an output.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Its dimensions.
    pub dims: Dims,
}

/// One step: a function.
#[derive(Clone, Debug)]
pub struct StepSource {
    /// The name of the first node it computes.
    pub name: String,
    /// What computes it.
    pub kernel: String,
    /// Multiplications and additions of integers, counted apart.
    pub operations: u64,
    /// What it is called with, after the processor and the constants.
    pub parameters: Vec<Parameter>,
    /// Whether it needs to know the processor, the constants, and scratch memory.
    pub needs: Needs,
    /// What it changes, if it does nothing but to make codes of floats or floats of codes.
    pub change: Option<Change>,
    /// Whether data can make it fail: it returns a `Result` then.
    pub fallible: bool,
    /// Its statements, indented by four columns.
    pub body: String,
}

/// A change between floats and codes, which stand for `(code - zero) · scale`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Change {
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero: i32,
    /// Whether codes are `i8`.
    pub signed: bool,
    /// Whether floats become codes.
    pub quantizes: bool,
    /// Whether codes have axis 1 last, where floats have not.
    pub channels_last: bool,
}

/// What a step needs besides its operands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// A `cpu: Cpu`.
    pub cpu: bool,
    /// The `constants: &Constants`.
    pub constants: bool,
    /// `scratch: &mut [Line]`.
    pub scratch: bool,
}

/// A parameter of a step: a slice.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: &'static str,
    /// Whether it is written.
    pub mutable: bool,
    /// Where it is.
    pub location: Location,
}

/// Where a tensor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// An input, by number.
    Input(usize),
    /// Bytes of the constants: where they begin, and how many.
    Constant(usize, usize),
    /// Lines of the arena: where they begin, and how many.
    Arena(usize, usize),
}

/// A step that has no form as source text.
#[derive(Clone, Debug)]
pub struct Unwritten {
    /// The name of the first node it computes.
    pub node: String,
    /// What computes it.
    pub kernel: String,
    /// Why.
    pub reason: String,
}

impl Program {
    /// The program as source text.
    ///
    /// # Errors
    /// Every step that has no such form.
    pub fn source(&self) -> Result<ProgramSource, Vec<Unwritten>> {
        let mut pool = code::Pool::new(self.constants.len());
        let (mut steps, mut unwritten) = (Vec::new(), Vec::new());
        for step in &self.steps {
            match self.write(step, &mut pool) {
                Ok(source) => steps.push(source),
                Err(e) => unwritten.push(e),
            }
        }
        if !unwritten.is_empty() {
            return Err(unwritten);
        }
        let outputs = self.outputs.iter().zip(&self.model.graph.outputs);
        let outputs = outputs.map(|(output, described)| {
            let port = Port {
                name: described.name.clone(),
                dtype: output.dtype,
                dims: output.dims.clone(),
            };
            (port, pool.location(self, output.place))
        });
        let outputs = outputs.collect();
        let inputs = self.inputs.iter().map(|input| input.port.clone());
        Ok(ProgramSource {
            steps,
            inputs: inputs.collect(),
            outputs,
            constants: pool.bytes,
            arena: self.arena,
            scratch: self.scratch,
        })
    }

    fn write(&self, step: &Step, pool: &mut code::Pool) -> Result<StepSource, Unwritten> {
        // The name without the tier that this program runs on.
        let kernel = step.kernel.name(onnxq_kernels::Cpu::PORTABLE);
        let kernel = kernel.trim_end_matches(" portable").to_owned();
        let mut code = Code::new(self, step, pool);
        match step.kernel.write(&mut code) {
            Ok(()) => Ok(code.finish(step.name.clone(), kernel, step.kernel.operations())),
            Err(reason) => Err(Unwritten {
                node: step.name.clone(),
                kernel,
                reason: reason.0,
            }),
        }
    }
}
