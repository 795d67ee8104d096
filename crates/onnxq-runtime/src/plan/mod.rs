//! [`Plan`]: a model lowered to steps, to be run many times.
//!
//! A step is one or more nodes that run as one. Where there is a [`Kernel`] for them, it computes
//! the results in memory from a pool; where there is none, or it declines what it is given (another
//! element type, dimensions that do not fit), the reference evaluates the nodes. A plan therefore
//! runs every model the reference does, and fails with its messages.
//!
//! Kernels see the dimensions of their operands when they run. One plan serves samples of every
//! shape, and tensors whose shape depends on data are nothing special.
//!
//! *Invariants*: results do not depend on threads or on what ran before in the same
//! [`Workspace`]; no value that observers want is fused away.

mod buffers;
mod data;
mod kernels;
mod lower;
mod steps;

use std::cell::RefCell;

use onnxq_ir::{Graph, Model, NodeId, Op, ValueId, def::ValueDef};
use onnxq_ops::{
    EvalError, Value,
    interpret::{Interpreter, at_node},
};
use onnxq_tensor::{DType, Tensor};
use smallvec::SmallVec;

pub use self::data::View;
pub(crate) use self::{
    buffers::Pool,
    data::{Data, Floats},
    kernels::{binary, gemm, stencil::Window2},
    steps::{Epilogue, Kernel, Known, NodeContext, conv::Window, kernel},
};
use crate::{RunError, executor::check_inputs};

/// Which values observers want.
type Wanted<'m> = dyn Fn(&Graph, ValueId) -> bool + Send + Sync + 'm;

/// Sees a value when it is produced.
type Observe<'o> = dyn FnMut(&Graph, ValueId, &View<'_>) + 'o;

/// A model lowered to steps, see the [module](self). Threads may share it.
pub struct Plan<'m> {
    model: &'m Model,
    steps: Vec<Step<'m>>,
    /// How many slots values need.
    slots: usize,
    constants: Vec<Data>,
    inputs: Vec<Input>,
    outputs: Vec<(Option<Source>, &'m ValueDef)>,
    wanted: Box<Wanted<'m>>,
}

/// An input of the graph.
struct Input {
    value: ValueId,
    slot: usize,
    /// What it is where the caller gives nothing.
    default: Option<Data>,
    observed: bool,
    used: bool,
}

/// Where an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Constant(usize),
    Slot(usize),
}

/// Nodes that run as one.
struct Step<'m> {
    /// In the order in which the reference evaluates them.
    calls: SmallVec<[Call<'m>; 1]>,
    kernel: Option<Box<dyn Kernel>>,
    /// What comes from outside of the step; whether this is the last use.
    operands: SmallVec<[Option<(Source, bool)>; 4]>,
    /// The results of the last call.
    results: SmallVec<[Made; 1]>,
}

/// One node of a step.
struct Call<'m> {
    node: NodeId,
    op: &'m Op,
    operands: SmallVec<[Option<Operand>; 4]>,
    results: usize,
}

/// An operand of a call.
#[derive(Clone, Copy, Debug)]
enum Operand {
    /// By index among those of the step.
    Outside(usize),
    /// Call and result within the step.
    Inside(usize, usize),
}

/// A result of a step.
struct Made {
    value: ValueId,
    slot: usize,
    observed: bool,
    used: bool,
}

/// Memory to run a plan in: reused from run to run, one for each thread.
#[derive(Default)]
pub struct Workspace {
    pool: Pool,
    values: Vec<Option<Data>>,
    by_reference: usize,
}

impl Workspace {
    /// An empty workspace. It may serve any plan.
    pub fn new() -> Workspace {
        Workspace::default()
    }

    /// How many steps of the last run the reference evaluated, having no kernel for them.
    pub fn by_reference(&self) -> usize {
        self.by_reference
    }
}

impl<'m> Plan<'m> {
    /// A plan for `model`.
    ///
    /// # Errors
    /// The model has constants that cannot be evaluated.
    pub fn new(model: &'m Model) -> Result<Plan<'m>, RunError> {
        Plan::observing(model, |_, _| false)
    }

    /// A plan that produces every value that `wanted` holds for, so that it can be observed:
    /// inputs and results of nodes, in the main graph and in regions. Constants are never
    /// observed.
    ///
    /// # Errors
    /// As [`new`](Plan::new).
    pub fn observing(
        model: &'m Model,
        wanted: impl Fn(&Graph, ValueId) -> bool + Send + Sync + 'm,
    ) -> Result<Plan<'m>, RunError> {
        Ok(lower::plan(model, Box::new(wanted))?)
    }

    /// The outputs for one sample: a tensor for each input, in the order of the graph; one that
    /// has a default may be `None`. `observe` is called for every wanted value of every tensor
    /// type as it is produced, with the graph that it is in; in the body of a loop, each time.
    ///
    /// # Errors
    /// An input that is missing or does not fit; a node that fails, by name.
    pub fn run(
        &self,
        workspace: &mut Workspace,
        inputs: &[Option<Tensor>],
        observe: &mut Observe<'_>,
    ) -> Result<Vec<Tensor>, RunError> {
        check_inputs(&self.model.graph, inputs)?;
        workspace.values.clear();
        workspace.values.resize(self.slots, None);
        workspace.by_reference = 0;
        let outputs = self.run_steps(workspace, inputs, observe);
        for value in workspace.values.drain(..).flatten() {
            workspace.pool.end(value);
        }
        outputs
    }

