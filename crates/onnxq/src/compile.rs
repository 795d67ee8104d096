//! [`compile`]: from a model, quantized or not, to a [`Program`] for given shapes.

use std::sync::Arc;

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, Type, ValueId};
use onnxq_runtime::{Cpu, Program, ProgramOptions};
use onnxq_tensor::Dim;

use crate::{Error, Session};

/// What a model goes through before it is lowered: it is made plain, and what is left of QDQ becomes
/// operators on codes.
pub const PIPELINE: &str = "preprocess,fuse{contrib-ops keep-int8}";

/// For what a model is compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Dimensions of inputs, by name. An input that is missing keeps its own, of which all must be
    /// known then.
    pub shapes: IndexMap<String, Vec<usize>>,
    /// The tier of instructions.
    pub cpu: Cpu,
    /// Threads that one run is spread over.
    pub threads: usize,
}

impl Default for CompileOptions {
    /// The model's own shapes, the best tier, one thread.
    fn default() -> CompileOptions {
        CompileOptions {
            shapes: IndexMap::new(),
            cpu: Cpu::detect(),
            threads: 1,
        }
    }
}

/// What is wrong with shapes that a caller gives.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ShapeError {
    #[error("there is no input '{0}'; the inputs are {1}")]
    Input(String, String),
    #[error("input '{input}' is {expected}, not {given:?}")]
    Shape {
        input: String,
        expected: String,
        given: Vec<usize>,
    },
}

/// Compiles a model.
///
/// # Errors
/// Shapes that do not fit the inputs; a tensor whose shape is not known even so; see
/// [`Program::new`].
pub fn compile(model: &Model, options: &CompileOptions) -> Result<Program, Error> {
    let mut model = model.clone();
    bind(&mut model, &options.shapes)?;
    Session::new(PIPELINE).run(&mut model)?;
    let program = ProgramOptions {
        cpu: options.cpu,
        threads: options.threads,
    };
    Ok(Program::new(Arc::new(model), program)?)
}

/// Gives inputs their dimensions, and every symbol in them its value wherever it occurs.
///
/// # Errors
/// There is no such input, or its dimensions are others.
pub fn bind(model: &mut Model, shapes: &IndexMap<String, Vec<usize>>) -> Result<(), ShapeError> {
    let graph = &mut model.graph;
    let mut symbols: IndexMap<String, i64> = IndexMap::new();
    for (name, given) in shapes {
        let named = |&&n: &&_| graph.value(graph.result(n, 0)).name == *name;
        let Some(&n) = graph.inputs().iter().find(named) else {
            let names = graph.inputs().iter();
            let names: Vec<_> = names
                .map(|&n| graph.value(graph.result(n, 0)).name.clone())
                .collect();
            return Err(ShapeError::Input(name.clone(), names.join(", ")));
        };
        let value = graph.result(n, 0);
        let shape = graph.ty(value).and_then(Type::shape).cloned();
        if let Some(shape) = &shape {
            let fits = |(d, &given): (&Dim, &usize)| match (d.as_const(), d.is_symbol()) {
                (Some(d), _) => d == given as i64,
                (None, Some(symbol)) => {
                    let known = *symbols.entry(symbol.to_owned()).or_insert(given as i64);
                    known == given as i64
                }
                (None, None) => true,
            };
            if shape.len() != given.len() || !shape.iter().zip(given).all(fits) {
                let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
                return Err(ShapeError::Shape {
                    input: name.clone(),
                    expected: format!("[{}]", dims.join(", ")),
                    given: given.clone(),
                });
            }
        }
        let dtype = graph.ty(value).and_then(Type::dtype);
        let dims = given.iter().map(|&d| Dim::known(d as i64)).collect();
        let ty = onnxq_ir::TensorType {
            dtype,
            shape: Some(dims),
        };
        graph.set_type(value, Some(Type::Tensor(ty)));
    }
    if !symbols.is_empty() {
        substitute(graph, &symbols);
    }
    Ok(())
}

/// Replaces symbols in the types of a graph by their values.
fn substitute(graph: &mut Graph, symbols: &IndexMap<String, i64>) {
    let value_of = |symbol: &str| symbols.get(symbol).map(|&d| Dim::known(d));
    let bound = |ty: &Type| match ty {
        Type::Tensor(tensor) => {
            let shape = tensor.shape.as_ref();
            let shape = shape.map(|s| s.iter().map(|d| d.substitute(value_of)).collect());
            Type::Tensor(onnxq_ir::TensorType {
                dtype: tensor.dtype,
                shape,
            })
        }
        other => other.clone(),
    };
    let nodes: Vec<_> = graph.node_ids().collect();
    for n in nodes {
        for i in 0..graph.node(n).results.len() {
            let v: ValueId = graph.result(n, i);
            if let Some(ty) = graph.ty(v) {
                let ty = bound(ty);
                graph.set_type(v, Some(ty));
            }
        }
    }
    for output in &mut graph.outputs {
        output.ty = output.ty.as_ref().map(bound);
    }
}
