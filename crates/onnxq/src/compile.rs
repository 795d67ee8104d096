//! [`compile`]: from a model, quantized or not, to a [`Program`] for given shapes.

use std::sync::Arc;

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, NodeId, Op, Type, ValueId};
use onnxq_runtime::{Cpu, Program, ProgramOptions};
use onnxq_tensor::{DType, Dim};

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
    dequantize_products(&mut model.graph);
    let program = ProgramOptions {
        cpu: options.cpu,
        threads: options.threads,
    };
    Ok(Program::new(Arc::new(model), program)?)
}

/// Makes one DequantizeLinear of the Cast and the Mul that other tools put behind integer products.
/// It computes the same: `f32(sum) · scale`.
fn dequantize_products(graph: &mut Graph) {
    for n in graph.order() {
        let Some((product, scale, axis)) = (0..2).find_map(|side| scaled_product(graph, n, side))
        else {
            continue;
        };
        let result = graph.result(n, 0);
        let op = Op::new("DequantizeLinear").with("axis", axis);
        let name = graph.value(result).name.clone();
        let dequantized = graph.insert(op, &[product, scale], format!("{name}_dequantized"));
        let ty = graph.ty(result).cloned();
        graph.set_type(dequantized, ty);
        graph.replace_uses(result, dequantized);
    }
}

/// The sums, the scale and its axis, if `n` multiplies the floats of an integer product, operand
/// `side`, by one scale or by one for each column, and nobody else wants them.
fn scaled_product(graph: &Graph, n: NodeId, side: usize) -> Option<(ValueId, ValueId, i64)> {
    let only = |v: ValueId| graph.sole_use(v).map(|_| v);
    let is = |n: NodeId, op_type: &str| graph.op(n).is_some_and(|op| op.is(op_type));
    let cast = only(graph.operand(n, side).filter(|_| is(n, "Mul"))?)?;
    let float = i64::from(DType::F32.onnx());
    let to_float = graph.op(cast.node)?.int("to", 0) == float;
    let product = only(
        graph
            .operand(cast.node, 0)
            .filter(|_| is(cast.node, "Cast") && to_float)?,
    )?;
    let matrix = is(product.node, "MatMulInteger");
    (matrix || is(product.node, "ConvInteger")).then_some(())?;
    let scale = graph.operand(n, 1 - side)?;
    let dims = graph.ty(product)?.shape()?;
    let axis = dims.len().checked_sub(1)?;
    match graph.ty(scale)?.shape()?.as_slice() {
        [] => {}
        [columns] if matrix && *columns == dims[axis] => {}
        _ => return None,
    }
    Some((product, scale, axis as i64))
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