    fn run_steps(
        &self,
        workspace: &mut Workspace,
        inputs: &[Option<Tensor>],
        observe: &mut Observe<'_>,
    ) -> Result<Vec<Tensor>, RunError> {
        let graph = &self.model.graph;
        let Workspace {
            pool,
            values,
            by_reference,
        } = workspace;
        for (input, given) in self.inputs.iter().zip(inputs) {
            let data = match given {
                Some(tensor) => Some(from_outside(tensor, pool)),
                None => input.default.clone(),
            };
            if input.observed
                && let Some(view) = data.as_ref().and_then(Data::view)
            {
                observe(graph, input.value, &view);
            }
            values[input.slot] = data.filter(|_| input.used);
        }
        for step in &self.steps {
            let mut operands = self.operands(step, values);
            let made = match &step.kernel {
                Some(kernel) => kernel.run(&mut operands, pool),
                None => None,
            };
            let results = match made {
                Some(made) => SmallVec::from_iter([Data::Floats(made)]),
                None => {
                    *by_reference += 1;
                    self.evaluate(step, &operands, observe)?
                }
            };
            for operand in operands.into_iter().flatten() {
                pool.end(operand);
            }
            for (made, data) in step.results.iter().zip(results) {
                if made.observed
                    && let Some(view) = data.view()
                {
                    observe(graph, made.value, &view);
                }
                match made.used {
                    true => values[made.slot] = Some(data),
                    false => pool.end(data),
                }
            }
        }
        self.outputs
            .iter()
            .map(|&(source, output)| {
                let data = match source {
                    Some(Source::Constant(i)) => self.constants.get(i),
                    Some(Source::Slot(i)) => values[i].as_ref(),
                    None => None,
                };
                let missing = || RunError::Output(output.name.clone());
                let data = data.ok_or_else(missing)?;
                match data.view().ok_or_else(missing)?.to_tensor() {
                    Ok(tensor) => Ok(tensor),
                    Err(e) => Err(EvalError::from(e).into()),
                }
            })
            .collect()
    }

    /// The operands of a step. Values that end here are handed over, so that a kernel may overwrite
    /// them.
    fn operands(
        &self,
        step: &Step<'_>,
        values: &mut [Option<Data>],
    ) -> SmallVec<[Option<Data>; 4]> {
        let operand = |operand: &Option<(Source, bool)>| match *operand {
            None => None,
            Some((Source::Constant(i), _)) => self.constants.get(i).cloned(),
            Some((Source::Slot(i), true)) => values[i].take(),
            Some((Source::Slot(i), false)) => values[i].clone(),
        };
        step.operands.iter().map(operand).collect()
    }

    /// The results of a step by the reference.
    fn evaluate(
        &self,
        step: &Step<'_>,
        outside: &[Option<Data>],
        observe: &mut Observe<'_>,
    ) -> Result<SmallVec<[Data; 1]>, EvalError> {
        let observe = RefCell::new(observe);
        let in_region = |graph: &Graph, v: ValueId, value: &Value| {
            if let Some(tensor) = value.as_tensor()
                && !graph.node(v.node).is_constant()
                && (self.wanted)(graph, v)
            {
                (observe.borrow_mut())(graph, v, &View::of(tensor));
            }
        };
        let interpreter = Interpreter::new(self.model).observed_in_regions(&in_region);
        let mut inside: Vec<Vec<Value>> = Vec::new();
        for call in &step.calls {
            let operands = call
                .operands
                .iter()
                .map(|operand| match *operand {
                    None => Ok(None),
                    Some(Operand::Outside(i)) => {
                        let data = outside.get(i).and_then(Option::as_ref);
                        data.map(Data::value).transpose()
                    }
                    Some(Operand::Inside(call, result)) => {
                        Ok(inside.get(call).and_then(|r| r.get(result)).cloned())
                    }
                })
                .collect::<Result<Vec<_>, _>>()?;
            let node = self.model.graph.node(call.node);
            let results = interpreter.run_node(call.op, &operands, call.results);
            inside.push(results.map_err(|e| at_node(node, e))?);
        }
        let last = inside.pop().unwrap_or_default();
        let results = last.into_iter().map(|value| moved(value, step, outside));
        Ok(results.collect())
    }
}

/// A result of the reference. Where all the step does is to give its operand other dimensions, it
/// stays in the memory of the operand.
fn moved(value: Value, step: &Step<'_>, outside: &[Option<Data>]) -> Data {
    if let Value::Tensor(tensor) = &value
        && tensor.dtype() == DType::F32
        && let [call] = &step.calls[..]
        && lower::is_view(call.op)
        && let Some(Some(Data::Floats(operand))) = outside.first()
        && operand.elements().len() == tensor.len()
    {
        return Data::Floats(Floats {
            data: operand.data.clone(),
            dims: tensor.dims().into(),
        });
    }
    Data::Value(value)
}

/// A tensor of the caller. Floats that are not aligned, as in files, are copied.
fn from_outside(tensor: &Tensor, pool: &mut Pool) -> Data {
    let data = Data::Value(Value::Tensor(tensor.clone()));
    if tensor.dtype() != DType::F32 || data.floats().is_some() {
        return data;
    }
    let Some(mut memory) = pool.take(tensor.len()) else {
        return data;
    };
    let bytes = bytemuck::cast_slice_mut(&mut memory[..tensor.len()]);
    bytes.copy_from_slice(tensor.bytes());
    Data::Floats(Floats::new(memory, tensor.dims().into()))
}
