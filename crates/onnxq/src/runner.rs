//! [`Runner`]: a model on samples of any shapes.
//!
//! Each set of shapes has its [`Program`], compiled when the first such sample comes. Where there is
//! none, because a shape depends on data or the model is one of floats ([`NoProgram`]), the [`Plan`]
//! that needs no shapes runs the sample.
//!
//! *Invariant*: which of the two runs a sample depends on the model and on the sample's shapes
//! alone, and so do the results: not on threads, tiers, or the samples before.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, NodeId};
use onnxq_runtime::{Cpu, Memory, Plan, Program, Workspace};
use onnxq_tensor::{Dims, Tensor};

use crate::{CompileOptions, Error, compile, data::Sample};

/// Programs that are kept. Each has its own packed weights.
const KEPT: usize = 4;

/// Runs a model on samples of any shapes, see the [module](self). Threads may share it.
///
/// ```
/// use onnxq::{Cpu, Runner, tensor::Tensor};
///
/// let model = onnxq::parse("main (float[N] x) => (float[N] y) { y = Relu (x) }")?;
/// let runner = Runner::new(&model, Cpu::detect(), 1);
/// for sample in [vec![-1.0f32, 2.0], vec![3.0]] {
///     let y = runner.run(&[Some(Tensor::vector(sample))])?;
///     assert!(y[0].to_f32s().unwrap().iter().all(|&y| y >= 0.0));
/// }
/// # Ok::<(), onnxq::Error>(())
/// ```
pub struct Runner<'m> {
    model: &'m Model,
    cpu: Cpu,
    threads: usize,
    /// Those used last at the end.
    programs: Mutex<Vec<(Shapes, Arc<OnceLock<Compiled>>)>>,
    plan: OnceLock<Plan<'m>>,
    /// As many as runs have been at work at once.
    idle: Mutex<Vec<Scratch>>,
}

/// The dimensions of each input that is given.
type Shapes = Vec<Option<Dims>>;

type Compiled = Result<Arc<Prepared>, Arc<NoProgram>>;

/// Why a sample is run by the [`Plan`].
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NoProgram {
    #[error("it has no operators on codes")]
    Float,
    #[error("input '{0}' has a default, which passes may have folded")]
    Default(String),
    #[error(transparent)]
    Compile(#[from] Error),
}

/// A program, and where among the inputs of the model each of its own is: passes drop those that
/// nobody needs.
struct Prepared {
    program: Arc<Program>,
    places: Vec<usize>,
}

#[derive(Default)]
struct Scratch {
    memory: Memory,
    workspace: Workspace,
}

impl<'m> Runner<'m> {
    /// A runner of `model` with the instructions of `cpu`; each run is spread over `threads`.
    pub fn new(model: &'m Model, cpu: Cpu, threads: usize) -> Runner<'m> {
        Runner {
            model,
            cpu,
            threads,
            programs: Mutex::default(),
            plan: OnceLock::new(),
            idle: Mutex::default(),
        }
    }

    /// The outputs for one sample: a tensor for each input, in the order of the graph; one that
    /// has a default may be `None`.
    ///
    /// # Errors
    /// An input that is missing or does not fit; a node that fails, by name.
    pub fn run(&self, inputs: &[Option<Tensor>]) -> Result<Vec<Tensor>, Error> {
        let mut scratch = lock(&self.idle).pop().unwrap_or_default();
        let outputs = match self.program(inputs) {
            Ok((program, inputs)) => program.run(&mut scratch.memory, &inputs)?,
            Err(_) => {
                let plan = self.plan()?;
                plan.run(&mut scratch.workspace, inputs, &mut |_, _, _| {})?
            }
        };
        lock(&self.idle).push(scratch);
        Ok(outputs)
    }

    /// The program for samples of these shapes, and the inputs in its order.
    ///
    /// # Errors
    /// Why there is none.
    pub fn program(
        &self,
        inputs: &[Option<Tensor>],
    ) -> Result<(Arc<Program>, Sample), Arc<NoProgram>> {
        let dims = |tensor: &Option<Tensor>| tensor.as_ref().map(|t| t.dims().into());
        let entry = self.entry(inputs.iter().map(dims).collect());
        // Whoever wants the same program meanwhile waits for it, and nobody else.
        let compiled = entry.get_or_init(|| self.compile(inputs).map_err(Arc::new));
        let Prepared { program, places } = &**compiled.as_ref().map_err(Arc::clone)?;
        let input = |&place: &usize| inputs.get(place).cloned().flatten();
        Ok((program.clone(), places.iter().map(input).collect()))
    }

    /// The plan for samples of all shapes.
    ///
    /// # Errors
    /// The model has constants that cannot be evaluated.
    pub fn plan(&self) -> Result<&Plan<'m>, Error> {
        match self.plan.get() {
            Some(plan) => Ok(plan),
            None => {
                let plan = Plan::new(self.model)?;
                Ok(self.plan.get_or_init(|| plan))
            }
        }
    }

    fn entry(&self, shapes: Shapes) -> Arc<OnceLock<Compiled>> {
        let mut programs = lock(&self.programs);
        let found = programs.iter().position(|(known, _)| *known == shapes);
        let entry = match found {
            Some(at) => programs.remove(at),
            None => (shapes, Arc::default()),
        };
        let compiled = entry.1.clone();
        programs.push(entry);
        if programs.len() > KEPT {
            programs.remove(0);
        }
        compiled
    }

    fn compile(&self, inputs: &[Option<Tensor>]) -> Result<Arc<Prepared>, NoProgram> {
        let graph = &self.model.graph;
        if !works_on_codes(graph) {
            return Err(NoProgram::Float);
        }
        let mut shapes = IndexMap::new();
        for (&n, tensor) in graph.inputs().iter().zip(inputs) {
            let Some(tensor) = tensor else { continue };
            let name = input_name(graph, n);
            if !graph.node(n).is_input() {
                return Err(NoProgram::Default(name.to_owned()));
            }
            shapes.insert(name.to_owned(), tensor.dims().to_vec());
        }
        let options = CompileOptions {
            shapes,
            cpu: self.cpu,
            threads: self.threads,
        };
        let program = Arc::new(compile(self.model, &options)?);
        let own = &program.model().graph;
        let place = |&n: &NodeId| {
            let name = input_name(own, n);
            let mut inputs = graph.inputs().iter();
            let place = inputs.position(|&n| input_name(graph, n) == name);
            // Of an input that passes have made up, which none does.
            place.unwrap_or(usize::MAX)
        };
        let places = own.inputs().iter().map(place).collect();
        Ok(Arc::new(Prepared { program, places }))
    }
}

fn input_name(graph: &Graph, n: NodeId) -> &str {
    &graph.value(graph.result(n, 0)).name
}

/// Whether any operator quantizes, or takes codes. The kernels of the plan, which see shapes late
/// and fuse more, are faster with floats alone.
fn works_on_codes(graph: &Graph) -> bool {
    graph.node_ids().any(|n| {
        graph.op(n).is_some_and(|op| {
            let name = &op.op_type;
            name.contains("Quantize") || name.contains("Integer") || name.starts_with('Q')
        })
    })
}

/// No thread panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
