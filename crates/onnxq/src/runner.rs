//! [`Runner`]: a model on samples of any shapes.
//!
//! Each set of shapes has its [`Program`], compiled when the first such sample comes. Where there is
//! none, above all because a shape depends on data, the [`Plan`] that needs no shapes runs the
//! sample.
//!
//! *Invariant*: which of the two runs a sample depends on the model and on the sample's shapes
//! alone, and so do the results: not on threads, tiers, or the samples before.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use indexmap::IndexMap;
use onnxq_ir::Model;
use onnxq_runtime::{Cpu, Memory, Plan, Program, Workspace};
use onnxq_tensor::{Dims, Tensor};

use crate::{CompileOptions, Error, compile};

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

type Compiled = Result<Arc<Program>, Arc<Error>>;

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
            Ok(program) => program.run(&mut scratch.memory, inputs)?,
            Err(_) => {
                let plan = self.plan()?;
                plan.run(&mut scratch.workspace, inputs, &mut |_, _, _| {})?
            }
        };
        lock(&self.idle).push(scratch);
        Ok(outputs)
    }

    /// The program for samples of these shapes.
    ///
    /// # Errors
    /// Why there is none.
    pub fn program(&self, inputs: &[Option<Tensor>]) -> Result<Arc<Program>, Arc<Error>> {
        let dims = |tensor: &Option<Tensor>| tensor.as_ref().map(|t| t.dims().into());
        let entry = self.entry(inputs.iter().map(dims).collect());
        // Whoever wants the same program meanwhile waits for it, and nobody else.
        let compiled = entry.get_or_init(|| self.compile(inputs));
        compiled.clone()
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

    fn compile(&self, inputs: &[Option<Tensor>]) -> Compiled {
        let graph = &self.model.graph;
        let mut shapes = IndexMap::new();
        for (&n, tensor) in graph.inputs().iter().zip(inputs) {
            if let Some(tensor) = tensor {
                let name = graph.value(graph.result(n, 0)).name.clone();
                shapes.insert(name, tensor.dims().to_vec());
            }
        }
        let options = CompileOptions {
            shapes,
            cpu: self.cpu,
            threads: self.threads,
        };
        compile(self.model, &options)
            .map(Arc::new)
            .map_err(Arc::new)
    }
}

/// No thread panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
